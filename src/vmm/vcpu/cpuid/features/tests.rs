//! Features of hosts made by hand, against models and single switches.

use super::*;
use crate::vmm::config::{CpuModel, Features};
use crate::vmm::vcpu::cpuid::testing::{entry, leaf, vendor};

/// A host with every feature of `level` and of the machine, and AES and nested virtualization.
fn host(level: Level) -> CpuId {
    with(|feature| match feature.class {
        Class::Level(other) => other <= level,
        Class::Machine => true,
        Class::Beyond => matches!(feature.name, "aes" | "svm" | "rdtscp"),
    })
}

/// A host with the features that `is_there` says.
fn with(is_there: impl Fn(&Feature) -> bool) -> CpuId {
    let mut entries: Vec<kvm_cpuid_entry2> = [
        vendor(b"Auth", 0x1F),
        entry(1, 0, [0; 4]),
        entry(6, 0, [0; 4]),
        entry(7, 0, [1, 0, 0, 0]),
        entry(7, 1, [0; 4]),
        entry(0xA, 0, [2, 0, 0, 0]),
        entry(0xD, 0, [0xE7, 0xA80, 0xA80, 0]),
        entry(0xD, 1, [0, 0x240, 0, 0]),
        entry(0xD, 2, [256, 576, 0, 0]),
        entry(0xD, 5, [64, 1088, 0, 0]),
        entry(0xD, 6, [512, 1152, 0, 0]),
        entry(0xD, 7, [1024, 1664, 0, 0]),
        entry(0x4000_0000, 0, [0x4000_0001, 0, 0, 0]),
        entry(0x4000_0001, 0, [0xFF, 0, 0, 0]),
        entry(0x8000_0001, 0, [0; 4]),
        entry(0x8000_0007, 0, [0; 4]),
        entry(0x8000_0008, 0, [0x3030, 0, 0, 0]),
        entry(0x8000_000A, 0, [1, 8, 0, 0]),
    ]
    .to_vec();
    for feature in cpu_feature::ALL {
        for entry in entries.iter_mut().filter(|entry| is_there(feature) && is_at(entry, feature.bit)) {
            *register(entry, feature.bit.register) |= 1 << feature.bit.number;
        }
    }
    CpuId::from_entries(&entries).unwrap()
}

fn config(model: CpuModel, features: &[(&str, bool)]) -> CpuConfig {
    let features = Features::new(features.iter().copied()).unwrap();
    CpuConfig { model, features, ..CpuConfig::default() }
}

fn selected(host: &CpuId, config: &CpuConfig) -> CpuId {
    select(host, TscDeadline(true), config).unwrap()
}

fn shows(cpuid: &CpuId, name: &str) -> bool {
    has(cpuid.as_slice(), cpu_feature::find(name).unwrap())
}

#[test]
fn the_host_model_is_all_but_nested_virtualization_and_monitor() {
    let cpuid = selected(&host(Level::V4), &config(CpuModel::Host, &[]));
    for name in ["avx512vl", "aes", "hypervisor", "tsc_deadline_timer", "spec_ctrl", "rdtscp"] {
        assert!(shows(&cpuid, name), "{name}");
    }
    assert!(!shows(&cpuid, "svm") && leaf(&cpuid, 0x8000_000A, 0).is_none());
    assert_eq!(leaf(&cpuid, 1, 0).unwrap().ecx & crate::spec::cpuid::FEATURES_ECX_MONITOR, 0);
    assert_eq!(leaf(&cpuid, 0xD, 0).unwrap().eax, 0xE7);
}

#[test]
fn the_deadline_timer_follows_kvm_and_not_the_list() {
    let cpuid = select(&host(Level::V1), TscDeadline(false), &config(CpuModel::Host, &[])).unwrap();
    assert!(!shows(&cpuid, "tsc_deadline_timer"));
}

#[test]
fn nested_virtualization_is_there_when_it_is_switched_on() {
    let cpuid = selected(&host(Level::V1), &config(CpuModel::Host, &[("svm", true)]));
    assert!(shows(&cpuid, "svm") && leaf(&cpuid, 0x8000_000A, 0).is_some());
}

#[test]
fn a_level_is_exactly_itself_on_every_host_that_reaches_it() {
    for (position, level) in Level::ALL.into_iter().enumerate() {
        let model = [CpuModel::V1, CpuModel::V2, CpuModel::V3, CpuModel::V4][position];
        let of_higher: Vec<CpuId> = Level::ALL[position..]
            .iter()
            .map(|level| host(*level))
            .chain([with(|_| true)])
            .map(|host| selected(&host, &config(model, &[])))
            .collect();
        for feature in cpu_feature::ALL {
            let expected = match feature.class {
                Class::Level(other) => other <= level,
                Class::Machine => true,
                Class::Beyond => false,
            };
            for cpuid in &of_higher {
                assert_eq!(shows(cpuid, feature.name), expected, "{} in {}", feature.name, level.name());
            }
        }
        for cpuid in &of_higher {
            assert!(leaf(cpuid, 0xA, 0).is_none());
            assert_eq!(leaf(cpuid, 0xD, 0).is_some(), level >= Level::V3);
        }
        for lower in Level::ALL.into_iter().take(position) {
            let error = select(&host(lower), TscDeadline(true), &config(model, &[])).unwrap_err();
            assert!(matches!(&error, FeatureError::Level { best, .. } if *best == Some(lower)), "{error}");
        }
    }
}

#[test]
fn a_level_that_the_host_does_not_reach_names_what_is_missing_and_what_would_do() {
    let error = select(&host(Level::V3), TscDeadline(true), &config(CpuModel::V4, &[])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "this host's processor is no x86-64-v4: it has no avx512f, avx512dq, avx512cd, avx512bw, avx512vl; \
         `model: x86-64-v3` is the highest that it can be"
    );
}

#[test]
fn features_go_over_the_model_with_what_they_need_and_what_builds_on_them() {
    let cpuid = selected(&host(Level::V4), &config(CpuModel::V1, &[("avx2", true), ("aes", true)]));
    assert!(["avx2", "avx", "xsave", "aes"].iter().all(|name| shows(&cpuid, name)));
    assert!(!shows(&cpuid, "sse4_2") && !shows(&cpuid, "fma"));
    let cpuid = selected(&host(Level::V4), &config(CpuModel::Host, &[("avx", false)]));
    assert!(["avx", "avx2", "fma", "f16c", "avx512f", "avx512vl"].iter().all(|name| !shows(&cpuid, name)));
    assert!(shows(&cpuid, "xsave") && shows(&cpuid, "bmi2"));
    // A level may be asked for without a part of it, on a host that does not have that part.
    let cpuid = selected(&host(Level::V3), &config(CpuModel::V4, &[("avx512f", false)]));
    assert!(shows(&cpuid, "avx2") && !shows(&cpuid, "avx512bw"));
}

#[test]
fn a_feature_that_the_host_cannot_do_is_named() {
    let error = |name| select(&host(Level::V3), TscDeadline(true), &config(CpuModel::Host, &[(name, true)]));
    let text = error("avx512_bitalg").unwrap_err().to_string();
    assert!(text.contains("does not offer avx512_bitalg, avx512bw, avx512f;"), "{text}");
    assert!(error("vmx").is_err());
}

#[test]
fn the_saved_state_shrinks_with_the_features_that_need_it() {
    let sizes = |features: &[(&str, bool)]| {
        let cpuid = selected(&host(Level::V4), &config(CpuModel::Host, features));
        let first = leaf(&cpuid, 0xD, 0);
        let parts = cpuid.as_slice().iter().filter(|entry| entry.function == 0xD && entry.index > 1).count();
        first.map(|entry| (entry.eax, entry.ecx, parts))
    };
    assert_eq!(sizes(&[]), Some((0xE7, 2688, 4)));
    assert_eq!(sizes(&[("avx512f", false)]), Some((7, 832, 1)));
    assert_eq!(sizes(&[("avx", false)]), Some((3, 576, 0)));
    assert_eq!(sizes(&[("xsave", false)]), None);
}

#[test]
fn a_guest_that_is_not_told_of_a_hypervisor_is_not_told_which() {
    let cpuid = selected(&host(Level::V1), &config(CpuModel::Host, &[("hypervisor", false)]));
    assert!(leaf(&cpuid, 0x4000_0000, 0).is_none() && !shows(&cpuid, "hypervisor"));
}

#[test]
fn what_goes_from_leaf_1_goes_from_its_repetition_too() {
    let mut entries = host(Level::V1).as_slice().to_vec();
    for entry in entries.iter_mut().filter(|entry| entry.function == 0x8000_0001) {
        entry.edx |= AMD_ALIASES;
    }
    let cpuid = selected(&CpuId::from_entries(&entries).unwrap(), &config(CpuModel::V1, &[("mmx", false)]));
    assert_eq!(leaf(&cpuid, 0x8000_0001, 0).unwrap().edx & AMD_ALIASES, AMD_ALIASES & !(1 << 23));
}
