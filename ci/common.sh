# For the scripts beside it, which source this in the root of the project.

# Where administrators' tools live; not everybody's PATH has them.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

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
