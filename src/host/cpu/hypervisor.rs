//! The hypervisor that we run under: what CPUID says of it, and what firmware calls the machine.

use serde::Serialize;

use super::first_known;
use super::info::CpuInfo;
use crate::host::fact::Fact;
use crate::host::parse;
use crate::host::source::{CpuidLeaf, Source};
use crate::spec::cpuid;

const DMI: &str = "/sys/class/dmi/id";

/// The hypervisor that we run under, if we do.
#[derive(Debug, Clone, Serialize)]
pub struct Hypervisor {
    /// Whether there is one.
    pub present: Fact<bool>,
    /// How it signs its CPUID leaf.
    pub signature: Fact<String>,
    /// Its name, if the signature or the firmware tells it.
    pub name: Option<String>,
    /// Maker of the machine, as its firmware says (DMI).
    pub system_vendor: Fact<String>,
    /// Name of the machine, as its firmware says (DMI).
    pub system_product: Fact<String>,
}

impl Hypervisor {
    /// Reads who answers CPUID; `features` is leaf 1.
    pub(super) fn collect(source: &dyn Source, features: &Fact<CpuidLeaf>, info: &CpuInfo) -> Self {
        let by_cpuid = features.as_ref().map(|leaf| leaf.ecx & cpuid::FEATURES_ECX_HYPERVISOR != 0);
        let present = parse::required(first_known(by_cpuid.clone(), || info.flag("hypervisor")), "CPUID 0x1");
        let signature = match by_cpuid {
            Fact::Known(true) => signature(source),
            Fact::Known(false) => Fact::NotPresent,
            unread => unread.map(|_| String::new()),
        };
        let dmi = |name: &str| source.text(&format!("{DMI}/{name}")).map(|text| text.trim().to_owned());
        let (system_vendor, system_product) = (dmi("sys_vendor"), dmi("product_name"));
        let by_signature = signature.known().and_then(|signature| cpuid::hypervisor_name(signature));
        let name = match (by_signature, &present) {
            (None, Fact::Known(true)) => by_firmware(&system_vendor, &system_product),
            (name, _) => name,
        };
        Self { name: name.map(str::to_owned), present, signature, system_vendor, system_product }
    }
}

/// The signature of the first hypervisor leaf. KVM may show Hyper-V's leaves there and its own behind them.
fn signature(source: &dyn Source) -> Fact<String> {
    let first = source.cpuid(cpuid::LEAF_HYPERVISOR, 0).map(|leaf| leaf.signature());
    if first.known().is_some_and(|signature| signature == "Microsoft Hv") {
        let second = source.cpuid(cpuid::LEAF_HYPERVISOR_SECOND, 0).map(|leaf| leaf.signature());
        if second.known().is_some_and(|signature| signature == "KVMKVMKVM") {
            return second;
        }
    }
    first
}

/// The hypervisor that makes machines of this name.
fn by_firmware(vendor: &Fact<String>, product: &Fact<String>) -> Option<&'static str> {
    Some(match (vendor.known()?.as_str(), product.known().map_or("", String::as_str)) {
        ("QEMU", _) => "QEMU",
        ("VMware, Inc.", _) => "VMware",
        ("innotek GmbH", _) => "VirtualBox",
        ("Xen", _) => "Xen",
        ("Microsoft Corporation", "Virtual Machine") => "Hyper-V",
        ("Parallels Software International Inc." | "Parallels International GmbH.", _) => "Parallels",
        ("Amazon EC2", _) => "Amazon EC2",
        ("Google", "Google Compute Engine") => "Google Compute Engine",
        _ => return None,
    })
}
