//! What stands between a function that a guest has and the host: the IOMMU, its group, its reset.

use super::{Guard, Objection, Rule, Severity, consent, in_use, unseen};
use crate::host::fact::Fact;
use crate::host::iommu::CauseKind;
use crate::host::iommu::isolation::Override;
use crate::host::pci::PciDevice;
use crate::spec::pci::PciAddress;

impl Guard<'_> {
    pub(super) fn iommu(&self, device: &PciDevice) -> Vec<Objection> {
        let mut found = Vec::new();
        match &self.facts.iommu.interrupt_remapping {
            Fact::Known(true) => {}
            Fact::Known(false) => {
                found.push(consent(Rule::InterruptRemapping, device, self.without_remapping()));
            }
            _ => found.push(unseen(device, "whether interrupts are remapped")),
        }
        match &device.reset_methods {
            Fact::Known(methods) if !methods.is_empty() => {}
            Fact::Known(_) | Fact::NotPresent => found.push(consent(
                Rule::NoReset,
                device,
                "it cannot be reset: the next user gets it as the guest left it".to_owned(),
            )),
            _ => found.push(unseen(device, "whether it can be reset")),
        }
        let group = device.iommu_group.known().and_then(|id| self.facts.group(*id));
        let Some(group) = group else {
            if device.iommu_group.is_unread() || device.iommu_group.known().is_some() {
                found.push(unseen(device, "its IOMMU group"));
            }
            return found;
        };
        if group.no_iommu {
            let evidence = "no IOMMU stands between it and the host's memory (VFIO no-IOMMU mode)".to_owned();
            found.push(consent(Rule::NoIommu, device, evidence));
        }
        match &group.reserved_regions {
            Fact::Known(regions) => {
                let direct = regions.iter().find(|region| region.kind == "direct");
                found.extend(direct.map(|region| {
                    let (start, end) = (region.start, region.end);
                    let evidence = format!(
                        "firmware demands that {start:#x} to {end:#x} stays mapped for group {}, and VFIO will refuse it",
                        group.id
                    );
                    consent(Rule::ReservedRegion, device, evidence)
                }));
            }
            Fact::NotPresent => {}
            _ => found.push(unseen(device, "which memory firmware reserved for its group")),
        }
        let overridden = group.causes.iter().any(|cause| {
            cause.kind == CauseKind::Override
                && (cause.members.contains(&device.address) || cause.members.is_empty())
        });
        if overridden {
            let evidence = format!(
                "only {}= keeps it apart from its neighbours: they can reach each other's memory past the IOMMU",
                Override::PARAMETER
            );
            found.push(consent(Rule::AcsOverride, device, evidence));
        }
        if group.devices.is_unread() {
            found.push(unseen(device, "the members of its group"));
        }
        for blocker in &group.blockers {
            let Ok(subject) = blocker.device.parse::<PciAddress>() else { continue };
            if subject != device.address && !self.taken.contains(&subject) {
                let use_ = self.facts.device(subject).map(in_use).unwrap_or_default();
                let also = use_.first().map(|found| format!(" ({})", found.evidence)).unwrap_or_default();
                found.push(Objection {
                    severity: Severity::NeedsConsent,
                    rule: Rule::GroupMember,
                    subject,
                    evidence: format!(
                        "it shares IOMMU group {} with {} and the host uses it by driver {}{also}",
                        group.id, device.address, blocker.driver
                    ),
                    remedy: format!(
                        "the group goes to a guest as a whole: bind {subject} too, or say --allow {subject}"
                    ),
                });
            }
        }
        found
    }

    fn without_remapping(&self) -> String {
        let told = self.facts.iommu.unsafe_interrupts.parameters();
        let told = told.into_iter().find(|(_, allowed)| **allowed == Fact::Known(true));
        let told =
            told.map(|(path, _)| format!(", and {path} lets VFIO do it all the same")).unwrap_or_default();
        format!(
            "interrupts are not remapped: the guest that gets it could raise any interrupt of the host{told}"
        )
    }
}
