//! SR-IOV: physical functions, their virtual functions and how these are set up.

use super::{Text, word};
use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::host::source::VfLink;
use crate::host::sriov::{Sriov, VirtualFunction};
use crate::report::style::{Tone, clean};
use crate::report::table::Table;
use crate::spec::pci::PciAddress;

/// Physical functions and their virtual functions as a table.
pub(super) fn show(text: &mut Text, facts: &HostFacts) {
    let physical: Vec<_> = facts
        .pci
        .functions()
        .iter()
        .filter_map(|function| Some((function, function.sriov.as_ref()?)))
        .collect();
    if physical.is_empty() {
        return;
    }
    text.section("SR-IOV");
    let titles = ["FUNCTION", "VFS", "AUTOPROBE", "VIRTUAL FUNCTIONS"];
    let mut table = Table::new(&titles, text.width).rigid(0).rigid(1).rigid(2);
    for (function, sriov) in physical {
        table.row([
            (Tone::Plain, function.address.to_string()),
            (Tone::Plain, counts(sriov)),
            (Tone::Plain, word(&sriov.drivers_autoprobe, |on| if *on { "on" } else { "off" }.to_owned())),
            (Tone::Plain, sriov.vfs.iter().map(virtual_function).collect::<Vec<_>>().join("\n")),
        ]);
    }
    text.table(table);
}

/// What is there of what the driver offers, and how many fit if not all do; the device's own number where that differs.
fn counts(sriov: &Sriov) -> String {
    let number = |fact: &Fact<u16>| word(fact, u16::to_string);
    let mut counts = format!("{} of {}", number(&sriov.num_vfs), number(&sriov.total_vfs));
    if let (Some(fit), Some(total)) = (sriov.fit.max_vfs.known(), sriov.total_vfs.known())
        && fit < total
    {
        counts.push_str(&format!(" ({fit} fit)"));
    }
    match sriov.capability.known() {
        Some(capability) if sriov.total_vfs != Fact::Known(capability.total_vfs) => {
            format!("{counts} (device: {})", capability.total_vfs)
        }
        _ => counts,
    }
}

fn virtual_function(vf: &VirtualFunction) -> String {
    let address = word(&vf.address, PciAddress::to_string);
    let link = vf.link.known().map(settings).unwrap_or_default();
    format!("{}: {address}{link}", vf.index)
}

/// What the physical function's driver says about one virtual function.
fn settings(link: &VfLink) -> String {
    let on =
        |name: &str, set: Option<bool>| set.map(|set| format!("{name} {}", if set { "on" } else { "off" }));
    let rate = |name: &str, mbps: Option<u32>| {
        mbps.filter(|mbps| *mbps != 0).map(|mbps| format!("{name} {mbps} Mbit/s"))
    };
    let words = [
        link.mac.as_deref().map(|mac| format!("MAC {}", clean(mac))),
        link.vlan.filter(|vlan| *vlan != 0).map(|vlan| format!("VLAN {vlan}")),
        on("spoof check", link.spoof_check),
        on("trust", link.trusted),
        link.link_state.as_deref().map(|state| format!("link {}", clean(state))),
        rate("at least", link.min_tx_rate_mbps),
        rate("at most", link.max_tx_rate_mbps),
    ];
    words.into_iter().flatten().map(|word| format!(", {word}")).collect()
}
