//! How a function is connected: link, memory windows, resizable BARs, interrupts.

use super::{attribute, skip_bridge};
use crate::check::{Outcome, Remedy};
use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::host::firmware::Setting;
use crate::host::kernel_log::KernelLog;
use crate::host::pci::{Bar, BarKind, Link, PciDevice};

/// Speed and width, for people.
fn show(speed_gt_per_s: Option<f64>, width_lanes: u8) -> String {
    let speed = speed_gt_per_s.map_or_else(|| "?".to_owned(), |speed| speed.to_string());
    format!("{speed} GT/s x{width_lanes}")
}

/// The port at the other end of the function's link.
fn port_above<'a>(facts: &'a HostFacts, function: &PciDevice) -> Option<(&'a PciDevice, &'a Link)> {
    let above = facts.pci.functions().iter().find(|port| {
        port.address.domain == function.address.domain
            && port.config.secondary_bus == Fact::Known(function.address.bus)
    })?;
    Some((above, above.config.abilities.link.known()?))
}

/// `pci-link`
pub(super) fn link(facts: &HostFacts, function: &PciDevice) -> Outcome {
    if let Some(outcome) = skip_bridge(function) {
        return outcome;
    }
    let link = match &function.config.abilities.link {
        Fact::Known(link) => link,
        Fact::NotPresent => return Outcome::not_applicable("it has no link of its own"),
        unread => return Outcome::unread(unread, "what its link runs at"),
    };
    let now = show(link.speed_gt_per_s, link.width_lanes);
    let most = show(link.max_speed_gt_per_s, link.max_width_lanes);
    let (mut width, mut speed) = (link.max_width_lanes, link.max_speed_gt_per_s);
    let evidence = |outcome: Outcome| {
        let outcome =
            outcome.evidence(attribute(function, "config"), format!("link {now}, capable of {most}"));
        match port_above(facts, function) {
            Some((port, above)) => outcome.evidence(
                attribute(port, "config"),
                format!("capable of {}", show(above.max_speed_gt_per_s, above.max_width_lanes)),
            ),
            None => outcome,
        }
    };
    if let Some((_, above)) = port_above(facts, function) {
        width = width.min(above.max_width_lanes);
        speed = match (speed, above.max_speed_gt_per_s) {
            (Some(own), Some(other)) => Some(own.min(other)),
            _ => speed,
        };
    }
    if link.width_lanes < width {
        return evidence(Outcome::warn(format!("its link has {} of {width} lanes", link.width_lanes)))
            .cause(
                "a card that does not sit well, a riser, lanes that the board shares with another slot or M.2 drive, \
                 or a slot that the firmware split (bifurcation)",
            )
            .remedy(Remedy::hardware("take the card out and put it in again, without a riser"))
            .remedy(Remedy::hardware("the slot that the board's manual gives all lanes"));
    }
    if link.speed_gt_per_s < speed {
        let shown = show(speed, width);
        // Displays and their drivers slow links down while nothing is drawn.
        if function.is_display() {
            return evidence(Outcome::pass(format!(
                "its link runs at {now} of {shown}; displays slow it down while they are idle, so look again under load"
            )));
        }
        return evidence(Outcome::warn(format!("its link runs at {now} of {shown}")))
            .cause("the two ends could not agree on more: a riser, a weak signal, or a speed that the firmware set")
            .remedy(Remedy::hardware("without a riser, or another slot"))
            .remedy(Remedy::advice("set the slot's link speed in the firmware setup to `Auto` or to its highest"));
    }
    if width < link.max_width_lanes || speed < link.max_speed_gt_per_s {
        return evidence(Outcome::warn(format!("the port above it allows {now}, and it could use {most}")))
            .cause("the slot is slower or narrower than the card")
            .remedy(Remedy::hardware(
                "a slot of the processor instead of the chipset, if the board has a free one",
            ));
    }
    evidence(Outcome::pass(format!("its link runs at all that it can: {now}")))
}

/// `pci-bars`
pub(super) fn bars(facts: &HostFacts, function: &PciDevice) -> Outcome {
    if let Some(outcome) = skip_bridge(function) {
        return outcome;
    }
    let bars = match &function.bars {
        Fact::Known(bars) => bars,
        unread => return Outcome::unread(unread, "whether its memory has a place"),
    };
    let file = attribute(function, "resource");
    // A guest that misses I/O ports works: VFIO emulates their registers, and no driver of this century needs them.
    let is_missing =
        |bar: &&Bar| !bar.is_assigned() && matches!(bar.kind, BarKind::Memory32 | BarKind::Memory64);
    let missing: Vec<_> = bars.iter().filter(is_missing).collect();
    let Some(largest) = missing.iter().max_by_key(|bar| bar.size_bytes) else {
        return Outcome::pass("all of its memory has a place")
            .evidence(file, format!("{} regions", bars.len()));
    };
    let size = largest.size_bytes.map_or_else(String::new, |size| format!(" of {} MiB", (size >> 20).max(1)));
    let fail =
        Outcome::fail(format!("memory region {}{size} has no place: no driver can use it", largest.index));
    let fail = missing.iter().fold(fail, |outcome, bar| {
        let size =
            bar.size_bytes.map_or_else(|| "given up".to_owned(), |size| format!("{size} bytes, no address"));
        outcome.evidence(&file, format!("line {}: {size}", bar.index))
    });
    let fail = match facts.kernel_log.with(&["can't assign", "no space for", "failed to assign"]).last() {
        Some(message) => fail.evidence(KernelLog::SOURCE, message),
        None => fail,
    };
    fail.cause("the windows of the bridges above it, which the firmware chose, are too small")
        .remedy(Remedy::firmware(facts, Setting::Above4g))
        .remedy(Remedy::kernel_argument(facts, "pci=realloc"))
}

/// `pci-resizable-bar`
pub(super) fn resizable_bar(facts: &HostFacts, function: &PciDevice) -> Outcome {
    let bars = match &function.config.abilities.resizable_bars {
        Fact::Known(bars) => bars,
        Fact::NotPresent => return Outcome::not_applicable("its memory regions have fixed sizes"),
        unread => return Outcome::unread(unread, "whether its memory regions could be larger"),
    };
    let file = attribute(function, "config");
    let mib = |bytes: u64| bytes >> 20;
    let smallest = bars.iter().find(|bar| {
        bar.sizes_bytes.first() == Some(&bar.size_bytes) && bar.sizes_bytes.last() > Some(&bar.size_bytes)
    });
    let evidence = |outcome: Outcome| {
        bars.iter().fold(outcome, |outcome, bar| {
            let sizes =
                bar.sizes_bytes.iter().map(|size| mib(*size).to_string()).collect::<Vec<_>>().join(", ");
            outcome.evidence(&file, format!("BAR {}: {} MiB of {sizes}", bar.index, mib(bar.size_bytes)))
        })
    };
    let Some(bar) = smallest else {
        return evidence(Outcome::pass("its resizable memory is larger than the smallest size"));
    };
    let largest = bar.sizes_bytes.last().copied().unwrap_or(bar.size_bytes);
    evidence(Outcome::warn(format!(
        "its memory region {} has {} MiB, and could have {}",
        bar.index,
        mib(bar.size_bytes),
        mib(largest)
    )))
    .cause("firmware left it at its smallest size; processors then reach the card's memory piece by piece")
    .remedy(Remedy::firmware(facts, Setting::ResizableBar))
    .remedy(Remedy::command(
        format!("echo {} | sudo tee {}_resize", largest.ilog2().saturating_sub(20), attribute(function, &format!("resource{}", bar.index))),
        "before a driver has it; a guest cannot change it later; needs Linux 6.1 and room in the bridges above",
    ))
}

/// `pci-message-interrupts`
pub(super) fn message_interrupts(_: &HostFacts, function: &PciDevice) -> Outcome {
    if let Some(outcome) = skip_bridge(function) {
        return outcome;
    }
    let abilities = &function.config.abilities;
    let place = attribute(function, "config");
    for (name, vectors) in [("MSI-X", &abilities.msi_x), ("MSI", &abilities.msi)] {
        match vectors {
            Fact::Known(vectors) => {
                return Outcome::pass(format!(
                    "it sends interrupts as messages: {} of {name}",
                    vectors.vectors
                ))
                .evidence(place, format!("capability {name}"));
            }
            Fact::NotPresent => {}
            unread => return Outcome::unread(unread, "how it interrupts"),
        }
    }
    Outcome::warn("it interrupts by a line only")
        .evidence(place, "no capability MSI or MSI-X")
        .cause(
            "a line may be shared with devices of the host, each interrupt is masked and unmasked by the host, and none \
             goes to a guest directly",
        )
        .remedy(Remedy::advice(
            "see in /proc/interrupts that no other device has the same line, or leave the function with the host",
        ))
}
