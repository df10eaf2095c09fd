//! Firmware: how the machine booted, who made it, what its tables say, and which of its settings the kernel shows.
//!
//! Tables are facts about firmware, not about the kernel: a DMAR table says what firmware offers, [`crate::host::iommu`]
//! says what runs.

mod boot;
mod dmi;
mod settings;
mod tables;
#[cfg(test)]
mod tests;

use serde::Serialize;

use crate::host::fact::Fact;
use crate::host::kernel::Kernel;
use crate::host::source::Source;
use crate::spec::dmar::Dmar;
use crate::spec::ivrs::Ivrs;

pub use boot::BootMode;
pub use dmi::Dmi;
pub use settings::{LiveSetting, Setting};

/// Firmware of a host.
#[derive(Debug, Clone, Serialize)]
pub struct Firmware {
    /// The interface over which it started the kernel.
    pub boot_mode: Fact<BootMode>,
    /// Whether it enforces Secure Boot; absent where it has none.
    pub secure_boot: Fact<bool>,
    /// The kernel's lockdown, `none`, `integrity` or `confidentiality`; absent where the kernel has none.
    pub lockdown: Fact<String>,
    /// What firmware calls the machine and itself.
    pub dmi: Dmi,
    /// Names of its ACPI tables.
    pub acpi_tables: Fact<Vec<String>>,
    /// The table of Intel's IOMMUs; absent if there is none.
    pub dmar: Fact<Dmar>,
    /// The table of AMD's IOMMUs; absent if there is none.
    pub ivrs: Fact<Ivrs>,
    /// Whether the kernel leaves x2APIC mode alone because the DMAR table asks so; absent if it does not ask.
    pub x2apic_opted_out: Fact<bool>,
    /// Settings that the kernel shows and that bear on virtualization, by driver and name.
    pub settings: Fact<Vec<LiveSetting>>,
}

impl Firmware {
    /// The value that firmware itself shows for `setting`, if the kernel has a driver that asks it.
    #[must_use]
    pub fn setting(&self, setting: Setting) -> Option<&LiveSetting> {
        self.settings.known()?.iter().find(|live| live.setting == setting)
    }
}

pub(super) fn collect(source: &dyn Source, kernel: &Kernel) -> Firmware {
    let boot_mode = BootMode::collect(source);
    let acpi_tables = tables::names(source);
    let dmar = tables::dmar(source, &acpi_tables);
    Firmware {
        secure_boot: boot::secure_boot(source, &boot_mode),
        boot_mode,
        lockdown: boot::lockdown(source),
        dmi: Dmi::collect(source),
        ivrs: tables::ivrs(source, &acpi_tables),
        acpi_tables,
        x2apic_opted_out: tables::x2apic_opted_out(&dmar, kernel),
        dmar,
        settings: settings::collect(source),
    }
}
