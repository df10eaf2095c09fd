//! The CPUID instruction on the CPU that runs us; needs no privilege.

use crate::spec::cpuid::CpuidLeaf;

/// Executes CPUID; `None` where there is no such instruction.
#[cfg(target_arch = "x86_64")]
#[must_use]
pub fn leaf(leaf: u32, subleaf: u32) -> Option<CpuidLeaf> {
    let raw_cpuid::CpuIdResult { eax, ebx, ecx, edx } = raw_cpuid::native_cpuid::cpuid_count(leaf, subleaf);
    Some(CpuidLeaf { eax, ebx, ecx, edx })
}

/// Executes CPUID; `None` where there is no such instruction.
#[cfg(not(target_arch = "x86_64"))]
#[must_use]
pub fn leaf(_leaf: u32, _subleaf: u32) -> Option<CpuidLeaf> {
    None
}
