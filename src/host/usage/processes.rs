//! Which processes hold VFIO groups and device files, block devices, displays and sound open.
//!
//! Linux: proc_pid_fd(5). Other users' processes cannot be looked into without privilege; that is remembered, so that
//! "nobody" is only said where everybody was asked.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::host::fact::Fact;
use crate::host::pci::PciDevice;
use crate::host::source::Source;

/// A process that holds something open.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its name; absent if it ended meanwhile.
    pub name: Option<String>,
}

/// Who holds which device file.
#[derive(Debug)]
pub(super) struct OpenFiles {
    /// Processes by what is behind `/dev/`.
    holders: BTreeMap<String, Vec<Process>>,
    /// Why not every process could be looked into.
    unseen: Option<Fact<()>>,
}

/// Looks through the open files of all processes.
pub(super) fn collect(source: &dyn Source) -> OpenFiles {
    let mut files = OpenFiles { holders: BTreeMap::new(), unseen: None };
    let pids = match source.list("/proc") {
        Fact::Known(names) => names,
        unread => {
            files.unseen = Some(match unread.map(drop) {
                Fact::NotPresent => Fact::Unreadable {
                    source: "/proc".to_owned(),
                    reason: "there is no /proc here".to_owned(),
                },
                unread => unread,
            });
            return files;
        }
    };
    for pid in pids.iter().filter_map(|name| name.parse::<u32>().ok()) {
        files.look_into(source, pid);
    }
    files
}

impl OpenFiles {
    fn look_into(&mut self, source: &dyn Source, pid: u32) {
        let directory = format!("/proc/{pid}/fd");
        let descriptors = match source.list(&directory) {
            Fact::Known(descriptors) => descriptors,
            Fact::NotPresent => return, // it ended meanwhile
            unread => {
                self.unseen.get_or_insert(unread.map(drop));
                return;
            }
        };
        let mut path = directory;
        let stem = path.len();
        for descriptor in descriptors {
            path.truncate(stem);
            path.push('/');
            path.push_str(&descriptor);
            let target = source.link(&path);
            let Some(device) = target.known().and_then(|target| target.strip_prefix("/dev/")) else {
                continue;
            };
            if is_device_of_interest(device) {
                let holders = self.holders.entry(device.to_owned()).or_default();
                if holders.last().is_none_or(|last| last.pid != pid) {
                    let name = source.text(&format!("/proc/{pid}/comm")).known().cloned();
                    holders.push(Process { pid, name });
                }
            }
        }
    }

    /// The processes that hold `/dev/NAME` open.
    pub(super) fn holders(&self, name: &str) -> &[Process] {
        self.holders.get(name).map_or(&[], Vec::as_slice)
    }

    /// Why not every process could be looked into.
    pub(super) fn unseen(&self) -> Option<&Fact<()>> {
        self.unseen.as_ref()
    }

    /// The processes that hold `function` through VFIO. Whatever the driver is now: a group can be open while one of
    /// its functions is bound elsewhere.
    pub(super) fn holders_of(&self, function: &PciDevice) -> Fact<Vec<Process>> {
        let mut found: Vec<Process> = Vec::new();
        if let Some(group) = function.iommu_group.known() {
            found.extend_from_slice(self.holders(&format!("vfio/{group}")));
            found.extend_from_slice(self.holders(&format!("vfio/noiommu-{group}")));
        }
        for device in &function.vfio_devices {
            found.extend_from_slice(self.holders(&format!("vfio/devices/{device}")));
        }
        found.sort_unstable();
        found.dedup();
        match &self.unseen {
            // Only who has a VFIO driver below it can be held; for all others nobody had to be asked.
            Some(reason) if found.is_empty() && function.vfio_bound != Fact::Known(false) => {
                reason.as_ref().map(|()| Vec::new())
            }
            _ => Fact::Known(found),
        }
    }
}

/// Whether `/dev/NAME` may be a VFIO file or a disk; terminals and the like are not remembered.
pub(crate) fn is_device_of_interest(name: &str) -> bool {
    !matches!(name, "null" | "zero" | "tty" | "random" | "urandom" | "ptmx" | "fuse" | "kvm" | "vfio/vfio")
        && !name.starts_with("pts/")
        && !name.starts_with("tty")
        && !name.starts_with("shm/")
}
