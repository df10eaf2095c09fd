//! What may go wrong for a guest that gets a function, and is no reason to keep it from one.

use std::collections::BTreeSet;

use super::{Guard, Objection, Rule, Severity, is_sibling};
use crate::host::fact::Fact;
use crate::host::pci::known_resets::known_reset;
use crate::host::pci::{BarKind, PciDevice};

impl Guard<'_> {
    /// What to mind when `device` is handed to a guest whose memory is on `nodes`; none where that is left to the kernel.
    #[must_use]
    pub fn warnings(&self, device: &PciDevice, nodes: &BTreeSet<u32>) -> Vec<Objection> {
        let found = [
            self.bus_reset(device),
            bad_reset(device),
            self.d3cold(device),
            option_rom(device),
            self.part_of_card(device),
            remote(device, nodes),
        ];
        found.into_iter().flatten().collect()
    }

    fn bus_reset(&self, device: &PciDevice) -> Option<Objection> {
        let methods = device.reset_methods.known().filter(|methods| !methods.is_empty())?;
        if methods.iter().any(|method| !matches!(method.as_str(), "bus" | "cxl_bus")) {
            return None;
        }
        let siblings = device.bus_reset_siblings.known().map_or(&[][..], Vec::as_slice);
        let strangers = siblings.iter().filter(|sibling| {
            !self.taken.contains(sibling)
                && self.facts.device(**sibling).is_none_or(|other| !other.is_bridge())
        });
        let strangers = list(strangers)?;
        Some(warn(
            Rule::BusReset,
            device,
            format!("only a reset of its bus resets it, which resets {strangers} too, so VFIO may refuse to"),
            format!("give {strangers} to the same guest"),
        ))
    }

    /// Displays are what is known to stay away; others are told while they are off.
    fn d3cold(&self, device: &PciDevice) -> Option<Objection> {
        let is_off = device.power_state.known().is_some_and(|state| state == "D3cold");
        let awake = self.facts.kernel.parameter("vfio_pci.disable_idle_d3");
        let kept = awake.last().is_some_and(|value| matches!(value, "1" | "y" | "Y"));
        if device.d3cold_allowed != Fact::Known(true) || kept || !(is_off || device.is_display()) {
            return None;
        }
        let now = if is_off { "it has no power now" } else { "it may lose its power while nobody uses it" };
        Some(warn(
            Rule::D3cold,
            device,
            format!("{now} (D3cold), and some cards do not come back from there until the host boots anew"),
            format!("to keep its power: echo 0 >/sys/bus/pci/devices/{}/d3cold_allowed", device.address),
        ))
    }

    /// Of the functions of the chipset that share a number none is a card.
    fn part_of_card(&self, device: &PciDevice) -> Option<Objection> {
        let is_physical = |device: &PciDevice| device.physical_function == Fact::NotPresent;
        if device.address.bus == 0 || !is_physical(device) {
            return None;
        }
        let others = self.facts.pci.functions().iter().filter(|other| {
            is_sibling(other, device)
                && is_physical(other)
                && !other.is_bridge()
                && other.vfio_bound != Fact::Known(true)
                && !self.taken.contains(&other.address)
        });
        let others: Vec<_> = others.map(|other| other.address).collect();
        let others = list(others.iter())?;
        Some(warn(
            Rule::PartOfCard,
            device,
            format!("{others} of the same card stays with the host; drivers often expect the whole card"),
            format!("unless that is meant: name {others} too"),
        ))
    }
}

fn bad_reset(device: &PciDevice) -> Option<Objection> {
    let known = known_reset((*device.vendor_id.known()?, *device.device_id.known()?))?;
    let method = known.used(device.reset_methods.known()?)?;
    let evidence = format!("{}: after its reset by `{method}`, {}", known.name, known.effect);
    Some(warn(Rule::KnownReset, device, evidence, known.workaround.to_owned()))
}

fn option_rom(device: &PciDevice) -> Option<Objection> {
    let bars = device.bars.known().filter(|bars| device.is_display() && !bars.is_empty())?;
    if bars.iter().any(|bar| bar.kind == BarKind::Rom && bar.size_bytes.is_some()) {
        return None;
    }
    Some(warn(
        Rule::OptionRom,
        device,
        "it has no option ROM, so the guest's firmware shows no picture on it".to_owned(),
        "give the guest a copy of the ROM of this very card, or wait for its driver to start".to_owned(),
    ))
}

fn remote(device: &PciDevice, nodes: &BTreeSet<u32>) -> Option<Objection> {
    let own = device.numa_node.known().filter(|own| !nodes.is_empty() && !nodes.contains(own))?;
    let on = nodes.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
    Some(warn(
        Rule::NumaRemote,
        device,
        format!(
            "it is on NUMA node {own}, and the huge pages are on node {on}: it reaches them over the other socket"
        ),
        format!("ask for huge pages on node {own}"),
    ))
}

fn list<T: ToString>(items: impl Iterator<Item = T>) -> Option<String> {
    let items: Vec<_> = items.map(|item| item.to_string()).collect();
    (!items.is_empty()).then(|| items.join(", "))
}

fn warn(rule: Rule, device: &PciDevice, evidence: String, remedy: String) -> Objection {
    Objection { severity: Severity::Warn, rule, subject: device.address, evidence, remedy }
}
