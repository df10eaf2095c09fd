//! Displays, sound, keyboards and the chipset: how somebody sits at this host, and what it runs on.

use super::{Guard, Objection, Rule, consent, is_sibling, refuse, unseen};
use crate::host::fact::Fact;
use crate::host::pci::PciDevice;
use crate::spec::pci::ClassCode;

impl Guard<'_> {
    /// The ways in which somebody sits at this host, and the parts that it runs on.
    pub(super) fn console(&self, device: &PciDevice) -> Vec<Objection> {
        if device.vfio_bound == Fact::Known(true) {
            return Vec::new(); // given up before
        }
        let Some(class) = device.class.known().map(|class| ClassCode::from_u24(*class)) else {
            return vec![unseen(device, "what kind of function it is")];
        };
        let found = match (class.base, class.sub) {
            (0x03, _) => {
                let last = !self.facts.pci.functions().iter().any(|other| {
                    other.address != device.address
                        && !self.taken.contains(&other.address)
                        && other.is_display()
                        && other.vfio_bound == Fact::Known(false)
                });
                let serial = self
                    .facts
                    .kernel
                    .parameter("console")
                    .any(|console| console.starts_with("tty") && console.len() > 4);
                if last && !serial && !self.consents.remote_session {
                    Some(refuse(
                        Rule::Display,
                        device,
                        "it is the last display of this host, which has no serial console, and this session is local",
                        "do it over SSH, or give the kernel a serial console first (console=ttyS0)",
                    ))
                } else {
                    Some(consent(
                        Rule::Display,
                        device,
                        "the host may be showing its console on it".to_owned(),
                    ))
                }
            }
            (0x04, 0x01 | 0x03) => self
                .facts
                .pci
                .functions()
                .iter()
                .find(|other| {
                    is_sibling(other, device) && other.is_display() && !self.taken.contains(&other.address)
                })
                .map(|display| {
                    let evidence =
                        format!("it is the sound of display {}, which stays with the host", display.address);
                    consent(Rule::DisplayAudio, device, evidence)
                }),
            (0x0C, 0x03) => {
                let evidence =
                    "what is plugged into it cannot be told yet: the last keyboard may be".to_owned();
                Some(consent(Rule::UsbController, device, evidence))
            }
            (0x06 | 0x08, _) | (0x0C, 0x05) => {
                let evidence = "it is a part of the chipset that the host may need".to_owned();
                Some(consent(Rule::Chipset, device, evidence))
            }
            _ => None,
        };
        found.into_iter().collect()
    }
}
