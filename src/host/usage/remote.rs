//! What of this host's files lies on others: file systems of the network, and disks that are reached over it.
//!
//! Linux: proc_pid_mountinfo(5); an iSCSI disk stands below a `session` of its host, a disk of NVMe over Fabrics below
//! `nvme-fabrics` or a subsystem without a PCI controller, one of nbd(4) is called after it. Disks are followed down through
//! `slaves/` (device mapper, MD), and only for the places without which a host does not run.

use serde::Serialize;

use super::disks::unescape;
use super::owner;
use crate::host::fact::Fact;
use crate::host::parse;
use crate::host::source::Source;

/// Where a host mounts what it runs from.
pub const SYSTEM_PLACES: [&str; 6] = ["/", "/boot", "/boot/efi", "/efi", "/usr", "/var"];

/// Types of file systems of the network (filesystems(5)).
const NETWORK_TYPES: [&str; 9] =
    ["nfs", "nfs4", "cifs", "smb3", "ceph", "afs", "lustre", "fuse.glusterfs", "fuse.sshfs"];
/// Deepest stack of block devices that is followed.
const MOST_LAYERS: usize = 8;

/// A part of the file tree that comes over the network.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct RemoteMount {
    /// Where it is mounted.
    pub at: String,
    /// By what it comes: a type of file systems, or `iSCSI`, `NVMe over Fabrics`, `NBD`.
    pub by: String,
}

/// Reads it.
pub(in crate::host) fn collect(source: &dyn Source) -> Fact<Vec<RemoteMount>> {
    let text = match source.text("/proc/self/mountinfo") {
        Fact::NotPresent => source.text("/proc/1/mountinfo"),
        text => text,
    };
    parse::required(text, "/proc/self/mountinfo").map(|text| {
        let mut found: Vec<_> = text.lines().filter_map(|line| remote(source, line)).collect();
        found.sort_unstable();
        found.dedup();
        found
    })
}

fn remote(source: &dyn Source, line: &str) -> Option<RemoteMount> {
    let (front, back) = line.split_once(" - ")?;
    let mut front = front.split(' ').skip(2);
    let (number, at) = (front.next()?, unescape(front.nth(1)?));
    let kind = back.split(' ').next()?;
    let by = if NETWORK_TYPES.contains(&kind) {
        kind.to_owned()
    } else if SYSTEM_PLACES.contains(&at.as_str()) {
        transport(source, &format!("/sys/dev/block/{number}"), MOST_LAYERS)?.to_owned()
    } else {
        return None;
    };
    Some(RemoteMount { at, by })
}

/// How the block device behind the link `at` is reached, if that is over the network.
fn transport(source: &dyn Source, at: &str, layers: usize) -> Option<&'static str> {
    let path = source.link(at).known().cloned()?;
    let has = |part: &str| path.split('/').any(|name| name.starts_with(part));
    if has("session") && has("target") {
        return Some("iSCSI");
    }
    if has("nvme-fabrics") || (has("nvme-subsystem") && !has_pci_controller(source, &path)) {
        return Some("NVMe over Fabrics");
    }
    let name = path.rsplit('/').next()?;
    if name.starts_with("nbd") {
        return Some("NBD");
    }
    let slaves = source.list(&format!("/sys/class/block/{name}/slaves"));
    let below = layers.checked_sub(1)?;
    slaves.known()?.iter().find_map(|slave| transport(source, &format!("/sys/class/block/{slave}"), below))
}

/// Whether the subsystem in `path` has a controller that is a PCI function.
fn has_pci_controller(source: &dyn Source, path: &str) -> bool {
    let subsystem = path.split("/nvme-subsystem/").nth(1).and_then(|rest| rest.split('/').next());
    let controllers = source.list(&format!("/sys/class/nvme-subsystem/{}", subsystem.unwrap_or_default()));
    controllers.known().into_iter().flatten().any(|name| {
        source.link(&format!("/sys/class/nvme/{name}")).known().is_some_and(|target| owner(target).is_some())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::source::TreeSource;
    use crate::host::source::fake::memory_dir;

    fn mounts(mountinfo: &str, links: &[(&str, &str)], slaves: &[&str]) -> Vec<(String, String)> {
        let root = memory_dir();
        let at = |path: &str| root.path().join(path);
        std::fs::create_dir_all(at("proc/self")).unwrap();
        std::fs::write(at("proc/self/mountinfo"), mountinfo).unwrap();
        for (path, target) in links {
            std::fs::create_dir_all(at(path).parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(target, at(path)).unwrap();
        }
        for path in slaves {
            std::fs::create_dir_all(at(path)).unwrap();
        }
        let found = collect(&TreeSource::open(root.path()).unwrap());
        found.known().unwrap().iter().map(|mount| (mount.at.clone(), mount.by.clone())).collect()
    }

    fn one(at: &str, by: &str) -> Vec<(String, String)> {
        vec![(at.to_owned(), by.to_owned())]
    }

    #[test]
    fn file_systems_of_the_network_are_found_wherever_they_are() {
        let text = "1 0 0:22 / / rw - nfs4 host:/x rw\n2 1 0:23 / /a\\040b rw - cifs //x rw\n3 1 0:5 / /proc rw - proc proc rw";
        let expected: Vec<_> = [one("/", "nfs4"), one("/a b", "cifs")].concat();
        assert_eq!(mounts(text, &[], &[]), expected);
    }

    #[test]
    fn a_root_on_a_remote_disk_is_found_below_what_is_built_on_it() {
        let root = "1 0 253:0 / / rw - ext4 /dev/mapper/root rw";
        let mapped = ("sys/dev/block/253:0", "../../devices/virtual/block/dm-0");
        let slave = "sys/devices/virtual/block/dm-0/slaves/sda1";
        let class = ("sys/class/block/dm-0", "../../devices/virtual/block/dm-0");
        for (target, expected) in [
            ("../../devices/platform/host6/session1/target6:0:0/6:0:0:0/block/sda/sda1", one("/", "iSCSI")),
            ("../../devices/virtual/nvme-fabrics/ctl/nvme0/nvme0n1", one("/", "NVMe over Fabrics")),
            ("../../devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1", one("/", "NVMe over Fabrics")),
            ("../../devices/virtual/block/nbd0", one("/", "NBD")),
            ("../../devices/pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0/block/sda/sda1", vec![]),
        ] {
            let links = [mapped, class, ("sys/class/block/sda1", target)];
            assert_eq!(mounts(root, &links, &[slave]), expected, "{target}");
        }
    }

    #[test]
    fn a_subsystem_with_a_pci_controller_is_a_local_disk() {
        let found = mounts(
            "1 0 259:1 / / rw - ext4 /dev/nvme0n1p1 rw",
            &[
                (
                    "sys/dev/block/259:1",
                    "../../devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1/nvme0n1p1",
                ),
                ("sys/class/nvme/nvme0", "../../devices/pci0000:00/0000:00:03.0/nvme/nvme0"),
            ],
            &["sys/class/nvme-subsystem/nvme-subsys0/nvme0"],
        );
        assert_eq!(found, []);
    }
}
