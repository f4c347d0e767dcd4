# For the scripts beside it, which source this in the root of the project.

# Where administrators' tools live; not everybody's PATH has them.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

# What tests need, each as command:Debian package.
test_needs=(
  strace:strace
  setfacl:acl
  setfattr:attr
  mkfs.ext4:e2fsprogs
  mkfs.xfs:xfsprogs
  mkfs.btrfs:btrfs-progs
  unshare:util-linux
  setpriv:util-linux
  mount:mount
  losetup:mount
  chromium:chromium
  xfs_quota:xfsprogs
  insmod:kmod
  # Places that are no local disk.
  bindfs:bindfs
  ntfs-3g:ntfs-3g
  mkntfs:ntfs-3g
  mount.exfat-fuse:exfat-fuse
  mkfs.exfat:exfatprogs
  mergerfs:mergerfs
  gocryptfs:gocryptfs
  fuse-overlayfs:fuse-overlayfs
  fusermount3:fuse3
  mkfs.vfat:dosfstools
  ip:iproute2
  exportfs:nfs-kernel-server
  mount.nfs4:nfs-common
)
# A Linux with quotas, which not every machine's kernel has.
[[ $(uname -m) != x86_64 ]] || test_needs+=(linux.uml:user-mode-linux)

# Sets `missing` to the packages of those `command:package` whose commands are not here.
find_missing() {
  missing=()
  local need command package
  for need; do
    command=${need%%:*} package=${need#*:}
    if ! type -P "$command" >/dev/null && [[ " ${missing[*]-} " != *" $package "* ]]; then
      missing+=("$package")
    fi
  done
}

install() {
  DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"
}

# Installs what is missing where that is possible: on Debian and its relatives, as root. What is
# still missing then is in `missing`.
provide() {
  find_missing "$@"
  if ((${#missing[@]})) && ((EUID == 0)) && type -P apt-get >/dev/null; then
    echo "== installing ${missing[*]}"
    # The lists may be absent or old: fetch them when the first try fails.
    install "${missing[@]}" || { apt-get update && install "${missing[@]}"; } || true
    find_missing "$@"
  fi
}

# Ends the script: it can't run here. With DURAFILE_REQUIRE_ALL=1 that is a failure.
skip() {
  echo "SKIPPED ${0##*/}: $*" >&2
  [[ ${DURAFILE_REQUIRE_ALL:-} != 1 ]] || exit 1
  exit 0
}

# The standard library for a target of this toolchain.
provide_target() {
  local toolchain=$1 target=$2
  type -P rustup >/dev/null || skip "no rustup, which brings the standard library for $target"
  rustup target add --toolchain "$toolchain" "$target" \
    || skip "the standard library for $target can't be had"
}

# A cargo subcommand from the registry.
provide_tool() {
  type -P "$1" >/dev/null && return
  echo "== installing $1"
  cargo install --locked "$1" || skip "$1 can't be had"
}
