//! IOMMUs that the kernel runs or met: what they are, what they can do, which devices are behind them.
//!
//! Linux: Documentation/ABI/testing/sysfs-class-iommu, sysfs-class-iommu-intel-iommu, sysfs-class-iommu-amd-iommu.

use serde::Serialize;

use super::UNITS;
use crate::host::fact::Fact;
use crate::host::kernel_log::KernelLog;
use crate::host::parse;
use crate::host::source::Source;
use crate::spec::amdvi;
use crate::spec::pci::PciAddress;
use crate::spec::vtd::{self, SuperPage};

/// An IOMMU that the kernel runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unit {
    /// Its name in sysfs: `dmar0`, `ivhd0`.
    pub name: String,
    /// What it is.
    pub kind: UnitKind,
    /// The devices behind it, as the kernel names them.
    pub devices: Fact<Vec<String>>,
    /// What a unit of Intel VT-d can do; absent for others.
    #[serde(skip_serializing_if = "is_absent")]
    pub vtd: Fact<VtdUnit>,
    /// What a unit of AMD-Vi can do; absent for others.
    #[serde(skip_serializing_if = "is_absent")]
    pub amdvi: Fact<AmdViUnit>,
}

/// Kinds of IOMMU, by the name that their driver gives them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UnitKind {
    /// Intel Virtualization Technology for Directed I/O.
    IntelVtd,
    /// AMD I/O Virtualization Technology.
    AmdVi,
    /// Arm System Memory Management Unit.
    ArmSmmu,
    /// virtio-iommu.
    Virtio,
    /// Something else.
    Other,
}

/// A unit of Intel VT-d, its capability words decoded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VtdUnit {
    /// CAP as it is.
    pub capability: u64,
    /// ECAP as it is.
    pub extended_capability: u64,
    /// Version of the architecture, `1:0`; absent where the words come from the log.
    pub version: Fact<String>,
    /// Domain identifiers.
    pub domains_supported: u64,
    /// Whether DMA can be translated at all.
    pub translates_dma: bool,
    /// Widths of second-stage tables.
    pub address_widths_bits: Vec<u8>,
    /// Widest guest address.
    pub maximum_guest_address_width_bits: u8,
    /// Sizes of pages above 4 KiB.
    pub super_pages: Vec<SuperPage>,
    /// Entries that are not present are cached: an emulated unit.
    pub caching_mode: bool,
    /// Table walks snoop the processor's caches.
    pub coherent_walks: bool,
    /// Devices may have translation caches (ATS).
    pub device_tlb: bool,
    /// Interrupts can be remapped; whether they are is another matter.
    pub interrupt_remapping: bool,
    /// Interrupts can be remapped to x2APIC identifiers.
    pub extended_interrupt_mode: bool,
    /// Interrupts can be posted to a running virtual CPU.
    pub posted_interrupts: bool,
    /// Devices can be passed through untranslated.
    pub pass_through: bool,
    /// Software can make a device's accesses snoop the caches.
    pub snoop_control: bool,
    /// Two stages of translation.
    pub nested_translation: bool,
    /// Devices may ask for pages (PRI).
    pub page_requests: bool,
    /// Requests may carry the identifier of a process.
    pub pasid: bool,
    /// Scalable mode.
    pub scalable_mode: bool,
}

/// A unit of AMD-Vi, its feature words decoded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AmdViUnit {
    /// Extended Feature Register as it is.
    pub features: u64,
    /// Capability header as it is.
    pub capability_header: Fact<u32>,
    /// Width of page tables; absent if the field holds a reserved value.
    pub address_width_bits: Option<u8>,
    /// Devices may have translation caches (ATS).
    pub device_tlb: Fact<bool>,
    /// Interrupts can be remapped to x2APIC identifiers.
    pub x2apic: bool,
    /// Interrupts can be posted to a running virtual CPU.
    pub guest_virtual_apic: bool,
    /// Devices may ask for pages (PRI).
    pub page_requests: bool,
    /// Guest translation, with identifiers of processes.
    pub guest_translation: bool,
}

fn is_absent<T>(fact: &Fact<T>) -> bool {
    matches!(fact, Fact::NotPresent)
}

/// Reads the units named `names`.
pub(super) fn collect(source: &dyn Source, names: Vec<String>) -> Vec<Unit> {
    names.into_iter().map(|name| unit(source, name)).collect()
}

fn unit(source: &dyn Source, name: String) -> Unit {
    let kind = match name.as_str() {
        name if name.starts_with("dmar") => UnitKind::IntelVtd,
        name if name.starts_with("ivhd") => UnitKind::AmdVi,
        name if name.starts_with("smmu") => UnitKind::ArmSmmu,
        // virtio-iommu names its unit after the device that carries it.
        name if name.starts_with("virtio") || name.parse::<PciAddress>().is_ok() => UnitKind::Virtio,
        _ => UnitKind::Other,
    };
    let devices = format!("{UNITS}/{name}/devices");
    Unit {
        kind,
        devices: parse::required(source.list(&devices), &devices),
        vtd: if kind == UnitKind::IntelVtd { vtd_unit(source, &name) } else { Fact::NotPresent },
        amdvi: if kind == UnitKind::AmdVi { amdvi_unit(source, &name) } else { Fact::NotPresent },
        name,
    }
}

fn vtd_unit(source: &dyn Source, name: &str) -> Fact<VtdUnit> {
    let directory = format!("{UNITS}/{name}/intel-iommu");
    let word = |file: &str| {
        let path = format!("{directory}/{file}");
        parse::required(parse::number::<u64>(source, &path, 16), &path)
    };
    word("cap").and_then(|capability| {
        word("ecap").map(|extended_capability| VtdUnit {
            version: source.text(&format!("{directory}/version")),
            ..VtdUnit::decode(vtd::Capabilities { capability, extended_capability })
        })
    })
}

impl VtdUnit {
    fn decode(words: vtd::Capabilities) -> Self {
        Self {
            capability: words.capability,
            extended_capability: words.extended_capability,
            version: Fact::NotPresent,
            domains_supported: words.domains(),
            translates_dma: words.translates_dma(),
            address_widths_bits: words.address_widths_bits().collect(),
            maximum_guest_address_width_bits: words.maximum_guest_address_width_bits(),
            super_pages: words.super_pages().collect(),
            caching_mode: words.caching_mode(),
            coherent_walks: words.coherent_walks(),
            device_tlb: words.device_tlb(),
            interrupt_remapping: words.interrupt_remapping(),
            extended_interrupt_mode: words.extended_interrupt_mode(),
            posted_interrupts: words.posted_interrupts(),
            pass_through: words.pass_through(),
            snoop_control: words.snoop_control(),
            nested_translation: words.nested_translation(),
            page_requests: words.page_requests(),
            pasid: words.pasid(),
            scalable_mode: words.scalable_mode(),
        }
    }

    /// The widest I/O address that can be translated, in bits: what both the tables and the unit's address lines reach.
    #[must_use]
    pub fn address_width_bits(&self) -> Option<u8> {
        let tables = *self.address_widths_bits.iter().max()?;
        Some(tables.min(self.maximum_guest_address_width_bits))
    }
}

/// The kernel writes the feature word alone, or the second one in front of it (Linux 6.4: `EFR2:EFR`).
fn amdvi_unit(source: &dyn Source, name: &str) -> Fact<AmdViUnit> {
    let directory = format!("{UNITS}/{name}/amd-iommu");
    let path = format!("{directory}/features");
    let capability_header = parse::number::<u32>(source, &format!("{directory}/cap"), 16);
    parse::required(source.text(&path), &path)
        .parse(&path, |text| {
            let word = text.trim().rsplit(':').next().unwrap_or_default();
            u64::from_str_radix(word, 16)
                .map_err(|_| format!("`{}` is no word of features", parse::excerpt(&text)))
        })
        .map(|features| {
            let words = amdvi::Features(features);
            AmdViUnit {
                features,
                address_width_bits: words.address_width_bits(),
                device_tlb: capability_header.as_ref().map(|header| header & amdvi::HEADER_IOTLB != 0),
                capability_header,
                x2apic: words.x2apic(),
                guest_virtual_apic: words.guest_virtual_apic(),
                page_requests: words.page_requests(),
                guest_translation: words.guest_translation(),
            }
        })
}

impl Unit {
    /// The widest I/O address that the unit can translate, in bits; unknown for kinds that do not say.
    #[must_use]
    pub fn address_width_bits(&self) -> Option<u8> {
        match (&self.vtd, &self.amdvi) {
            (Fact::Known(vtd), _) => vtd.address_width_bits(),
            (_, Fact::Known(amdvi)) => amdvi.address_width_bits,
            _ => None,
        }
    }
}

/// A unit that the kernel met at boot and wrote its words into the log, whether it runs it or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LoggedUnit {
    /// Its name: `dmar0`.
    pub name: String,
    /// The message.
    pub message: String,
    /// What it can do.
    pub vtd: VtdUnit,
}

/// The units of Intel VT-d in the log (Linux: drivers/iommu/intel/dmar.c, `alloc_iommu`).
pub(super) fn logged(log: &KernelLog) -> Vec<LoggedUnit> {
    log.with(&["DMAR: dmar"]).filter_map(logged_unit).collect()
}

/// `DMAR: dmar0: reg_base_addr fed90000 ver 1:0 cap d2008c222f0686 ecap f00f4a`
fn logged_unit(message: &str) -> Option<LoggedUnit> {
    let (name, words) = message.strip_prefix("DMAR: ")?.split_once(": reg_base_addr ")?;
    let word = |key: &str| {
        let (_, behind) = words.split_once(key)?;
        u64::from_str_radix(behind.split(' ').next()?, 16).ok()
    };
    let words = vtd::Capabilities { capability: word(" cap ")?, extended_capability: word(" ecap ")? };
    Some(LoggedUnit { name: name.to_owned(), message: message.to_owned(), vtd: VtdUnit::decode(words) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::source::fake::{Entry, FakeHost};

    fn unit_with(name: &str, files: &[(&str, &str)]) -> Unit {
        let host = FakeHost::new(&[(&format!("{UNITS}/{name}/devices/0000:01:00.0"), Entry::Directory)]);
        for (file, text) in files {
            host.add(&[(&format!("{UNITS}/{name}/{file}"), Entry::Text(text))]);
        }
        unit(&host.source(), name.to_owned())
    }

    #[test]
    fn units_are_known_by_their_names() {
        use UnitKind::{AmdVi, ArmSmmu, IntelVtd, Other, Virtio};
        let kinds =
            ["dmar1", "ivhd0", "smmu3.0x1", "0000:00:1d.0", "other"].map(|name| unit_with(name, &[]).kind);
        assert_eq!(kinds, [IntelVtd, AmdVi, ArmSmmu, Virtio, Other]);
    }

    #[test]
    fn words_of_a_vtd_unit_are_read_and_decoded() {
        let files = [
            ("intel-iommu/cap", "d2008c222f0686"),
            ("intel-iommu/ecap", "f00f4a"),
            ("intel-iommu/version", "1:0"),
        ];
        let unit = unit_with("dmar0", &files);
        let vtd = unit.vtd.known().unwrap();
        assert_eq!((vtd.capability, vtd.version.known().unwrap().as_str()), (0xD2_008C_222F_0686, "1:0"));
        assert_eq!(unit.address_width_bits(), Some(48));
        assert_eq!(unit.devices, Fact::Known(vec!["0000:01:00.0".to_owned()]));
        assert_eq!(unit.amdvi, Fact::NotPresent);
    }

    #[test]
    fn a_unit_without_its_words_is_unread_and_not_without_features() {
        assert!(unit_with("dmar0", &[("intel-iommu/cap", "d2008c222f0686")]).vtd.is_unread());
        assert!(unit_with("dmar0", &[("intel-iommu/cap", "x"), ("intel-iommu/ecap", "0")]).vtd.is_unread());
        assert!(unit_with("ivhd0", &[("amd-iommu/features", "")]).amdvi.is_unread());
    }

    #[test]
    fn features_of_an_amd_unit_are_read_in_either_form() {
        for text in ["58f77ef22294ade", "0:58f77ef22294ade"] {
            let unit = unit_with("ivhd0", &[("amd-iommu/features", text), ("amd-iommu/cap", "190b640f")]);
            let amdvi = unit.amdvi.known().unwrap();
            assert_eq!(amdvi.features, 0x058F_77EF_2229_4ADE);
            assert_eq!((amdvi.guest_virtual_apic, &amdvi.device_tlb), (true, &Fact::Known(true)));
            assert_eq!(unit.address_width_bits(), Some(64));
        }
    }

    #[test]
    fn a_unit_that_does_not_run_is_known_from_the_log() {
        let log = |line: &str| logged(&KernelLog(Fact::Known(vec![line.to_owned()])));
        let found = log("DMAR: dmar0: reg_base_addr fed90000 ver 1:0 cap d2008c222f0086 ecap f00f4a");
        assert_eq!((found.len(), found[0].name.as_str(), found[0].vtd.translates_dma), (1, "dmar0", false));
        assert_eq!(log("DMAR: dmar0: No supported address widths. Not attempting DMA translation."), []);
    }
}
