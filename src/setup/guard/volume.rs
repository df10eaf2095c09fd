//! Drives behind a Volume Management Device: functions of a PCI domain of its own, which go when it goes.
//!
//! Linux: drivers/pci/controller/vmd.c gives such domains numbers above ffff. Which device a domain belongs to is not read:
//! where there are several, each is taken to have them all, and consent is enough.

use super::{Guard, Objection, Rule, Severity, in_use};
use crate::host::pci::PciDevice;

impl Guard<'_> {
    /// What speaks against taking the drives behind `device`.
    pub(super) fn behind_volume_management(&self, device: &PciDevice) -> Vec<Objection> {
        if !device.is_volume_management() || device.driver.known().is_none_or(|driver| driver != "vmd") {
            return Vec::new();
        }
        let functions = || self.facts.pci.functions().iter();
        let alone = functions().filter(|other| other.is_volume_management()).count() == 1;
        let behind = functions().filter(|other| other.address.domain > 0xFFFF);
        let found = behind.flat_map(|drive| {
            in_use(drive).into_iter().chain(self.network(drive)).chain(self.idle_disks(drive))
        });
        found
            .map(|found| {
                let stands = found.severity == Severity::Refuse && alone;
                Objection {
                    severity: if stands { Severity::Refuse } else { Severity::NeedsConsent },
                    rule: Rule::VolumeManagement,
                    subject: device.address,
                    evidence: if alone {
                        format!("{} is behind it: {}", found.subject, found.evidence)
                    } else {
                        format!("{} may be behind it: {}", found.subject, found.evidence)
                    },
                    remedy: if stands {
                        found.remedy
                    } else {
                        format!("if that is fine: --allow {}", device.address)
                    },
                }
            })
            .collect()
    }
}
