//! Interrupts: remapped, posted, in x2APIC mode; and the permission to do without remapping.

use super::{COMMAND_LINE, UNITS, command_line, units};
use crate::check::{Outcome, Remedy};
use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::host::firmware::Setting;

const INTERRUPTS: &str = "/proc/interrupts";

/// `iommu-interrupt-remapping`
pub(super) fn remapping(facts: &HostFacts) -> Outcome {
    if facts.iommu.dma_remapping == Fact::Known(false) {
        return Outcome::not_applicable("no IOMMU runs").evidence(UNITS, "no unit with a group behind it");
    }
    match &facts.iommu.interrupt_remapping {
        Fact::Known(true) => {
            Outcome::pass("interrupts are remapped").evidence(INTERRUPTS, "chips with the prefix IR-")
        }
        Fact::Known(false) => not_remapped(facts),
        unread => Outcome::unread(unread, "whether interrupts are remapped"),
    }
}

fn not_remapped(facts: &HostFacts) -> Outcome {
    let allowed =
        facts.iommu.unsafe_interrupts.parameters().into_iter().find(|(_, on)| **on == Fact::Known(true));
    let outcome = match allowed {
        Some((path, _)) => {
            Outcome::warn("interrupts are not remapped, and VFIO is told to hand devices out all the same")
                .evidence(path, "Y")
        }
        None => Outcome::fail("interrupts are not remapped: VFIO refuses to hand devices out"),
    };
    let outcome = outcome.evidence(INTERRUPTS, "no chip with the prefix IR-");
    let argument =
        facts.kernel.parameter("intremap").find(|value| value.split(',').any(|word| word == "off"));
    if let Some(value) = argument {
        let argument = format!("intremap={value}");
        return outcome
            .evidence(COMMAND_LINE, command_line(facts))
            .cause(format!("`{argument}` on the kernel's command line switches it off"))
            .remedy(Remedy::without_kernel_argument(facts, &argument));
    }
    let incapable = facts.iommu.units.known().into_iter().flatten().find_map(|unit| {
        unit.vtd.known().filter(|vtd| !vtd.interrupt_remapping).map(|vtd| (unit, vtd.extended_capability))
    });
    if let Some((unit, word)) = incapable {
        return outcome
            .evidence(format!("{UNITS}/{}/intel-iommu/ecap", unit.name), format!("{word:x}, bit 3 is clear"))
            .cause(format!("{} cannot remap interrupts", unit.name))
            .remedy(Remedy::hardware("a machine whose IOMMU remaps interrupts"));
    }
    outcome
        .cause("the units can, or do not say; firmware or the kernel left it off")
        .remedy(Remedy::firmware(facts, Setting::InterruptRemapping))
}

/// `iommu-unsafe-interrupts`
pub(super) fn unsafe_allowed(facts: &HostFacts) -> Outcome {
    let parameters = facts.iommu.unsafe_interrupts.parameters();
    if let Some((path, _)) = parameters.into_iter().find(|(_, allowed)| **allowed == Fact::Known(true)) {
        return Outcome::warn("VFIO may hand devices out without interrupt remapping")
            .evidence(path, "Y")
            .cause("`allow_unsafe_interrupts` was set, by modprobe.d, the command line or by hand")
            .remedy(Remedy::command(
                format!("echo N | sudo tee {path}"),
                "until the next boot; take the option out of /etc/modprobe.d and the command line, too",
            ));
    }
    if let Some((_, unread)) = parameters.into_iter().find(|(_, allowed)| allowed.is_unread()) {
        return Outcome::unread(unread, "whether unsafe interrupts are allowed");
    }
    let show = |allowed: &Fact<bool>| if allowed.known().is_some() { "N" } else { "not there" };
    let pass = Outcome::pass("VFIO insists on interrupt remapping");
    parameters.into_iter().fold(pass, |outcome, (path, allowed)| outcome.evidence(path, show(allowed)))
}

/// `iommu-posted-interrupts`: on all units, or the kernel uses it on none (Linux: drivers/iommu/intel/irq_remapping.c).
pub(super) fn posted(facts: &HostFacts) -> Outcome {
    const SUBJECT: &str = "whether interrupts can be posted";
    let units = match units(facts, SUBJECT) {
        Ok(units) => units,
        Err(outcome) => return outcome,
    };
    if let Some(value) = facts.kernel.parameter("intremap").find(|value| value.contains("nopost")) {
        return Outcome::warn("interrupts are not posted")
            .evidence(COMMAND_LINE, command_line(facts))
            .cause(format!("`intremap={value}` switches posted interrupts off"))
            .remedy(Remedy::without_kernel_argument(facts, &format!("intremap={value}")));
    }
    let mut outcome = Outcome::pass("every unit can post interrupts");
    for unit in units {
        let directory = format!("{UNITS}/{}", unit.name);
        let (can, source, word) = match (&unit.vtd, &unit.amdvi) {
            (Fact::Known(vtd), _) => {
                (vtd.posted_interrupts, format!("{directory}/intel-iommu/cap"), vtd.capability)
            }
            (_, Fact::Known(amdvi)) => {
                (amdvi.guest_virtual_apic, format!("{directory}/amd-iommu/features"), amdvi.features)
            }
            (Fact::NotPresent, Fact::NotPresent) => {
                return Outcome::not_applicable(format!("{} is of a kind that does not say", unit.name));
            }
            (Fact::NotPresent, unread) => return Outcome::unread(unread, SUBJECT),
            (unread, _) => return Outcome::unread(unread, SUBJECT),
        };
        if !can {
            return Outcome::warn("interrupts of passed-through devices cannot be posted")
                .evidence(source, format!("{word:x}"))
                .cause(format!("{} does not have the ability, and all units need it", unit.name))
                .remedy(Remedy::hardware(
                    "a server processor (Xeon E5 v4 or later, EPYC); elsewhere each interrupt costs an exit",
                ));
        }
        outcome = outcome.evidence(source, format!("{word:x}"));
    }
    outcome
}

/// `iommu-x2apic-opt-out`
pub(super) fn x2apic_opt_out(facts: &HostFacts) -> Outcome {
    const TABLE: &str = "/sys/firmware/acpi/tables/DMAR";
    match &facts.iommu.x2apic_opt_out {
        Fact::Known(false) => Outcome::pass("firmware leaves x2APIC to the kernel")
            .evidence(TABLE, "flag X2APIC_OPT_OUT is clear"),
        Fact::Known(true) => Outcome::warn("firmware asks the kernel not to use x2APIC")
            .evidence(TABLE, "flag X2APIC_OPT_OUT is set")
            .cause("the firmware's table sets X2APIC_OPT_OUT, often with a setting of its own in the setup")
            .remedy(Remedy::firmware(facts, Setting::X2apic))
            .remedy(Remedy::kernel_argument(facts, "intremap=no_x2apic_optout")),
        Fact::NotPresent => Outcome::not_applicable("firmware has no DMAR table, in which it could ask"),
        unread => Outcome::unread(unread, "whether firmware opts out of x2APIC"),
    }
}
