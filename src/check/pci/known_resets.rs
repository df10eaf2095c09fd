//! Functions whose resets are known to go wrong, told with what helps.
//!
//! A row is bad only where the kernel would use the method: newer kernels leave methods out of `reset_method` that they
//! know to hurt (Linux: drivers/pci/quirks.c), and put a better one in as `device_specific`.

use super::{attribute, ids};
use crate::check::{Outcome, Remedy};
use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::host::pci::PciDevice;
use crate::host::pci::known_resets::known_reset;

/// `pci-reset-known-bad`
pub(super) fn known_bad(_: &HostFacts, function: &PciDevice) -> Outcome {
    let pair = match ids(function, "whether its resets are known to go wrong") {
        Ok(pair) => pair,
        Err(outcome) => return outcome,
    };
    let shown = format!("{:04x}:{:04x}", pair.0, pair.1);
    let place = attribute(function, "device");
    let Some(row) = known_reset(pair) else {
        return Outcome::pass("nothing bad is known of its resets").evidence(place, shown);
    };
    let file = attribute(function, "reset_method");
    let methods = match &function.reset_methods {
        Fact::Known(methods) => methods.as_slice(),
        Fact::NotPresent => &[],
        unread => return Outcome::unread(unread, "how the kernel would reset it"),
    };
    let listed = if methods.is_empty() { "empty or not there".to_owned() } else { methods.join(" ") };
    let Some(method) = row.used(methods) else {
        return Outcome::pass(format!("{}: the kernel avoids the reset that hurts it", row.name))
            .evidence(place, shown)
            .evidence(file, listed);
    };
    let warn = Outcome::warn(format!("{}: its reset by `{method}` is known to go wrong", row.name))
        .evidence(place, shown)
        .evidence(&file, listed)
        .evidence(row.evidence, format!("confidence {}", row.confidence))
        .cause(row.effect)
        .remedy(Remedy::advice(row.workaround));
    let rest: Vec<_> =
        methods.iter().map(String::as_str).filter(|method| !row.broken.contains(method)).collect();
    if rest.is_empty() {
        return warn;
    }
    warn.remedy(Remedy::command(
        format!("echo '{}' | sudo tee {file}", rest.join(" ")),
        "leaves the bad method out until the next boot",
    ))
}
