//! Which features the guest sees: those of the model that KVM can offer here, with single ones switched by name.

use std::collections::BTreeSet;

use kvm_bindings::{CpuId, kvm_cpuid_entry2};

use super::{TscDeadline, is_amd};
use crate::spec::cpu_feature::{self, AMD_ALIASES, Bit, Class, Feature, Level, Register};
use crate::spec::cpuid::{
    LEAF_AMX, LEAF_AMX_PRODUCTS, LEAF_AVX10, LEAF_EXTENDED_FEATURES, LEAF_FEATURES, LEAF_HYPERVISOR,
    LEAF_KEY_LOCKER, LEAF_PERFORMANCE, LEAF_SGX, LEAF_STRUCTURED_FEATURES, LEAF_SVM, LEAF_TRACE, LEAF_XSAVE,
    xsave,
};
use crate::vmm::vcpu::config::CpuConfig;

/// Why this host cannot make the processor that is asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FeatureError {
    /// A feature is switched on that is not there.
    #[error(
        "this host's processor or its KVM does not offer {}; take it out of `features`, or run on a host that has it",
        .0.join(", ")
    )]
    Missing(Vec<&'static str>),
    /// A level is asked for that the host does not reach.
    #[error(
        "this host's processor is no {}: it has no {}; {}",
        level.name(),
        missing.join(", "),
        match best {
            Some(best) => format!("`model: {}` is the highest that it can be", best.name()),
            None => "it is none of the levels, so use `model: host`".to_owned(),
        }
    )]
    Level {
        /// The level.
        level: Level,
        /// What of it the host does not have.
        missing: Vec<&'static str>,
        /// The highest level that the host reaches.
        best: Option<Level>,
    },
    /// More leaves than KVM takes.
    #[error("this host's KVM offers more CPUID leaves than it takes")]
    TooMany,
}

/// Hidden unless they are switched on: a guest seldom runs machines of its own, and its processor is safer without.
const HIDDEN: [&str; 2] = ["vmx", "svm"];

/// Leaves that tell of a feature in detail; levels have none of these.
const DETAILS: [u32; 7] =
    [LEAF_PERFORMANCE, LEAF_SGX, LEAF_TRACE, LEAF_KEY_LOCKER, LEAF_AMX, LEAF_AMX_PRODUCTS, LEAF_AVX10];

/// What of `supported`, KVM's offer, the processors of `config` have.
///
/// # Errors
/// [`FeatureError`] names what the host cannot do.
pub fn select(supported: &CpuId, deadline: TscDeadline, config: &CpuConfig) -> Result<CpuId, FeatureError> {
    let mut entries = offer(supported, deadline);
    let wanted: BTreeSet<&str> = config
        .features
        .switched(true)
        .flat_map(cpu_feature::with_needs)
        .map(|feature| feature.name)
        .collect();
    let unwanted: BTreeSet<&str> = config
        .features
        .switched(false)
        .flat_map(cpu_feature::with_dependents)
        .map(|feature| feature.name)
        .collect();
    let missing: Vec<&str> = config
        .features
        .switched(true)
        .flat_map(cpu_feature::with_needs)
        .filter(|feature| !has(&entries, feature))
        .map(|feature| feature.name)
        .collect();
    if !missing.is_empty() {
        return Err(FeatureError::Missing(
            missing.into_iter().collect::<BTreeSet<_>>().into_iter().collect(),
        ));
    }
    if let Some(level) = config.model.level() {
        let lacking = |level: Level| {
            let of_level =
                cpu_feature::ALL.iter().filter(move |f| matches!(f.class, Class::Level(l) if l <= level));
            of_level.filter(|f| !has(&entries, f) && !unwanted.contains(f.name)).map(|f| f.name)
        };
        let missing: Vec<&str> = lacking(level).collect();
        if !missing.is_empty() {
            let best = Level::ALL.into_iter().rev().find(|level| lacking(*level).next().is_none());
            return Err(FeatureError::Level { level, missing, best });
        }
        restrict(&mut entries, level, &wanted);
    }
    for feature in cpu_feature::ALL {
        if unwanted.contains(feature.name) || HIDDEN.contains(&feature.name) && !wanted.contains(feature.name)
        {
            clear(&mut entries, feature.bit);
        }
    }
    let present = |name: &str| cpu_feature::find(name).is_some_and(|feature| has(&entries, feature));
    let (nested, paravirtual) = (present("svm"), present("hypervisor"));
    let (saved, components) = (present("xsave"), components(&present));
    entries.retain(|entry| match entry.function {
        LEAF_SVM => nested,
        LEAF_XSAVE => saved,
        function if function & 0xFFFF_0000 == LEAF_HYPERVISOR => paravirtual,
        _ => true,
    });
    prune_saved_state(&mut entries, components);
    CpuId::from_entries(&entries).map_err(|_| FeatureError::TooMany)
}

/// KVM's offer with what it emulates but does not list, and without what no guest can have: MONITOR idles a processor that
/// is not the guest's.
fn offer(supported: &CpuId, deadline: TscDeadline) -> Vec<kvm_cpuid_entry2> {
    let mut entries = supported.as_slice().to_vec();
    for entry in entries.iter_mut().filter(|entry| entry.function == LEAF_FEATURES) {
        use crate::spec::cpuid::{FEATURES_ECX_HYPERVISOR, FEATURES_ECX_MONITOR, FEATURES_ECX_TSC_DEADLINE};
        entry.ecx |= FEATURES_ECX_HYPERVISOR;
        entry.ecx &= !(FEATURES_ECX_MONITOR | FEATURES_ECX_TSC_DEADLINE);
        if deadline.0 {
            entry.ecx |= FEATURES_ECX_TSC_DEADLINE;
        }
    }
    entries
}

/// Takes away all that is not in `level`, part of the machine, or in `wanted`.
fn restrict(entries: &mut Vec<kvm_cpuid_entry2>, level: Level, wanted: &BTreeSet<&str>) {
    let kept = |feature: &&Feature| {
        let is_in_class = match feature.class {
            Class::Level(other) => other <= level,
            Class::Machine => true,
            Class::Beyond => false,
        };
        is_in_class || wanted.contains(feature.name)
    };
    let amd = is_amd(entries);
    entries.retain(|entry| !DETAILS.contains(&entry.function));
    for feature in cpu_feature::ALL.iter().filter(|feature| !kept(feature)) {
        clear(entries, feature.bit);
    }
    // Bits without a name go where features stand in rows.
    for entry in entries {
        let mask = |register: Register| {
            let here =
                |bit: &Bit| (bit.leaf, bit.subleaf, bit.register) == (entry.function, entry.index, register);
            let bits = cpu_feature::ALL.iter().filter(kept).map(|feature| feature.bit).filter(here);
            bits.fold(0, |mask, bit| mask | 1 << bit.number)
        };
        let [a, b, c, d] = [Register::Eax, Register::Ebx, Register::Ecx, Register::Edx].map(mask);
        match (entry.function, entry.index) {
            (LEAF_FEATURES, _) => (entry.ecx, entry.edx) = (entry.ecx & c, entry.edx & d),
            // EAX is the number of the last sub-leaf.
            (LEAF_STRUCTURED_FEATURES, 0) => {
                (entry.ebx, entry.ecx, entry.edx) = (entry.ebx & b, entry.ecx & c, entry.edx & d);
            }
            (LEAF_STRUCTURED_FEATURES, 1) => {
                (entry.eax, entry.ebx, entry.ecx, entry.edx) = (entry.eax & a, 0, 0, entry.edx & d);
            }
            // The sizes in EBX are KVM's to compute.
            (LEAF_XSAVE, 1) => entry.eax &= a,
            (LEAF_EXTENDED_FEATURES, _) => {
                let repeated = if amd { AMD_ALIASES } else { 0 };
                (entry.ecx, entry.edx) = (entry.ecx & c, entry.edx & (d | repeated));
            }
            _ => {}
        }
    }
}

/// The register that `bit` is in, if the leaf is there.
fn register(entry: &mut kvm_cpuid_entry2, register: Register) -> &mut u32 {
    match register {
        Register::Eax => &mut entry.eax,
        Register::Ebx => &mut entry.ebx,
        Register::Ecx => &mut entry.ecx,
        Register::Edx => &mut entry.edx,
    }
}

fn is_at(entry: &kvm_cpuid_entry2, bit: Bit) -> bool {
    (entry.function, entry.index) == (bit.leaf, bit.subleaf)
}

/// Whether `feature` is in `entries`.
fn has(entries: &[kvm_cpuid_entry2], feature: &Feature) -> bool {
    let found = entries.iter().find(|entry| is_at(entry, feature.bit)).copied();
    found.is_some_and(|mut entry| *register(&mut entry, feature.bit.register) >> feature.bit.number & 1 == 1)
}

fn clear(entries: &mut [kvm_cpuid_entry2], bit: Bit) {
    let aliased = bit.leaf == LEAF_FEATURES && bit.register == Register::Edx && is_amd(entries);
    for entry in entries {
        if is_at(entry, bit) {
            *register(entry, bit.register) &= !(1 << bit.number);
        }
        if aliased && entry.function == LEAF_EXTENDED_FEATURES {
            entry.edx &= !(1 << bit.number & AMD_ALIASES);
        }
    }
}

/// Components of the saved state that belong to features which are there.
fn components(present: &dyn Fn(&str) -> bool) -> u64 {
    let groups = [
        ("avx", xsave::AVX),
        ("mpx", xsave::MPX),
        ("avx512f", xsave::AVX512),
        ("pku", xsave::PKRU),
        ("amx_tile", xsave::AMX),
    ];
    let absent = groups.into_iter().filter(|(name, _)| !present(name));
    absent.fold(u64::MAX, |mask, (_, components)| mask & !components)
}

/// Leaves only `components` in leaf 0Dh, and states the size that they need (Intel SDM vol. 1, 13.2).
fn prune_saved_state(entries: &mut Vec<kvm_cpuid_entry2>, components: u64) {
    let [low, high] =
        [components, components >> 32].map(|half| u32::try_from(half & 0xFFFF_FFFF).unwrap_or(0));
    entries.retain(|entry| {
        entry.function != LEAF_XSAVE
            || entry.index < 2
            || entry.index > 63
            || components >> entry.index & 1 == 1
    });
    let mut enabled = 0;
    for entry in entries.iter_mut().filter(|entry| entry.function == LEAF_XSAVE) {
        if entry.index == 0 {
            (entry.eax, entry.edx) = (entry.eax & low, entry.edx & high);
            enabled = u64::from(entry.eax) | u64::from(entry.edx) << 32;
        } else if entry.index == 1 {
            (entry.ecx, entry.edx) = (entry.ecx & low, entry.edx & high);
        }
    }
    // EAX is a component's size and EBX its place; in a component of XSS (ECX bit 0) the place is of no meaning.
    let ends = entries.iter().filter(|entry| {
        entry.function == LEAF_XSAVE && (2..64).contains(&entry.index) && enabled >> entry.index & 1 == 1
    });
    let size =
        ends.map(|entry| entry.eax.saturating_add(entry.ebx)).max().unwrap_or(0).max(xsave::LEGACY_BYTES);
    for entry in entries.iter_mut().filter(|entry| entry.function == LEAF_XSAVE && entry.index == 0) {
        (entry.ebx, entry.ecx) = (entry.ebx.min(size), size);
    }
}

#[cfg(test)]
mod tests;
