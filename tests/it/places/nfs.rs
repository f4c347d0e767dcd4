//! NFS 4.2, server and client in one kernel: an export, mounted twice for two clients. Then the same
//! with a server that hides all users behind one (`all_squash`).

use super::suite::every_rule;
use super::{Host, Mount, Place};
use crate::support::this_test;

/// Also for what only NFS can show.
pub(crate) const NFS: Place = Place {
    tools: &["exportfs", "rpc.nfsd", "rpc.mountd", "mount.nfs4", "mkfs.ext4", "ip", "strace"],
    kernel: Host::UserMode { disk: 320, modules: &["nfsd", "nfsv4"] },
    script: "
        mount -t tmpfs tmpfs /run; mount -t tmpfs tmpfs /var/lib
        mkdir -p /var/lib/nfs/v4recovery /var/lib/nfs/rpc_pipefs
        touch /var/lib/nfs/etab /var/lib/nfs/rmtab
        ip link set lo up
        mkdir exported mnt mnt2 squashed squashed2
        mkfs.ext4 -q -F -b 4096 $DISK; mount $DISK exported
        mkdir exported/plain exported/squashed
        chown nobody:nogroup exported/squashed
        # A mount, because an export applies to all of a file system that no other mount hides.
        mount --bind exported/squashed exported/squashed
        # Both clients are one to the server, so that it would not take back what it has delegated to the other.
        echo 0 > /proc/sys/fs/leases-enable
        mount -t nfsd nfsd /proc/fs/nfsd
        options=rw,insecure,no_subtree_check
        exportfs -i -o $options,no_root_squash,fsid=0 \"127.0.0.1:$DIR/exported\"
        exportfs -i -o $options,all_squash,fsid=1 \"127.0.0.1:$DIR/exported/squashed\"
        rpc.mountd 2>/dev/null; rpc.nfsd -N 3 4
        # No caches of attributes: these would only hide for a while what the protocol does.
        options=vers=4.2,nosharecache,actimeo=0
        for at in mnt mnt2; do mount.nfs4 127.0.0.1:/plain $at -o $options; done
        for at in squashed squashed2; do mount.nfs4 127.0.0.1:/squashed $at -o $options; done",
    enter: |_| (),
    mounts: &[
        Mount { name: "NFS", first: "mnt", second: "mnt2", server: "exported/plain" },
        Mount {
            name: "NFS, all_squash",
            first: "squashed",
            second: "squashed2",
            server: "exported/squashed",
        },
    ],
};

#[test]
fn nfs() {
    every_rule(&this_test!(), &NFS);
}
