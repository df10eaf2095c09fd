//! driver_override and driverctl's files: which driver a function is set to have, and which it has.

use crate::check::{Outcome, Remedy};
use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::host::pci::PciDevice;

fn path(function: &PciDevice) -> String {
    format!("/sys/bus/pci/devices/{}/driver_override", function.address)
}

/// `vfio-overrides`
pub(super) fn host(facts: &HostFacts) -> Outcome {
    const SUBJECT: &str = "which drivers functions are set to have";
    let Fact::Known(functions) = &facts.pci.devices else {
        return Outcome::unread(&facts.pci.devices, SUBJECT);
    };
    let at_boot = match &facts.vfio.overrides {
        Fact::Known(at_boot) => at_boot,
        unread => return Outcome::unread(unread, SUBJECT),
    };
    let mut evidence = Vec::new();
    let mut causes = Vec::new();
    let mut remedies = Vec::new();
    for entry in at_boot {
        let driver = entry.driver.known().map_or("", String::as_str);
        if facts.device(entry.address).is_none() {
            evidence.push((entry.file.clone(), driver.to_owned()));
            causes.push(format!("there is no function {} any more", entry.address));
            remedies.push(Remedy::command(
                format!("sudo driverctl unset-override {}", entry.address),
                "forgets it; set it again for the address that the card has now",
            ));
        }
    }
    let overridden: Vec<_> =
        functions.iter().filter(|function| function.driver_override != Fact::NotPresent).collect();
    for function in &overridden {
        let Fact::Known(wanted) = &function.driver_override else { continue };
        let (has, says) = match &function.driver {
            Fact::Known(driver) if driver == wanted => continue,
            Fact::Known(driver) => (format!("has {driver}"), format!("driver: {driver}")),
            Fact::NotPresent => ("has none".to_owned(), "no driver".to_owned()),
            _ => continue,
        };
        evidence.push((path(function), format!("{wanted}; {says}")));
        causes.push(format!("{} is set to have {wanted} and {has}", function.address));
        remedies.push(Remedy::command(
            format!("echo | sudo tee {}", path(function)),
            "takes the override back; then any driver may take the function",
        ));
    }
    if !causes.is_empty() {
        let outcome = Outcome::warn(format!("drivers are not as they are set: {}", causes.join("; ")))
            .cause(
                "a card moved or went, the driver is not loaded, or a tool set the override and did not go on",
            )
            .remedies(remedies);
        return evidence
            .into_iter()
            .fold(outcome, |outcome, (source, value)| outcome.evidence(source, value));
    }
    if let Some(function) = functions.iter().find(|function| function.driver_override.is_unread()) {
        return Outcome::unread(&function.driver_override, SUBJECT);
    }
    if overridden.is_empty() && at_boot.is_empty() {
        return Outcome::pass("no function is set to have a driver of somebody's choice")
            .evidence("/sys/bus/pci/devices/*/driver_override", "(null)");
    }
    let pass = Outcome::pass("functions have the drivers that they are set to have");
    let pass = overridden.iter().fold(pass, |outcome, function| {
        outcome.evidence(path(function), function.driver_override.known().map_or("", String::as_str))
    });
    at_boot.iter().fold(pass, |outcome, entry| {
        outcome.evidence(&entry.file, entry.driver.known().map_or("", String::as_str))
    })
}

/// `vfio-function-override`
pub(super) fn function(_: &HostFacts, function: &PciDevice) -> Outcome {
    match &function.driver_override {
        Fact::NotPresent => {
            Outcome::pass("any driver may take this function").evidence(path(function), "(null)")
        }
        // Drivers of VFIO for one kind of device are named after it: mlx5-vfio-pci, hisi-acc-vfio-pci.
        Fact::Known(driver) if driver.contains("vfio") => {
            Outcome::pass("this function is kept for VFIO").evidence(path(function), driver)
        }
        Fact::Known(driver) => Outcome::warn(format!("only {driver} may take this function"))
            .evidence(path(function), driver)
            .cause("driver_override names another driver, and the kernel lets no other one take the function")
            .remedy(Remedy::command(
                format!("sudo thruway bind {}", function.address),
                "sets the override to vfio-pci and remembers what it was; `thruway undo` gives it back",
            )),
        unread => Outcome::unread(unread, "which driver this function is set to have"),
    }
}
