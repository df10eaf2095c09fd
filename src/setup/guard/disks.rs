//! Disks below a function: in use now, or holding what somebody may miss later.

use super::{Guard, Objection, Rule, consent, refuse, unseen};
use crate::host::fact::Fact;
use crate::host::firmware::BootMode;
use crate::host::pci::PciDevice;
use crate::host::usage::{BlockUse, Disk, SYSTEM_PLACES};

pub(super) fn disk_in_use(device: &PciDevice, disk: &Disk) -> Option<Objection> {
    let uses = match &disk.uses {
        Fact::Known(uses) => uses,
        Fact::NotPresent => return None,
        _ => return Some(unseen(device, &format!("what uses disk {}", disk.name))),
    };
    let (evidence, remedy) = match uses.first()? {
        BlockUse::Mounted { device, at } => {
            (format!("{device} is mounted at {at}"), format!("umount {at} first"))
        }
        BlockUse::Swap { device } => {
            (format!("{device} is active swap"), format!("swapoff /dev/{device} first"))
        }
        BlockUse::Resume { device } => (
            format!("the host hibernates to {device}"),
            "have it hibernate elsewhere first (`resume=` on the kernel's command line)".to_owned(),
        ),
        BlockUse::Held { device, by } => {
            (format!("{by} is built on {device}"), format!("stop {by} first, or take {device} out of it"))
        }
        BlockUse::Member { device, of } => {
            (format!("{device} is a member of {of}"), format!("take {device} out of it first"))
        }
        BlockUse::Open { device, process } => {
            let name = process.name.as_deref().map(|name| format!(" ({name})")).unwrap_or_default();
            (
                format!("process {}{name} holds {device} open", process.pid),
                "end that process first".to_owned(),
            )
        }
    };
    Some(refuse(Rule::DiskInUse, device, evidence, remedy))
}

impl Guard<'_> {
    /// Disks that nobody uses now: what the host starts from, what the next boot mounts, what holds data.
    pub(super) fn idle_disks(&self, device: &PciDevice) -> Vec<Objection> {
        let disks = device.usage.disks.known().map_or(&[][..], Vec::as_slice);
        let idle = disks.iter().filter(|disk| disk.uses.known().is_some_and(Vec::is_empty));
        idle.flat_map(|disk| {
            let boots = self.boot_disk(device, disk);
            [boots, in_fstab(device, disk), with_data(device, disk)].into_iter().flatten()
        })
        .collect()
    }

    fn boot_disk(&self, device: &PciDevice, disk: &Disk) -> Option<Objection> {
        let efi = disk.efi_system_partitions.first();
        let entries = disk.fstab.known().map_or(&[][..], Vec::as_slice);
        let named = entries.iter().find(|entry| {
            SYSTEM_PLACES.contains(&entry.at.as_str()) || disk.efi_system_partitions.contains(&entry.device)
        });
        let evidence = match (named, efi) {
            (Some(entry), _) => format!("this host has {} at {}, by /etc/fstab", entry.device, entry.at),
            (None, Some(efi)) if self.is_only_efi(device, disk) => {
                format!(
                    "{efi} is the only EFI system partition that this host, which started by UEFI, would have"
                )
            }
            _ => return None,
        };
        let remedy = "move what this host starts from to another disk first, and mount it from there";
        Some(refuse(Rule::BootDisk, device, evidence, remedy))
    }

    fn is_only_efi(&self, device: &PciDevice, disk: &Disk) -> bool {
        let others = self.facts.pci.functions().iter().filter(|other| self.stays(other, device));
        let mut others = others.filter_map(|other| other.usage.disks.known()).flatten();
        self.facts.firmware.boot_mode == Fact::Known(BootMode::Uefi)
            && !others.any(|other| other.name != disk.name && !other.efi_system_partitions.is_empty())
    }
}

fn in_fstab(device: &PciDevice, disk: &Disk) -> Option<Objection> {
    match &disk.fstab {
        Fact::Known(entries) => {
            let entry = entries.first()?;
            let evidence = format!(
                "{} is in /etc/fstab for {}: the next boot would wait for it",
                entry.device, entry.at
            );
            Some(consent(Rule::DiskInFstab, device, evidence))
        }
        Fact::NotPresent => None,
        _ => Some(unseen(device, &format!("whether /etc/fstab names disk {}", disk.name))),
    }
}

fn with_data(device: &PciDevice, disk: &Disk) -> Option<Objection> {
    let signature = disk.signatures.iter().next().map(|(on, kind)| format!("{on} holds {kind}"));
    let partition = || disk.partitions.first().map(|name| format!("{} has a partition {name}", disk.name));
    Some(consent(Rule::DiskWithData, device, signature.or_else(partition)?))
}
