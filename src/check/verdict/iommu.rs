//! Can this host confine devices? Whether the kernel runs an IOMMU is a fact; why it does not is judged here.
//!
//! Where several things are wrong at once, the one nearest to the hardware is told: Xen or another hypervisor, silicon,
//! firmware, kernel. What firmware describes (the ACPI table) and what the kernel runs (`/sys/class/iommu`) are asked,
//! never what the command line wishes; it only explains what is not there.

#[cfg(test)]
mod tests;

use super::Verdict;
use crate::host::HostFacts;
use crate::host::cpu::Reason;
use crate::host::fact::Fact;
use crate::host::firmware::Setting;
use crate::host::kernel_log::KernelLog;

const UNITS: &str = "/sys/class/iommu";
const TABLES: &str = "/sys/firmware/acpi/tables";
const COMMAND_LINE: &str = "/proc/cmdline";

/// The verdict.
pub(super) fn verdict(facts: &HostFacts) -> Verdict {
    match &facts.iommu.dma_remapping {
        Fact::Known(true) => running(facts),
        Fact::Known(false) => not_running(facts),
        Fact::Denied { source } => {
            Verdict::new(None, Reason::NoPermission, "whether the kernel runs an IOMMU may not be seen here")
                .evidence(source, "permission denied")
        }
        Fact::Unreadable { source, reason } => {
            Verdict::new(None, Reason::Unknown, "whether the kernel runs an IOMMU cannot be seen here")
                .evidence(source, reason)
        }
        Fact::NotPresent => {
            Verdict::new(None, Reason::Unknown, "whether the kernel runs an IOMMU cannot be seen here")
        }
    }
}

fn running(facts: &HostFacts) -> Verdict {
    let units = facts.iommu.units.known().map_or(&[][..], Vec::as_slice);
    let names: Vec<_> = units.iter().map(|unit| unit.name.as_str()).collect();
    let groups = facts.iommu.groups.known().into_iter().flatten().filter(|group| !group.no_iommu).count();
    Verdict::new(Some(true), Reason::Ok, format!("the kernel runs {} over {groups} groups", names.join(", ")))
        .evidence(UNITS, names.join(" "))
        .evidence("/sys/kernel/iommu_groups", format!("{groups} groups"))
}

fn not_running(facts: &HostFacts) -> Verdict {
    let iommu = &facts.iommu;
    if iommu.xen_initial_domain == Fact::Known(true) {
        let explanation = "Xen runs the IOMMU itself and hides it from this kernel: Xen's own tools (xl) pass devices \
                           through, VFIO cannot";
        return Verdict::new(Some(false), Reason::HiddenByHypervisor, explanation)
            .evidence("/proc/xen/capabilities", "control_d");
    }
    if let Some(units) = iommu.units.known().filter(|units| !units.is_empty()) {
        let names: Vec<_> = units.iter().map(|unit| unit.name.as_str()).collect();
        let explanation = format!("the kernel runs {}, and no device is behind it", names.join(", "));
        return Verdict::new(Some(false), Reason::Unknown, explanation).evidence(UNITS, names.join(" "));
    }
    match &iommu.acpi_tables {
        Fact::Known(tables) => match tables.first() {
            Some(table) => described(facts, table),
            None => not_described(facts),
        },
        Fact::Denied { source } => {
            let explanation =
                "the kernel shows no IOMMU, and whether firmware describes one may not be seen here";
            Verdict::new(None, Reason::NoPermission, explanation).evidence(source, "permission denied")
        }
        Fact::Unreadable { source, reason } => {
            let explanation =
                "the kernel shows no IOMMU, and whether firmware describes one cannot be seen here";
            Verdict::new(None, Reason::Unknown, explanation).evidence(source, reason)
        }
        Fact::NotPresent => Verdict::new(None, Reason::Unknown, "nothing is known about an IOMMU here"),
    }
}

/// Firmware describes no IOMMU.
fn not_described(facts: &HostFacts) -> Verdict {
    let verdict = match &facts.cpu.hypervisor.present {
        Fact::Known(true) => {
            let name = facts.cpu.hypervisor.name.as_deref().unwrap_or("the hypervisor");
            Verdict::new(
                Some(false),
                Reason::HiddenByHypervisor,
                format!("{name} shows this virtual machine no IOMMU; it must be configured to"),
            )
            .evidence("CPUID 0x1", "ECX bit 31 is set: a hypervisor is present")
        }
        Fact::Known(false) => bare_metal(facts),
        _ => Verdict::new(
            Some(false),
            Reason::Unknown,
            "firmware describes no IOMMU; whether a hypervisor hides it cannot be told",
        ),
    };
    verdict.evidence(TABLES, "no DMAR, IVRS, IORT or VIOT")
}

/// No hypervisor, no table: firmware switched it off, or there is none. A register or a live setting decides.
fn bare_metal(facts: &HostFacts) -> Verdict {
    let no = |reason, explanation: &str| Verdict::new(Some(false), reason, explanation);
    const CHIPSET: &str = "0000:00:00.0 CAPID0_A";
    match &facts.iommu.chipset_has_vtd {
        Fact::Known(false) => {
            return no(Reason::NotInHardware, "the chipset has no VT-d: its capability register says so")
                .evidence(CHIPSET, "bit 23 (VT-d disabled) is set");
        }
        Fact::Known(true) => {
            return no(
                Reason::OffInFirmware,
                "the chipset has VT-d, and firmware describes none: it is switched off in the firmware setup",
            )
            .evidence(CHIPSET, "bit 23 (VT-d disabled) is clear");
        }
        _ => {}
    }
    if let Some(off) = off_by_setting(facts) {
        return off;
    }
    no(
        Reason::Unknown,
        "firmware describes no IOMMU: it is switched off in the firmware setup, or this machine has none",
    )
}

/// The firmware's own setting, where the kernel shows it.
fn off_by_setting(facts: &HostFacts) -> Option<Verdict> {
    let setting =
        facts.firmware.setting(Setting::Iommu).filter(|setting| setting.enabled == Fact::Known(false))?;
    let value = setting.value.known().cloned().unwrap_or_default();
    let explanation = format!("the firmware setting `{}` is `{value}`", setting.name);
    Some(Verdict::new(Some(false), Reason::OffInFirmware, explanation).evidence(setting.path(), value))
}

/// Firmware describes an IOMMU in `table`, and the kernel runs none.
fn described(facts: &HostFacts, table: &str) -> Verdict {
    cannot_translate(facts)
        .or_else(|| broken_by_firmware(&facts.kernel_log))
        .or_else(|| off_by_argument(facts, table))
        .or_else(|| off_by_log(facts, table))
        .or_else(|| no_driver(facts, table))
        .unwrap_or_else(|| {
            let explanation = format!(
                "firmware describes an IOMMU ({table}), and the kernel does not run it; neither the command line nor \
                 what can be read of the kernel's log says why"
            );
            Verdict::new(Some(false), Reason::Unknown, explanation)
        })
        .evidence(format!("{TABLES}/{table}"), "present")
        .evidence(UNITS, "empty")
}

/// No unit can translate DMA, by the words that the kernel logged of each, or by what it said about them.
fn cannot_translate(facts: &HostFacts) -> Option<Verdict> {
    let units = &facts.iommu.logged_units;
    let by_words = units.first().filter(|_| units.iter().all(|unit| !unit.vtd.translates_dma));
    let said = facts.kernel_log.first(&["No supported address widths"]);
    if by_words.is_none() && (said.is_none() || units.iter().any(|unit| unit.vtd.translates_dma)) {
        return None;
    }
    let explanation = "the IOMMU cannot translate DMA: its capability word offers no address width; it remaps \
                       interrupts at most";
    let verdict = Verdict::new(Some(false), Reason::NotInHardware, explanation);
    let messages = by_words.map(|unit| unit.message.as_str()).into_iter().chain(said);
    Some(messages.fold(verdict, |verdict, message| verdict.evidence(KernelLog::SOURCE, message)))
}

/// Firmware left the table and no unit behind it (Linux: drivers/iommu/intel/dmar.c, `warn_invalid_dmar`).
fn broken_by_firmware(log: &KernelLog) -> Option<Verdict> {
    let message = log.first(&["DMAR reported at address"])?;
    let explanation = "firmware describes a unit that does not answer: VT-d is off in the firmware setup though its \
                       table is there, or the firmware is broken";
    Some(Verdict::new(Some(false), Reason::OffInFirmware, explanation).evidence(KernelLog::SOURCE, message))
}

/// An argument switches it off. Values of one parameter come in a list and the last one counts; `iommu=off` is for all
/// of them (Linux: Documentation/admin-guide/kernel-parameters.txt).
fn off_by_argument(facts: &HostFacts, table: &str) -> Option<Verdict> {
    let own = match table {
        "DMAR" => Some("intel_iommu"),
        "IVRS" => Some("amd_iommu"),
        _ => None,
    };
    let last_switch = |name| {
        let values = facts.kernel.parameter(name).flat_map(|value| value.split(','));
        values.filter(|value| matches!(*value, "on" | "off" | "force")).last()
    };
    let name = own.into_iter().chain(["iommu"]).find(|name| last_switch(name) == Some("off"))?;
    let explanation = format!("`{name}=off` on the kernel's command line switches it off");
    Some(
        Verdict::new(Some(false), Reason::OffInKernel, explanation)
            .evidence(COMMAND_LINE, facts.kernel.command_line.known().map_or("", String::as_str)),
    )
}

/// The log says that the kernel did not want it, or shows that it met Intel's units and was never told to use them.
fn off_by_log(facts: &HostFacts, table: &str) -> Option<Verdict> {
    let log = &facts.kernel_log;
    if let Some(message) = log.first(&["DMAR: IOMMU disabled"]) {
        return Some(
            Verdict::new(Some(false), Reason::OffInKernel, "the kernel switched it off at boot")
                .evidence(KernelLog::SOURCE, message),
        );
    }
    let met = (table == "DMAR").then(|| log.first(&["DMAR: Host address width"])).flatten()?;
    let asked = log.first(&["DMAR: IOMMU enabled", "Initialization failed"]).is_some()
        || facts.kernel.parameter("intel_iommu").next().is_some()
        || facts.kernel.command_line.is_unread();
    let explanation = "the kernel met the IOMMU and was not told to use it: it was built to leave Intel's IOMMU off \
                       unless `intel_iommu=on` is on its command line";
    (!asked).then(|| {
        Verdict::new(Some(false), Reason::OffInKernel, explanation)
            .evidence(KernelLog::SOURCE, met)
            .evidence(COMMAND_LINE, facts.kernel.command_line.known().map_or("", String::as_str))
    })
}

/// virtio-iommu is driven by a module.
fn no_driver(facts: &HostFacts, table: &str) -> Option<Verdict> {
    let modules = facts.kernel.modules.known().filter(|_| table == "VIOT")?;
    (!modules.iter().any(|module| module == "virtio_iommu")).then(|| {
        Verdict::new(Some(false), Reason::NoDriver, "the module virtio_iommu is not loaded")
            .evidence("/sys/module/virtio_iommu", "not there")
    })
}
