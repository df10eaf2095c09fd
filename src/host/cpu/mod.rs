//! The processor: who made it, its virtualization extension, and the hypervisor that we run under.
//!
//! Three sources say three things about the extension. The CPUID instruction says what the processor has (or what the
//! hypervisor lets us see of it), and needs no privilege. `/proc/cpuinfo` says what the kernel offers: it drops the flag
//! when firmware switched the extension off (Linux: arch/x86/kernel/cpu/feat_ctl.c, amd.c). The registers in which
//! firmware does that say so directly, to root.

mod abilities;
mod hypervisor;
mod info;
mod registers;
#[cfg(test)]
pub(in crate::host) mod tests;
mod virtualization;

use serde::Serialize;

use crate::host::fact::Fact;
use crate::host::kernel::Kernel;
use crate::host::parse;
use crate::host::source::{CpuidLeaf, Source};
use crate::spec::cpuid;
use info::{CPUINFO, CpuInfo};

pub use abilities::{Abilities, Ability};
pub use hypervisor::Hypervisor;
pub use info::Difference;
pub use registers::{FeatureControl, VmCr};
pub use virtualization::{Extension, Reason, Virtualization};

/// The processor.
#[derive(Debug, Clone, Serialize)]
pub struct Cpu {
    /// Vendor, as the processor spells it: `GenuineIntel`, `AuthenticAMD`.
    pub vendor: Fact<String>,
    /// Name of the model.
    pub name: Fact<String>,
    /// Family, extended part added.
    pub family: Fact<u32>,
    /// Model within the family, extended part added.
    pub model: Fact<u32>,
    /// Stepping.
    pub stepping: Fact<u32>,
    /// Revision of the microcode that the first CPU runs.
    pub microcode_revision: Fact<u32>,
    /// CPUs that run.
    pub online: Fact<u32>,
    /// CPUs that share a core.
    pub threads_per_core: Fact<u32>,
    /// In what CPUs are not like the first one; none where all agree.
    pub differences: Fact<Vec<Difference>>,
    /// Width of a physical address.
    pub physical_address_bits: Fact<u8>,
    /// Width of a linear address.
    pub linear_address_bits: Fact<u8>,
    /// Whether it has pages of 1 GiB.
    pub gigabyte_pages: Fact<bool>,
    /// Hardware virtualization.
    pub virtualization: Virtualization,
    /// What we run under.
    pub hypervisor: Hypervisor,
}

/// A leaf, if the processor's `highest` leaf of its range says that there is one. Out of range processors of Intel
/// answer with another leaf's registers.
fn leaf_below(source: &dyn Source, highest_leaf: u32, leaf: u32) -> Fact<CpuidLeaf> {
    source.cpuid(highest_leaf, 0).and_then(|highest| {
        let in_range = highest.eax >= leaf && highest.eax >> 16 == highest_leaf >> 16;
        if in_range { source.cpuid(leaf, 0) } else { Fact::NotPresent }
    })
}

/// Reads the processor.
pub(super) fn collect(source: &dyn Source, kernel: &Kernel) -> Cpu {
    let info = CpuInfo::read(source);
    let features = leaf_below(source, cpuid::LEAF_VENDOR, cpuid::LEAF_FEATURES);
    let numbers = features.as_ref().map(|leaf| leaf.family_model_stepping());
    let vendor = source.cpuid(cpuid::LEAF_VENDOR, 0).map(|leaf| leaf.vendor());
    let hypervisor = Hypervisor::collect(source, &features, &info);
    let vendor = parse::required(first_known(vendor, || info.value("vendor_id")), "CPUID 0x0");
    let widths = address_widths(source, &info);
    Cpu {
        name: first_known(name(source), || info.value("model name")),
        family: first_known(numbers.as_ref().map(|numbers| numbers.0), || info.number("cpu family")),
        model: first_known(numbers.as_ref().map(|numbers| numbers.1), || info.number("model")),
        stepping: first_known(numbers.as_ref().map(|numbers| numbers.2), || info.number("stepping")),
        microcode_revision: microcode(&info),
        online: parse::required(info.count(), CPUINFO),
        threads_per_core: threads_per_core(&info),
        differences: parse::required(info.differences(), CPUINFO),
        physical_address_bits: widths.as_ref().map(|widths| widths.0),
        linear_address_bits: widths.map(|widths| widths.1),
        gigabyte_pages: gigabyte_pages(source, &info),
        virtualization: Virtualization::collect(source, kernel, &vendor, &hypervisor, &info),
        vendor,
        hypervisor,
    }
}

/// `first` if it is known; else `second` if that is; else `first` with its reason.
fn first_known<T>(first: Fact<T>, second: impl FnOnce() -> Fact<T>) -> Fact<T> {
    if first.known().is_some() {
        return first;
    }
    match second() {
        Fact::Known(value) => Fact::Known(value),
        _ => first,
    }
}

fn name(source: &dyn Source) -> Fact<String> {
    let mut name = String::new();
    for part in 0..3 {
        match leaf_below(source, cpuid::LEAF_EXTENDED, cpuid::LEAF_NAME + part) {
            Fact::Known(leaf) => name.push_str(&leaf.name_part()),
            other => return other.map(|_| String::new()),
        }
    }
    Fact::Known(name.split_ascii_whitespace().collect::<Vec<_>>().join(" "))
}

/// The revision of the microcode, which the kernel prints in hexadecimal; absent where it has no driver for it.
fn microcode(info: &CpuInfo) -> Fact<u32> {
    info.value("microcode").parse(CPUINFO, |text| {
        let digits = text.strip_prefix("0x").unwrap_or(&text);
        u32::from_str_radix(digits, 16).map_err(|_| "`microcode` is not a number")
    })
}

/// CPUs of a package by its cores; absent where the kernel does not tell of packages.
fn threads_per_core(info: &CpuInfo) -> Fact<u32> {
    info.number("siblings").and_then(|siblings| {
        let cores = info.number("cpu cores");
        cores.and_then(|cores| siblings.checked_div(cores).map_or(Fact::NotPresent, Fact::Known))
    })
}

/// Bits of physical and of linear addresses.
fn address_widths(source: &dyn Source, info: &CpuInfo) -> Fact<(u8, u8)> {
    let by_cpuid = leaf_below(source, cpuid::LEAF_EXTENDED, cpuid::LEAF_ADDRESS_SIZES).map(|leaf| {
        let [physical, linear, ..] = leaf.eax.to_le_bytes();
        (physical, linear)
    });
    first_known(by_cpuid, || {
        info.value("address sizes").parse(CPUINFO, |text| {
            let mut numbers = text.split(|c: char| !c.is_ascii_digit()).filter(|word| !word.is_empty());
            let mut bits = || numbers.next().and_then(|digits| digits.parse().ok());
            bits().zip(bits()).ok_or("`address sizes` has no two numbers")
        })
    })
}

fn gigabyte_pages(source: &dyn Source, info: &CpuInfo) -> Fact<bool> {
    let by_cpuid = leaf_below(source, cpuid::LEAF_EXTENDED, cpuid::LEAF_EXTENDED_FEATURES)
        .map(|leaf| leaf.edx & cpuid::EXTENDED_EDX_1GIB_PAGES != 0);
    first_known(by_cpuid, || info.flag("pdpe1gb"))
}
