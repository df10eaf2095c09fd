//! Power: does the function answer, and may it lose power while nobody looks?

use super::{attribute, same_device, skip_bridge};
use crate::check::{Outcome, Remedy};
use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::host::pci::PciDevice;

/// `pci-answers`
pub(super) fn answers(_: &HostFacts, function: &PciDevice) -> Outcome {
    let place = attribute(function, "config");
    match &function.config.answers {
        Fact::Known(true) => Outcome::pass("it answers").evidence(place, "a header"),
        Fact::Known(false) => {
            let fail = Outcome::fail("it does not answer: its configuration space reads as all ones")
                .evidence(place, "ff ff ff ff ..")
                .cause("it lost power or its link, a reset broke it, or it was pulled out");
            let fail = match &function.power_state {
                Fact::Known(state) => fail.evidence(attribute(function, "power_state"), state),
                _ => fail,
            };
            fail.remedy(Remedy::command(
                format!(
                    "echo 1 | sudo tee {}; echo 1 | sudo tee /sys/bus/pci/rescan",
                    attribute(function, "remove")
                ),
                "looks for it anew",
            ))
            .remedy(Remedy::advice("switch the machine off and on; a restart alone may not bring it back"))
        }
        unread => Outcome::unread(unread, "whether it answers"),
    }
}

/// `pci-d3cold`: only displays are known to stay away, so that others are told only while they are off.
pub(super) fn d3cold(facts: &HostFacts, function: &PciDevice) -> Outcome {
    const OPTION: &str = "vfio_pci.disable_idle_d3";
    if let Some(outcome) = skip_bridge(function) {
        return outcome;
    }
    let file = attribute(function, "d3cold_allowed");
    match &function.d3cold_allowed {
        Fact::Known(true) => {}
        Fact::Known(false) => {
            return Outcome::pass("it keeps its power").evidence(file, 0);
        }
        Fact::NotPresent => return Outcome::not_applicable("the kernel does not manage its power"),
        unread => return Outcome::unread(unread, "whether it may lose power"),
    }
    if facts.kernel.parameter(OPTION).any(|value| matches!(value, "1" | "y" | "Y")) {
        return Outcome::pass("VFIO keeps what it holds awake")
            .evidence("/proc/cmdline", format!("{OPTION}=1"));
    }
    let is_off = function.power_state.known().is_some_and(|state| state == "D3cold");
    let of_display = function.is_display() || same_device(facts, function).any(PciDevice::is_display);
    if !is_off && !of_display {
        return Outcome::pass("it has power; what is no display comes back when it lost it")
            .evidence(file, 1);
    }
    let summary =
        if is_off { "it has no power now (D3cold)" } else { "it may lose power while it is idle (D3cold)" };
    let warn = Outcome::warn(summary).evidence(&file, 1);
    let warn = match &function.power_state {
        Fact::Known(state) => warn.evidence(attribute(function, "power_state"), state),
        _ => warn,
    };
    warn.cause(
        "VFIO lets what no guest uses sleep as deep as it may; some cards then read as all ones (`Unable to change \
         power state from D3cold to D0`) and stay so until the host boots anew",
    )
    .remedy(Remedy::command(
        format!("echo 0 | sudo tee {file}"),
        "keeps its power, until the next boot; do so for each function of the card",
    ))
    .remedy(Remedy::kernel_argument(facts, "vfio_pci.disable_idle_d3=1"))
}
