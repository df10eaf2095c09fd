//! What a function is among ports, in one line.

use crate::host::fact::Fact;
use crate::host::pci::ports::{Express, Ports};
use crate::spec::port::PortType;

/// Kind of port, slot, Access Control Services, ARI; nothing for an endpoint that has none of it.
pub(super) fn line(ports: &Ports) -> Option<String> {
    let mut parts = Vec::new();
    if let Fact::Known(express) = &ports.express {
        parts.extend(kind(express));
    }
    match (&ports.acs, &ports.express) {
        (Fact::Known(acs), _) => {
            let enabled = acs.enabled.short();
            parts.push(format!("ACS {}", if enabled.is_empty() { "off" } else { &enabled }));
        }
        (Fact::NotPresent, Fact::Known(express)) if express.port_type.leads_down() => {
            parts.push("no ACS".to_owned());
        }
        _ => {}
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn kind(express: &Express) -> Vec<String> {
    let mut parts = match express.port_type {
        PortType::ENDPOINT | PortType::LEGACY_ENDPOINT | PortType::ROOT_COMPLEX_ENDPOINT => {
            return Vec::new();
        }
        kind => vec![kind.to_string().replace('_', " ")],
    };
    if let Some(slot) = &express.slot {
        parts.push(match slot.number {
            0 => "a slot".to_owned(),
            number => format!("slot {number}"),
        });
    }
    parts.extend(
        express.ari_forwarding.as_ref().filter(|ari| ari.enabled).map(|_| "ARI forwarding".to_owned()),
    );
    parts
}
