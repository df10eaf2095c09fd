//! Features of x86 processors by name: the CPUID bit of each, the level of the x86-64 psABI that it belongs to, and what it
//! cannot do without.
//!
//! Intel SDM vol. 2A, CPUID (June 2024), tables 3-8, 3-10 and 3-11; AMD APM vol. 3 (24594 rev. 3.36), appendix E; System V ABI,
//! AMD64 supplement 1.0, table 3.1 (micro-architecture levels). Names are those of Linux's /proc/cpuinfo
//! (Linux: arch/x86/include/asm/cpufeatures.h) where it shows one; `sse3` is `pni` there.

use serde::{Deserialize, Serialize};

/// A register that CPUID returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Register {
    /// EAX.
    Eax,
    /// EBX.
    Ebx,
    /// ECX.
    Ecx,
    /// EDX.
    Edx,
}

/// In which processors a feature is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// In this level of the psABI and in those above it.
    Level(Level),
    /// Part of the machine rather than of its instructions: there with every level, where the host has it. All of
    /// these are older than x86-64, made by KVM itself, or guards against attacks.
    Machine,
    /// In no level.
    Beyond,
}

/// A micro-architecture level of the x86-64 psABI.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
pub enum Level {
    /// What every x86-64 processor has.
    #[serde(rename = "x86-64-v1")]
    V1,
    /// Up to SSE4.2.
    #[serde(rename = "x86-64-v2")]
    V2,
    /// Up to AVX2.
    #[serde(rename = "x86-64-v3")]
    V3,
    /// Up to AVX-512.
    #[serde(rename = "x86-64-v4")]
    V4,
}

impl Level {
    /// From the lowest to the highest.
    pub const ALL: [Self; 4] = [Self::V1, Self::V2, Self::V3, Self::V4];

    /// Its name in the psABI; the lowest has none there, and is called v1 by custom.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::V1 => "x86-64-v1",
            Self::V2 => "x86-64-v2",
            Self::V3 => "x86-64-v3",
            Self::V4 => "x86-64-v4",
        }
    }
}

/// A bit of CPUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bit {
    /// EAX at the instruction.
    pub leaf: u32,
    /// ECX at the instruction, zero where the leaf has no sub-leaves.
    pub subleaf: u32,
    /// The register.
    pub register: Register,
    /// The bit in it.
    pub number: u32,
}

/// A feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Feature {
    /// Its name.
    pub name: &'static str,
    /// Where CPUID tells of it.
    pub bit: Bit,
    /// In which processors it is.
    pub class: Class,
    /// The feature without which it is not there, if there is one.
    pub needs: Option<&'static str>,
}

const L1: Class = Class::Level(Level::V1);
const L2: Class = Class::Level(Level::V2);
const L3: Class = Class::Level(Level::V3);
const L4: Class = Class::Level(Level::V4);
const MACHINE: Class = Class::Machine;
const BEYOND: Class = Class::Beyond;

const fn row(
    name: &'static str,
    (leaf, subleaf, register): (u32, u32, Register),
    number: u32,
    class: Class,
    needs: &'static str,
) -> Feature {
    let needs = if needs.is_empty() { None } else { Some(needs) };
    Feature { name, bit: Bit { leaf, subleaf, register, number }, class, needs }
}

/// Where the rows below lie.
const FEATURES_C: (u32, u32, Register) = (1, 0, Register::Ecx);
const FEATURES_D: (u32, u32, Register) = (1, 0, Register::Edx);
const POWER_A: (u32, u32, Register) = (6, 0, Register::Eax);
const STRUCTURED_B: (u32, u32, Register) = (7, 0, Register::Ebx);
const STRUCTURED_C: (u32, u32, Register) = (7, 0, Register::Ecx);
const STRUCTURED_D: (u32, u32, Register) = (7, 0, Register::Edx);
const STRUCTURED_1A: (u32, u32, Register) = (7, 1, Register::Eax);
const STRUCTURED_1D: (u32, u32, Register) = (7, 1, Register::Edx);
const XSAVE_A: (u32, u32, Register) = (0xD, 1, Register::Eax);
const EXTENDED_C: (u32, u32, Register) = (0x8000_0001, 0, Register::Ecx);
const EXTENDED_D: (u32, u32, Register) = (0x8000_0001, 0, Register::Edx);
const TIME_D: (u32, u32, Register) = (0x8000_0007, 0, Register::Edx);
const AMD_B: (u32, u32, Register) = (0x8000_0008, 0, Register::Ebx);

/// All that have a name here. What follows from the topology (`ht`, `cmp_legacy`, `topoext`) is not among them.
pub const ALL: &[Feature] = &[
    row("fpu", FEATURES_D, 0, L1, ""),
    row("vme", FEATURES_D, 1, MACHINE, ""),
    row("de", FEATURES_D, 2, MACHINE, ""),
    row("pse", FEATURES_D, 3, MACHINE, ""),
    row("tsc", FEATURES_D, 4, MACHINE, ""),
    row("msr", FEATURES_D, 5, MACHINE, ""),
    row("pae", FEATURES_D, 6, MACHINE, ""),
    row("mce", FEATURES_D, 7, MACHINE, ""),
    row("cx8", FEATURES_D, 8, L1, ""),
    row("apic", FEATURES_D, 9, MACHINE, ""),
    row("sep", FEATURES_D, 11, MACHINE, ""),
    row("mtrr", FEATURES_D, 12, MACHINE, ""),
    row("pge", FEATURES_D, 13, MACHINE, ""),
    row("mca", FEATURES_D, 14, MACHINE, ""),
    row("cmov", FEATURES_D, 15, L1, ""),
    row("pat", FEATURES_D, 16, MACHINE, ""),
    row("pse36", FEATURES_D, 17, MACHINE, ""),
    row("clflush", FEATURES_D, 19, MACHINE, ""),
    row("mmx", FEATURES_D, 23, L1, ""),
    row("fxsr", FEATURES_D, 24, L1, ""),
    row("sse", FEATURES_D, 25, L1, "fxsr"),
    row("sse2", FEATURES_D, 26, L1, "sse"),
    row("ss", FEATURES_D, 27, MACHINE, ""),
    row("sse3", FEATURES_C, 0, L2, "sse2"),
    row("pclmulqdq", FEATURES_C, 1, BEYOND, "sse2"),
    row("vmx", FEATURES_C, 5, BEYOND, ""),
    row("ssse3", FEATURES_C, 9, L2, "sse3"),
    row("fma", FEATURES_C, 12, L3, "avx"),
    row("cx16", FEATURES_C, 13, L2, "cx8"),
    row("pdcm", FEATURES_C, 15, BEYOND, ""),
    row("pcid", FEATURES_C, 17, BEYOND, ""),
    row("sse4_1", FEATURES_C, 19, L2, "ssse3"),
    row("sse4_2", FEATURES_C, 20, L2, "sse4_1"),
    row("x2apic", FEATURES_C, 21, MACHINE, "apic"),
    row("movbe", FEATURES_C, 22, L3, ""),
    row("popcnt", FEATURES_C, 23, L2, ""),
    row("tsc_deadline_timer", FEATURES_C, 24, MACHINE, "apic"),
    row("aes", FEATURES_C, 25, BEYOND, "sse2"),
    row("xsave", FEATURES_C, 26, L3, "fxsr"),
    row("avx", FEATURES_C, 28, L3, "xsave"),
    row("f16c", FEATURES_C, 29, L3, "avx"),
    row("rdrand", FEATURES_C, 30, BEYOND, ""),
    row("hypervisor", FEATURES_C, 31, MACHINE, ""),
    row("arat", POWER_A, 2, MACHINE, ""),
    row("fsgsbase", STRUCTURED_B, 0, BEYOND, ""),
    row("tsc_adjust", STRUCTURED_B, 1, MACHINE, "tsc"),
    row("sgx", STRUCTURED_B, 2, BEYOND, ""),
    row("bmi1", STRUCTURED_B, 3, L3, ""),
    row("hle", STRUCTURED_B, 4, BEYOND, ""),
    row("avx2", STRUCTURED_B, 5, L3, "avx"),
    row("smep", STRUCTURED_B, 7, BEYOND, ""),
    row("bmi2", STRUCTURED_B, 8, L3, ""),
    row("erms", STRUCTURED_B, 9, BEYOND, ""),
    row("invpcid", STRUCTURED_B, 10, BEYOND, "pcid"),
    row("rtm", STRUCTURED_B, 11, BEYOND, ""),
    row("mpx", STRUCTURED_B, 14, BEYOND, "xsave"),
    row("avx512f", STRUCTURED_B, 16, L4, "avx2"),
    row("avx512dq", STRUCTURED_B, 17, L4, "avx512f"),
    row("rdseed", STRUCTURED_B, 18, BEYOND, ""),
    row("adx", STRUCTURED_B, 19, BEYOND, ""),
    row("smap", STRUCTURED_B, 20, BEYOND, ""),
    row("avx512ifma", STRUCTURED_B, 21, BEYOND, "avx512f"),
    row("clflushopt", STRUCTURED_B, 23, BEYOND, "clflush"),
    row("clwb", STRUCTURED_B, 24, BEYOND, "clflush"),
    row("avx512pf", STRUCTURED_B, 26, BEYOND, "avx512f"),
    row("avx512er", STRUCTURED_B, 27, BEYOND, "avx512f"),
    row("avx512cd", STRUCTURED_B, 28, L4, "avx512f"),
    row("sha_ni", STRUCTURED_B, 29, BEYOND, "sse2"),
    row("avx512bw", STRUCTURED_B, 30, L4, "avx512f"),
    row("avx512vl", STRUCTURED_B, 31, L4, "avx512f"),
    row("avx512vbmi", STRUCTURED_C, 1, BEYOND, "avx512bw"),
    row("umip", STRUCTURED_C, 2, BEYOND, ""),
    row("pku", STRUCTURED_C, 3, BEYOND, "xsave"),
    row("waitpkg", STRUCTURED_C, 5, BEYOND, ""),
    row("avx512_vbmi2", STRUCTURED_C, 6, BEYOND, "avx512bw"),
    row("shstk", STRUCTURED_C, 7, BEYOND, "xsaves"),
    row("gfni", STRUCTURED_C, 8, BEYOND, "sse2"),
    row("vaes", STRUCTURED_C, 9, BEYOND, "avx"),
    row("vpclmulqdq", STRUCTURED_C, 10, BEYOND, "avx"),
    row("avx512_vnni", STRUCTURED_C, 11, BEYOND, "avx512f"),
    row("avx512_bitalg", STRUCTURED_C, 12, BEYOND, "avx512bw"),
    row("avx512_vpopcntdq", STRUCTURED_C, 14, BEYOND, "avx512f"),
    row("la57", STRUCTURED_C, 16, BEYOND, ""),
    row("rdpid", STRUCTURED_C, 22, BEYOND, ""),
    row("bus_lock_detect", STRUCTURED_C, 24, BEYOND, ""),
    row("cldemote", STRUCTURED_C, 25, BEYOND, ""),
    row("movdiri", STRUCTURED_C, 27, BEYOND, ""),
    row("movdir64b", STRUCTURED_C, 28, BEYOND, ""),
    row("avx512_4vnniw", STRUCTURED_D, 2, BEYOND, "avx512f"),
    row("avx512_4fmaps", STRUCTURED_D, 3, BEYOND, "avx512f"),
    row("fsrm", STRUCTURED_D, 4, BEYOND, "erms"),
    row("avx512_vp2intersect", STRUCTURED_D, 8, BEYOND, "avx512f"),
    row("md_clear", STRUCTURED_D, 10, MACHINE, ""),
    row("serialize", STRUCTURED_D, 14, BEYOND, ""),
    row("tsxldtrk", STRUCTURED_D, 16, BEYOND, "rtm"),
    row("ibt", STRUCTURED_D, 20, BEYOND, ""),
    row("amx_bf16", STRUCTURED_D, 22, BEYOND, "amx_tile"),
    row("avx512_fp16", STRUCTURED_D, 23, BEYOND, "avx512bw"),
    row("amx_tile", STRUCTURED_D, 24, BEYOND, "xsave"),
    row("amx_int8", STRUCTURED_D, 25, BEYOND, "amx_tile"),
    row("spec_ctrl", STRUCTURED_D, 26, MACHINE, ""),
    row("intel_stibp", STRUCTURED_D, 27, MACHINE, ""),
    row("flush_l1d", STRUCTURED_D, 28, MACHINE, ""),
    row("arch_capabilities", STRUCTURED_D, 29, MACHINE, ""),
    row("spec_ctrl_ssbd", STRUCTURED_D, 31, MACHINE, ""),
    row("avx_vnni", STRUCTURED_1A, 4, BEYOND, "avx2"),
    row("avx512_bf16", STRUCTURED_1A, 5, BEYOND, "avx512f"),
    row("cmpccxadd", STRUCTURED_1A, 7, BEYOND, ""),
    row("fzrm", STRUCTURED_1A, 10, BEYOND, ""),
    row("fsrs", STRUCTURED_1A, 11, BEYOND, ""),
    row("fsrc", STRUCTURED_1A, 12, BEYOND, ""),
    row("amx_fp16", STRUCTURED_1A, 21, BEYOND, "amx_tile"),
    row("avx_ifma", STRUCTURED_1A, 23, BEYOND, "avx2"),
    row("lam", STRUCTURED_1A, 26, BEYOND, ""),
    row("avx_vnni_int8", STRUCTURED_1D, 4, BEYOND, "avx2"),
    row("avx_ne_convert", STRUCTURED_1D, 5, BEYOND, "avx2"),
    row("avx_vnni_int16", STRUCTURED_1D, 10, BEYOND, "avx2"),
    row("prefetchiti", STRUCTURED_1D, 14, BEYOND, ""),
    row("xsaveopt", XSAVE_A, 0, BEYOND, "xsave"),
    row("xsavec", XSAVE_A, 1, BEYOND, "xsave"),
    row("xgetbv1", XSAVE_A, 2, BEYOND, "xsave"),
    row("xsaves", XSAVE_A, 3, BEYOND, "xsavec"),
    row("lahf_lm", EXTENDED_C, 0, L2, ""),
    row("svm", EXTENDED_C, 2, BEYOND, ""),
    row("cr8_legacy", EXTENDED_C, 4, BEYOND, ""),
    row("abm", EXTENDED_C, 5, L3, ""),
    row("sse4a", EXTENDED_C, 6, BEYOND, "sse3"),
    row("misalignsse", EXTENDED_C, 7, BEYOND, "sse"),
    row("3dnowprefetch", EXTENDED_C, 8, BEYOND, ""),
    row("osvw", EXTENDED_C, 9, MACHINE, ""),
    row("xop", EXTENDED_C, 11, BEYOND, "avx"),
    row("fma4", EXTENDED_C, 16, BEYOND, "avx"),
    row("tbm", EXTENDED_C, 21, BEYOND, ""),
    row("perfctr_core", EXTENDED_C, 23, BEYOND, ""),
    row("syscall", EXTENDED_D, 11, L1, ""),
    row("nx", EXTENDED_D, 20, MACHINE, ""),
    row("mmxext", EXTENDED_D, 22, BEYOND, "mmx"),
    row("fxsr_opt", EXTENDED_D, 25, BEYOND, "fxsr"),
    row("pdpe1gb", EXTENDED_D, 26, BEYOND, ""),
    row("rdtscp", EXTENDED_D, 27, BEYOND, "tsc"),
    row("lm", EXTENDED_D, 29, MACHINE, ""),
    row("3dnowext", EXTENDED_D, 30, BEYOND, "3dnow"),
    row("3dnow", EXTENDED_D, 31, BEYOND, "mmx"),
    row("nonstop_tsc", TIME_D, 8, BEYOND, "tsc"),
    row("clzero", AMD_B, 0, BEYOND, ""),
    row("xsaveerptr", AMD_B, 2, BEYOND, "xsave"),
    row("wbnoinvd", AMD_B, 9, BEYOND, ""),
    row("ibpb", AMD_B, 12, MACHINE, ""),
    row("ibrs", AMD_B, 14, MACHINE, ""),
    row("stibp", AMD_B, 15, MACHINE, ""),
    row("amd_ssbd", AMD_B, 24, MACHINE, ""),
    row("virt_ssbd", AMD_B, 25, MACHINE, ""),
    row("amd_ssb_no", AMD_B, 26, MACHINE, ""),
    row("amd_psfd", AMD_B, 28, MACHINE, ""),
];

/// Bits of CPUID.80000001h:EDX that repeat those of CPUID.1:EDX on AMD's processors (AMD APM vol. 3, E.4.2).
pub const AMD_ALIASES: u32 = 0x0183_F3FF;

/// The feature of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Feature> {
    ALL.iter().find(|feature| feature.name == name)
}

/// `feature` and all that it cannot do without.
#[must_use]
pub fn with_needs(feature: &'static Feature) -> Vec<&'static Feature> {
    let mut found = vec![feature];
    let mut last = feature;
    // No chain is longer than the table.
    while let Some(next) = last.needs.and_then(find).filter(|_| found.len() < ALL.len()) {
        found.push(next);
        last = next;
    }
    found
}

/// `feature` and all that cannot do without it.
#[must_use]
pub fn with_dependents(feature: &Feature) -> Vec<&'static Feature> {
    ALL.iter().filter(|other| with_needs(other).iter().any(|need| need.name == feature.name)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_and_bits_are_unique_and_needs_have_names() {
        let names: BTreeSet<_> = ALL.iter().map(|feature| feature.name).collect();
        let bits: BTreeSet<_> = ALL.iter().map(|feature| feature.bit).collect();
        assert_eq!((names.len(), bits.len()), (ALL.len(), ALL.len()));
        for feature in ALL {
            assert!(feature.bit.number < 32, "{}", feature.name);
            assert!(feature.needs.is_none_or(|name| find(name).is_some()), "{}", feature.name);
            assert!(with_needs(feature).len() < 10, "{} needs itself", feature.name);
        }
    }

    #[test]
    fn a_level_never_needs_what_is_in_none_or_in_a_higher_one() {
        for feature in ALL {
            let Class::Level(level) = feature.class else { continue };
            for need in with_needs(feature) {
                match need.class {
                    Class::Level(lower) => assert!(lower <= level, "{} needs {}", feature.name, need.name),
                    Class::Machine => {}
                    Class::Beyond => panic!("{} needs {}", feature.name, need.name),
                }
            }
        }
    }

    #[test]
    fn levels_are_those_of_the_psabi() {
        let names = |level| {
            let of_level = ALL.iter().filter(|feature| feature.class == Class::Level(level));
            of_level.map(|feature| feature.name).collect::<Vec<_>>().join(" ")
        };
        // OSFXSR and OSXSAVE are the operating system's; LZCNT is `abm`, SCE `syscall`.
        assert_eq!(names(Level::V1), "fpu cx8 cmov mmx fxsr sse sse2 syscall");
        assert_eq!(names(Level::V2), "sse3 ssse3 cx16 sse4_1 sse4_2 popcnt lahf_lm");
        assert_eq!(names(Level::V3), "fma movbe xsave avx f16c bmi1 avx2 bmi2 abm");
        assert_eq!(names(Level::V4), "avx512f avx512dq avx512cd avx512bw avx512vl");
    }

    #[test]
    fn switching_off_reaches_whatever_builds_on_it() {
        let names: Vec<_> =
            with_dependents(find("avx512f").unwrap()).iter().map(|feature| feature.name).collect();
        assert!(names.contains(&"avx512vl") && names.contains(&"avx512_bitalg"), "{names:?}");
        assert!(!names.contains(&"avx2"), "{names:?}");
        let needs: Vec<_> =
            with_needs(find("avx512bw").unwrap()).iter().map(|feature| feature.name).collect();
        assert_eq!(needs, ["avx512bw", "avx512f", "avx2", "avx", "xsave", "fxsr"]);
    }
}
