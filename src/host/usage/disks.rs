//! Disks below functions, and what uses them: mounts, swap, what is built on them, who holds them open.
//!
//! Linux: Documentation/ABI/stable/sysfs-block, proc_pid_mountinfo(5), swapon(8). Uses are followed from a disk to its
//! partitions and up through `holders/` (device mapper, MD, bcache), so a mount on LVM on MD on a partition counts for
//! the disk. ZFS and btrfs do not show in `holders/`; their members are known by the signature that udev noted and by
//! what the file systems tell about themselves.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::owner;
use super::processes::{OpenFiles, Process};
use crate::host::fact::Fact;
use crate::host::parse;
use crate::host::source::Source;
use crate::spec::pci::PciAddress;

const CLASS: &str = "/sys/class/block";

/// A disk below a function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Disk {
    /// Name of the block device.
    pub name: String,
    /// Size in bytes.
    pub size_bytes: Fact<u64>,
    /// Its partitions.
    pub partitions: Vec<String>,
    /// Signatures that udev found on the disk and its partitions (`ext4`, `LVM2_member`); what udev did not look at is
    /// missing here.
    pub signatures: BTreeMap<String, String>,
    /// Partitions from which firmware starts the system (EFI system partitions), as udev found them.
    pub efi_system_partitions: Vec<String>,
    /// Lines of `/etc/fstab` that name the disk or a partition of it: what the next boot mounts. Unknown if that file or
    /// what udev found may not be read.
    pub fstab: Fact<Vec<FstabEntry>>,
    /// What uses the disk. Empty is an answer; unknown if mounts or swap could not be read.
    pub uses: Fact<Vec<BlockUse>>,
}

/// A line of `/etc/fstab` (fstab(5)).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct FstabEntry {
    /// The block device that it names.
    pub device: String,
    /// Where it is mounted; `none` for swap.
    pub at: String,
}

/// One use of a block device. `device` is the disk, a partition, or what is built on one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum BlockUse {
    /// A file system on it is mounted.
    Mounted {
        /// The block device.
        device: String,
        /// Where.
        at: String,
    },
    /// It is active swap.
    Swap {
        /// The block device.
        device: String,
    },
    /// A hibernated host would wake up from it.
    Resume {
        /// The block device.
        device: String,
    },
    /// Another block device is built on it (device mapper, MD, bcache, multipath).
    Held {
        /// The block device.
        device: String,
        /// The one above it.
        by: String,
    },
    /// It is a member of a file system over several devices that is in use.
    Member {
        /// The block device.
        device: String,
        /// `btrfs` or `zfs_member`, and which one.
        of: String,
    },
    /// A process holds it open.
    Open {
        /// The block device.
        device: String,
        /// The process.
        process: Process,
    },
}

/// Disks by the function that each belongs to. A namespace of multipath NVMe belongs to every controller of its
/// subsystem.
pub(super) fn collect(source: &dyn Source, open_files: &OpenFiles) -> Fact<BTreeMap<PciAddress, Vec<Disk>>> {
    super::super::list_or_empty(source, CLASS, "/sys/class").map(|names| {
        let links: BTreeMap<String, String> =
            names.into_iter().filter_map(|name| Some((name.clone(), path_of(source, &name)?))).collect();
        let host = BlockHost::new(source, open_files, &links);
        let mut found = BTreeMap::<_, Vec<_>>::new();
        for (name, path) in &links {
            let owners = owners(source, path);
            if owners.is_empty() || is_partition(name, path, &links) || is_hidden_path(name) {
                continue;
            }
            let disk = host.disk(name);
            for owner in owners {
                found.entry(owner).or_default().push(disk.clone());
            }
        }
        found
    })
}

/// Where block device `name` stands in the device tree: its own link's target, or its `device` link's and its name.
fn path_of(source: &dyn Source, name: &str) -> Option<String> {
    let own = source.link(&format!("{CLASS}/{name}"));
    let behind = || source.link(&format!("{CLASS}/{name}/device")).map(|target| format!("{target}/{name}"));
    own.known().cloned().or_else(|| behind().known().cloned())
}

/// A partition stands directly below its disk, which is a block device too.
fn is_partition(name: &str, path: &str, links: &BTreeMap<String, String>) -> bool {
    let above = path.rsplit('/').nth(1).unwrap_or_default();
    above != name && links.contains_key(above)
}

/// `nvme0c1n1`: one path of a multipath namespace, which is not a device that anybody opens.
fn is_hidden_path(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("nvme") else { return false };
    let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    rest.strip_prefix('c').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// The functions that a block device at `path` belongs to.
fn owners(source: &dyn Source, path: &str) -> Vec<PciAddress> {
    if let Some(owner) = owner(path) {
        return vec![owner];
    }
    let Some((_, behind)) = path.split_once("/nvme-subsystem/") else { return Vec::new() };
    let subsystem = behind.split('/').next().unwrap_or_default();
    let controllers = source.list(&format!("/sys/class/nvme-subsystem/{subsystem}"));
    let controllers = controllers.known().map_or(&[][..], Vec::as_slice).iter();
    controllers
        .filter_map(|name| {
            source.link(&format!("/sys/class/nvme/{name}")).known().and_then(|target| owner(target))
        })
        .collect()
}

/// What the host as a whole knows about its block devices.
struct BlockHost<'a> {
    source: &'a dyn Source,
    open_files: &'a OpenFiles,
    links: &'a BTreeMap<String, String>,
    /// Mount points by device number and by name below `/dev/`.
    mounts: Fact<BTreeMap<String, BTreeSet<String>>>,
    /// Names below `/dev/` of active swap devices.
    swaps: Fact<BTreeSet<String>>,
    /// Device number that the host hibernates to.
    resume: Option<String>,
    /// Members of mounted btrfs file systems.
    btrfs: BTreeMap<String, String>,
    /// What `/etc/fstab` names, and where it is mounted.
    fstab: Fact<Vec<(String, String)>>,
}

impl<'a> BlockHost<'a> {
    fn new(source: &'a dyn Source, open_files: &'a OpenFiles, links: &'a BTreeMap<String, String>) -> Self {
        Self {
            source,
            open_files,
            links,
            mounts: mounts(source),
            swaps: swaps(source),
            resume: resume(source),
            btrfs: btrfs(source),
            fstab: fstab(source),
        }
    }

    fn disk(&self, name: &str) -> Disk {
        let partitions: Vec<String> = self
            .links
            .iter()
            .filter(|(_, path)| path.rsplit('/').nth(1) == Some(name))
            .map(|(partition, _)| partition.clone())
            .collect();
        let own = || std::iter::once(name).chain(partitions.iter().map(String::as_str));
        let notes: Vec<_> = own().map(|device| (device, self.note(device))).collect();
        let efi_system_partitions = notes
            .iter()
            .filter(|(_, note)| note.value("ID_PART_ENTRY_TYPE=") == Some(EFI_SYSTEM_PARTITION))
            .map(|(device, _)| (*device).to_owned())
            .collect();
        let fstab = self.fstab.as_ref().map(|lines| fstab_of(lines, &notes));
        let mut signatures = BTreeMap::new();
        let mut uses = BTreeSet::new();
        let mut seen = BTreeSet::new();
        let mut next: Vec<String> =
            std::iter::once(name.to_owned()).chain(partitions.iter().cloned()).collect();
        while let Some(device) = next.pop() {
            if seen.insert(device.clone()) {
                next.extend(self.uses_of(&device, &mut uses, &mut signatures));
            }
        }
        let unread = self.mounts.as_ref().map(drop).and_then(|()| self.swaps.as_ref().map(drop));
        let sectors = parse::number::<u64>(self.source, &format!("{CLASS}/{name}/size"), 10);
        Disk {
            name: name.to_owned(),
            size_bytes: sectors.map(|sectors| sectors.saturating_mul(512)),
            partitions,
            signatures,
            efi_system_partitions,
            fstab,
            uses: if unread.is_unread() && uses.is_empty() {
                unread.map(|()| Vec::new())
            } else {
                Fact::Known(uses.into_iter().collect())
            },
        }
    }

    /// Adds the uses of one block device; returns the devices that are built on it.
    fn uses_of(
        &self,
        device: &str,
        uses: &mut BTreeSet<BlockUse>,
        signatures: &mut BTreeMap<String, String>,
    ) -> Vec<String> {
        let named = || device.to_owned();
        let number = self.source.text(&format!("{CLASS}/{device}/dev"));
        // Sysfs writes `!` for a slash in a name (cciss!c0d0).
        let file = device.replace('!', "/");
        let mapped = self.source.text(&format!("{CLASS}/{device}/dm/name"));
        let mapped = mapped.known().map(|name| format!("mapper/{name}"));
        let keys = [number.known().cloned(), Some(file), mapped];
        let keys = || keys.iter().flatten();
        for at in
            self.mounts.known().iter().flat_map(|mounts| keys().filter_map(|key| mounts.get(key))).flatten()
        {
            uses.insert(BlockUse::Mounted { device: named(), at: at.clone() });
        }
        if self.swaps.known().is_some_and(|swaps| keys().any(|key| swaps.contains(key))) {
            uses.insert(BlockUse::Swap { device: named() });
        }
        if self.resume.is_some() && self.resume.as_ref() == number.known() {
            uses.insert(BlockUse::Resume { device: named() });
        }
        if let Some(of) = self.btrfs.get(device) {
            uses.insert(BlockUse::Member { device: named(), of: of.clone() });
        }
        for process in keys().flat_map(|key| self.open_files.holders(key)) {
            uses.insert(BlockUse::Open { device: named(), process: process.clone() });
        }
        if let Some(number) = number.known() {
            let (signature, pool) = self.signature(number);
            if signature.as_deref() == Some("zfs_member")
                && let Some(pool) = pool.filter(|pool| !pool.contains('/'))
                && self.source.list(&format!("/proc/spl/kstat/zfs/{pool}")).known().is_some()
            {
                uses.insert(BlockUse::Member { device: named(), of: format!("zfs pool {pool}") });
            }
            signatures.extend(signature.map(|signature| (named(), signature)));
        }
        let holders =
            self.source.list(&format!("{CLASS}/{device}/holders")).known().cloned().unwrap_or_default();
        uses.extend(holders.iter().map(|by| BlockUse::Held { device: named(), by: by.clone() }));
        holders
    }

    /// File system type and label that udev noted for device number `number` (`8:1`).
    fn signature(&self, number: &str) -> (Option<String>, Option<String>) {
        let note = UdevNote::read(self.source, number);
        let value = |key| note.value(key).map(str::to_owned);
        (value("ID_FS_TYPE="), value("ID_FS_LABEL="))
    }

    /// What udev noted of block device `device`.
    fn note(&self, device: &str) -> UdevNote {
        let number = self.source.text(&format!("{CLASS}/{device}/dev"));
        number.known().map_or(UdevNote(None), |number| UdevNote::read(self.source, number))
    }
}

/// What udev noted of a block device (Linux: systemd, `/run/udev/data`); nothing, if it did not look at it.
struct UdevNote(Option<String>);

impl UdevNote {
    fn read(source: &dyn Source, number: &str) -> Self {
        Self(source.text(&format!("/run/udev/data/b{number}")).known().cloned())
    }

    /// The value behind `key`, which ends with `=`.
    fn value(&self, key: &str) -> Option<&str> {
        self.0.as_ref()?.lines().find_map(|line| line.strip_prefix("E:")?.strip_prefix(key))
    }

    /// Whether `/etc/fstab` means this device by `name`: the name of its file, or one of its tags (fstab(5)).
    fn is_named(&self, device: &str, name: &str) -> bool {
        const TAGS: [(&str, &str); 4] = [
            ("UUID=", "ID_FS_UUID="),
            ("LABEL=", "ID_FS_LABEL="),
            ("PARTUUID=", "ID_PART_ENTRY_UUID="),
            ("PARTLABEL=", "ID_PART_ENTRY_NAME="),
        ];
        if let Some(path) = name.strip_prefix("/dev/") {
            let is_link = |text: &str| text.lines().any(|line| line.strip_prefix("S:") == Some(path));
            return path == device || self.0.as_deref().is_some_and(is_link);
        }
        TAGS.iter().any(|(tag, key)| {
            let wanted = name.strip_prefix(tag).map(|value| value.trim_matches('"'));
            wanted
                .is_some_and(|wanted| self.value(key).is_some_and(|value| value.eq_ignore_ascii_case(wanted)))
        })
    }
}

/// Type of an EFI system partition in a GUID partition table (UEFI 2.10, 5.3.3).
const EFI_SYSTEM_PARTITION: &str = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";

/// First and second fields of `/etc/fstab`. A host without the file mounts nothing by it.
fn fstab(source: &dyn Source) -> Fact<Vec<(String, String)>> {
    match source.text("/etc/fstab") {
        Fact::NotPresent => Fact::Known(Vec::new()),
        text => text.map(|text| {
            let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
            lines
                .filter_map(|line| {
                    let mut words = line.split_ascii_whitespace();
                    Some((unescape(words.next()?), unescape(words.next()?)))
                })
                .collect()
        }),
    }
}

/// The lines that name one of the devices that `notes` are about.
fn fstab_of(lines: &[(String, String)], notes: &[(&str, UdevNote)]) -> Vec<FstabEntry> {
    let mut found: Vec<_> = lines
        .iter()
        .filter_map(|(name, at)| {
            let (device, _) = notes.iter().find(|(device, note)| note.is_named(device, name))?;
            Some(FstabEntry { device: (*device).to_owned(), at: at.clone() })
        })
        .collect();
    found.sort_unstable();
    found
}

/// Mount points of all mounts of this mount namespace, by device number and by source below `/dev/`.
fn mounts(source: &dyn Source) -> Fact<BTreeMap<String, BTreeSet<String>>> {
    let text = match source.text("/proc/self/mountinfo") {
        Fact::NotPresent => source.text("/proc/1/mountinfo"),
        text => text,
    };
    parse::required(text, "/proc/self/mountinfo").map(|text| {
        let mut mounts = BTreeMap::<String, BTreeSet<String>>::new();
        for line in text.lines() {
            let (front, back) = line.split_once(" - ").unwrap_or((line, ""));
            let mut front = front.split(' ').skip(2);
            let (Some(number), Some(_), Some(at)) = (front.next(), front.next(), front.next()) else {
                continue;
            };
            let device = back.split(' ').nth(1).and_then(|device| device.strip_prefix("/dev/"));
            for key in [Some(number), device].into_iter().flatten() {
                mounts.entry(key.to_owned()).or_default().insert(unescape(at));
            }
        }
        mounts
    })
}

/// Active swap devices, by name below `/dev/`.
fn swaps(source: &dyn Source) -> Fact<BTreeSet<String>> {
    parse::required(source.text("/proc/swaps"), "/proc/swaps").map(|text| {
        text.lines()
            .skip(1)
            .filter_map(|line| line.split_ascii_whitespace().next()?.strip_prefix("/dev/"))
            .map(unescape)
            .collect()
    })
}

/// Device number of the block device that the host hibernates to (Linux: Documentation/ABI/testing/sysfs-power,
/// `/sys/power/resume`), which is `0:0` where it does not.
fn resume(source: &dyn Source) -> Option<String> {
    let text = source.text("/sys/power/resume");
    text.known().map(|number| number.trim().to_owned()).filter(|number| !number.is_empty() && number != "0:0")
}

/// Block devices that belong to a btrfs file system which the kernel has open, with its identity.
fn btrfs(source: &dyn Source) -> BTreeMap<String, String> {
    let systems = source.list("/sys/fs/btrfs").known().cloned().unwrap_or_default();
    systems
        .iter()
        .flat_map(|system| {
            let members =
                source.list(&format!("/sys/fs/btrfs/{system}/devices")).known().cloned().unwrap_or_default();
            members.into_iter().map(move |member| (member, format!("btrfs {system}")))
        })
        .collect()
}

/// Undoes the octal escapes of procfs (`\040` is a space).
pub(super) fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let digit = |byte: &u8| byte.is_ascii_digit().then(|| u32::from(byte - b'0'));
        let escaped = match tail {
            [a, b, c, ..] if *first == b'\\' => digit(a)
                .zip(digit(b))
                .zip(digit(c))
                .and_then(|((a, b), c)| u8::try_from(a << 6 | b << 3 | c).ok()),
            _ => None,
        };
        match escaped {
            Some(byte) => {
                bytes.push(byte);
                rest = tail.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
