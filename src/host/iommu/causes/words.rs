//! Causes in words, and the registers that they rest on.

use super::{Cause, CauseKind, Effect, Sign};
use crate::host::fact::Fact;
use crate::host::iommu::isolation::Rules;
use crate::host::pci::PciDevice;
use crate::spec::acs::Services;

fn config(function: &PciDevice) -> String {
    format!("/sys/bus/pci/devices/{}/config", function.address)
}

/// The ACS capability, or its absence.
pub(super) fn acs(function: &PciDevice) -> Sign {
    let value = match &function.ports.acs {
        Fact::Known(acs) => format!(
            "ACS at {:#x}: offers {}, enabled {}",
            acs.offset,
            listed(acs.offered),
            listed(acs.enabled)
        ),
        Fact::NotPresent if function.ports.express == Fact::NotPresent => {
            "no PCI Express capability".to_owned()
        }
        _ => "no ACS capability (000Dh)".to_owned(),
    };
    Sign { source: config(function), value }
}

fn listed(services: Services) -> String {
    match services.short() {
        none if none.is_empty() => "nothing".to_owned(),
        some => some,
    }
}

/// Kind of bridge.
pub(super) fn kind(bridge: &PciDevice) -> Sign {
    let value = bridge.ports.express.known().map_or_else(
        || "no PCI Express capability".to_owned(),
        |express| format!("device/port type {}", express.port_type),
    );
    Sign { source: config(bridge), value }
}

/// Vendor and device.
pub(super) fn ids(device: &PciDevice) -> Sign {
    let id = |fact: &Fact<u16>| fact.known().map_or_else(|| "?".to_owned(), |id| format!("{id:04x}"));
    Sign {
        source: format!("/sys/bus/pci/devices/{}", device.address),
        value: format!("{}:{}", id(&device.vendor_id), id(&device.device_id)),
    }
}

/// Arguments with which somebody switched ACS off.
pub(super) fn arguments<'a>(rules: &'a Rules<'_>) -> impl Iterator<Item = Sign> + 'a {
    rules
        .acs_arguments
        .iter()
        .map(|argument| Sign { source: "/proc/cmdline".to_owned(), value: argument.clone() })
}

/// The sentence of a cause whose members are known.
pub(super) fn summary(cause: &Cause) -> String {
    let on = cause.function.map_or_else(|| "a function".to_owned(), |function| function.to_string());
    let members = || cause.members.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match (cause.effect, cause.kind) {
        (Effect::Joins, CauseKind::PortLacksAcs) => format!(
            "port {on} has no Access Control Services, so nothing keeps what is behind it from its peers"
        ),
        (Effect::Joins, CauseKind::AcsBitsOff) => format!(
            "port {on} has Access Control Services and does not use {}, so peers can reach each other",
            cause.missing.short()
        ),
        (_, CauseKind::BridgeNoIsolation) => format!(
            "bridge {on} leads to conventional PCI: all that is behind it uses one requester ID, and shares a bus"
        ),
        (Effect::Joins, CauseKind::FunctionsShareSlot) => format!(
            "functions {} share a slot without Access Control Services between them, so each can reach the others",
            members()
        ),
        (Effect::Joins, CauseKind::RootComplexIntegrated) => format!(
            "{} are functions of one device of the chipset, without Access Control Services between them",
            members()
        ),
        (_, CauseKind::DmaAlias) => {
            format!("{on} and others use one requester ID, so the IOMMU cannot tell them apart")
        }
        (_, CauseKind::Quirk) => format!(
            "the kernel knows that {on} ({}) keeps peers apart, though its registers do not say so",
            cause.summary
        ),
        (_, CauseKind::Override) => format!(
            "the ACS override makes the kernel believe that {on} keeps peers apart; nothing does, and a guest's \
             device may reach the devices beside it"
        ),
        (Effect::Joins, _) => {
            format!("whether {on} keeps peers apart could not be read; as root more is known")
        }
        (Effect::KeepsApart, _) => format!(
            "the kernel keeps {} apart though {on} does not, as its registers are now: by a quirk of this kernel, \
             or ACS has changed since the groups were made",
            members()
        ),
    }
}
