//! The processor: who made it, its virtualization extension, and the hypervisor that we run under.
//!
//! Three sources say three things about the extension. The CPUID instruction says what the processor has (or what the
//! hypervisor lets us see of it), and needs no privilege. `/proc/cpuinfo` says what the kernel offers: it drops the flag
//! when firmware switched the extension off (Linux: arch/x86/kernel/cpu/feat_ctl.c, amd.c). The registers in which
//! firmware does that say so directly, to root.

mod hypervisor;
#[cfg(test)]
mod tests;
mod virtualization;

use serde::Serialize;

use crate::host::fact::Fact;
use crate::host::kernel::Kernel;
use crate::host::parse;
use crate::host::source::{CpuidLeaf, Source};
use crate::spec::cpuid;

pub use hypervisor::Hypervisor;
pub use virtualization::{Extension, Reason, Virtualization};

const CPUINFO: &str = "/proc/cpuinfo";

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
    /// CPUs that run.
    pub online: Fact<u32>,
    /// Hardware virtualization.
    pub virtualization: Virtualization,
    /// What we run under.
    pub hypervisor: Hypervisor,
}

/// The lines of the first processor in `/proc/cpuinfo`.
struct CpuInfo(Fact<String>);

impl CpuInfo {
    fn read(source: &dyn Source) -> Self {
        Self(source.text(CPUINFO))
    }

    fn value(&self, key: &str) -> Fact<String> {
        self.0.as_ref().and_then(|text| {
            let mut lines = text.lines().take_while(|line| !line.is_empty());
            let value = lines.find_map(|line| {
                let (name, value) = line.split_once(':')?;
                (name.trim_end() == key).then(|| value.trim().to_owned())
            });
            value.map_or(Fact::NotPresent, Fact::Known)
        })
    }

    /// Whether the flag is there; unknown without a line of flags.
    fn flag(&self, flag: &str) -> Fact<bool> {
        match self.value("flags") {
            Fact::NotPresent => {
                Fact::Unreadable { source: CPUINFO.to_owned(), reason: "it has no line of flags".to_owned() }
            }
            flags => flags.map(|flags| flags.split_ascii_whitespace().any(|word| word == flag)),
        }
    }
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
    let decimal = |key: &str| {
        info.value(key).parse(CPUINFO, |text| text.parse().map_err(|_| format!("`{key}` is not a number")))
    };
    Cpu {
        name: first_known(name(source), || info.value("model name")),
        family: first_known(numbers.as_ref().map(|numbers| numbers.0), || decimal("cpu family")),
        model: first_known(numbers.as_ref().map(|numbers| numbers.1), || decimal("model")),
        stepping: first_known(numbers.as_ref().map(|numbers| numbers.2), || decimal("stepping")),
        online: parse::required(info.0.as_ref(), CPUINFO).map(|text| {
            let count = text.lines().filter(|line| line.starts_with("processor")).count();
            u32::try_from(count).unwrap_or(u32::MAX)
        }),
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
