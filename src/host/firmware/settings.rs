//! Settings of the firmware, read from the firmware: what drivers of Dell, Lenovo and HP show in the class
//! `firmware-attributes`.
//!
//! Linux: Documentation/ABI/testing/sysfs-class-firmware-attributes. Firmware names its settings as it likes; names are
//! compared without case and punctuation.

use serde::Serialize;

use crate::host::fact::Fact;
use crate::host::parse;
use crate::host::source::Source;

const CLASS: &str = "/sys/class/firmware-attributes";

/// A setting of the firmware that bears on virtualization, whatever a maker calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Setting {
    /// The processor's virtualization extension: VT-x, SVM.
    Virtualization,
    /// The IOMMU: VT-d, AMD-Vi.
    Iommu,
    /// Interrupt remapping, where it is a setting of its own.
    InterruptRemapping,
    /// The interrupt controller mode x2APIC.
    X2apic,
    /// Memory windows of PCI above 4 GiB.
    Above4g,
    /// Resizable BARs.
    ResizableBar,
    /// Room for virtual functions.
    Sriov,
    /// Access Control Services.
    Acs,
    /// Alternative Routing-ID Interpretation.
    Ari,
    /// Advanced Error Reporting; some firmware shows ACS only with it.
    Aer,
    /// Secure Boot.
    SecureBoot,
    /// Protection against DMA before and beside the kernel, with which VT-d may not be switched off.
    KernelDmaProtection,
}

/// Names of the settings, without case and punctuation, as Dell, Lenovo and HP spell them.
const NAMES: [(&str, Setting); 32] = [
    ("virtualization", Setting::Virtualization),
    ("virtualizationtechnology", Setting::Virtualization),
    ("virtualizationtechnologyvtx", Setting::Virtualization),
    ("intelvirtualizationtechnology", Setting::Virtualization),
    ("intelrvirtualizationtechnology", Setting::Virtualization),
    ("amdvt", Setting::Virtualization),
    ("amdvtechnology", Setting::Virtualization),
    ("svmcpuvirtualization", Setting::Virtualization),
    ("svmmode", Setting::Virtualization),
    ("vtfordirectio", Setting::Iommu),
    ("vtdfeature", Setting::Iommu),
    ("intelvtdfeature", Setting::Iommu),
    ("vtd", Setting::Iommu),
    ("virtualizationtechnologyfordirectedio", Setting::Iommu),
    ("virtualizationtechnologyfordirectediovtd", Setting::Iommu),
    ("iommu", Setting::Iommu),
    ("amdiommu", Setting::Iommu),
    ("interruptremapping", Setting::InterruptRemapping),
    ("x2apic", Setting::X2apic),
    ("x2apicmode", Setting::X2apic),
    ("mmioabove4gb", Setting::Above4g),
    ("above4gdecoding", Setting::Above4g),
    ("resizablebar", Setting::ResizableBar),
    ("resizablebarstate", Setting::ResizableBar),
    ("sriovglobalenable", Setting::Sriov),
    ("sriov", Setting::Sriov),
    ("sriovsupport", Setting::Sriov),
    ("acsenable", Setting::Acs),
    ("arisupport", Setting::Ari),
    ("secureboot", Setting::SecureBoot),
    ("kerneldma", Setting::KernelDmaProtection),
    ("kerneldmaprotection", Setting::KernelDmaProtection),
];

/// A setting with the value that firmware shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LiveSetting {
    /// The kernel's driver: `dell-wmi-sysman`, `thinklmi`, `hp-bioscfg`.
    pub driver: String,
    /// The firmware's own name.
    pub name: String,
    /// What it is.
    pub setting: Setting,
    /// The value now; root alone may read it on some makes.
    pub value: Fact<String>,
    /// The values that it may have.
    pub possible_values: Fact<Vec<String>>,
    /// Whether the value says that it is on; absent for values such as `Auto`.
    pub enabled: Fact<bool>,
}

impl LiveSetting {
    /// The value that switches the setting on, or off.
    #[must_use]
    pub fn value_for(&self, on: bool) -> Option<&str> {
        let values = self.possible_values.known()?;
        values.iter().map(String::as_str).find(|value| meaning(value) == Some(on))
    }

    /// Where the kernel shows it.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{CLASS}/{}/attributes/{}/current_value", self.driver, self.name)
    }
}

pub(super) fn collect(source: &dyn Source) -> Fact<Vec<LiveSetting>> {
    let drivers = crate::host::list_or_empty(source, CLASS, "/sys/class");
    drivers.and_then(|drivers| {
        let mut settings = Vec::new();
        for driver in drivers {
            match source.list(&format!("{CLASS}/{driver}/attributes")) {
                Fact::Known(names) => {
                    settings.extend(names.iter().filter_map(|name| live(source, &driver, name)));
                }
                Fact::NotPresent => {}
                unread => return unread.map(|_| Vec::new()),
            }
        }
        Fact::Known(settings)
    })
}

fn live(source: &dyn Source, driver: &str, name: &str) -> Option<LiveSetting> {
    let plain: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    let (_, setting) = NAMES.iter().find(|(known, _)| plain.eq_ignore_ascii_case(known))?;
    let text =
        |file: &str| parse::optional_text(source, &format!("{CLASS}/{driver}/attributes/{name}/{file}"));
    let value = text("current_value");
    Some(LiveSetting {
        driver: driver.to_owned(),
        name: name.to_owned(),
        setting: *setting,
        enabled: value.as_ref().and_then(|value| meaning(value).map_or(Fact::NotPresent, Fact::Known)),
        value,
        possible_values: text("possible_values").map(|values| {
            values.split(';').map(str::trim).filter(|value| !value.is_empty()).map(str::to_owned).collect()
        }),
    })
}

/// Whether a value means on or off.
fn meaning(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "enabled" | "enable" | "on" | "yes" => Some(true),
        "disabled" | "disable" | "off" | "no" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::source::fake::{Entry, FakeHost};

    const DELL: &str = "/sys/class/firmware-attributes/dell-wmi-sysman/attributes";

    fn dell() -> FakeHost {
        FakeHost::new(&[
            (&format!("{DELL}/VtForDirectIo/current_value"), Entry::Text("Disabled")),
            (&format!("{DELL}/VtForDirectIo/possible_values"), Entry::Text("Disabled;Enabled;")),
            (&format!("{DELL}/Virtualization/current_value"), Entry::Text("Enabled")),
            (&format!("{DELL}/Asset/current_value"), Entry::Text("0815")),
        ])
    }

    #[test]
    fn settings_that_matter_are_told_with_value_and_meaning() {
        let settings = collect(&dell().source());
        let [virtualization, iommu] = settings.known().unwrap().as_slice() else { panic!("{settings:?}") };
        assert_eq!((iommu.setting, &iommu.enabled), (Setting::Iommu, &Fact::Known(false)));
        assert_eq!((iommu.value_for(true), iommu.value_for(false)), (Some("Enabled"), Some("Disabled")));
        assert_eq!(
            (virtualization.setting, &virtualization.enabled),
            (Setting::Virtualization, &Fact::Known(true))
        );
        assert_eq!(virtualization.value_for(true), None);
    }

    #[test]
    fn names_are_compared_without_case_and_punctuation() {
        let hp = "/sys/class/firmware-attributes/hp-bioscfg/attributes";
        let host = FakeHost::new(&[(
            &format!("{hp}/Virtualization Technology for Directed I-O (VTd)/current_value"),
            Entry::Text("Auto"),
        )]);
        let settings = collect(&host.source());
        let [iommu] = settings.known().unwrap().as_slice() else { panic!("{settings:?}") };
        assert_eq!((iommu.setting, &iommu.enabled), (Setting::Iommu, &Fact::NotPresent));
    }

    #[test]
    fn a_value_that_may_not_be_read_is_neither_on_nor_off() {
        let settings = collect(&dell().source_without(&["current_value"]));
        assert!(settings.known().unwrap().iter().all(|live| live.enabled.is_unread()));
    }

    #[test]
    fn a_machine_without_such_a_driver_shows_no_settings() {
        let host = FakeHost::new(&[("/sys/class/net", Entry::Directory)]);
        assert_eq!(collect(&host.source()), Fact::Known(Vec::new()));
        assert!(collect(&FakeHost::new(&[]).source()).is_unread());
    }
}
