//! Disks below a function: in use now, or holding what somebody may miss later.

use super::{Objection, Rule, consent, refuse, unseen};
use crate::host::fact::Fact;
use crate::host::pci::PciDevice;
use crate::host::usage::{BlockUse, Disk};

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

pub(super) fn disks_with_data(device: &PciDevice) -> Vec<Objection> {
    let disks = device.usage.disks.known().map_or(&[][..], Vec::as_slice);
    disks
        .iter()
        .filter(|disk| disk.uses.known().is_some_and(Vec::is_empty))
        .filter_map(|disk| {
            let signature = disk.signatures.iter().next().map(|(on, kind)| format!("{on} holds {kind}"));
            let partition =
                || disk.partitions.first().map(|name| format!("{} has a partition {name}", disk.name));
            Some(consent(Rule::DiskWithData, device, signature.or_else(partition)?))
        })
        .collect()
}
