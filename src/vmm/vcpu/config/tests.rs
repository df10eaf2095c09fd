//! What profiles can say of processors, right and wrong.

use super::*;

fn arranged(numbers: [Option<i64>; 5]) -> CpuConfig {
    let [count, sockets, dies, cores, threads] = numbers;
    CpuConfig { count, sockets, dies, cores, threads, ..CpuConfig::default() }
}

fn problems(config: &CpuConfig) -> Vec<String> {
    let mut errors = Vec::new();
    config.check(&mut errors);
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn what_is_left_out_follows_from_the_rest() {
    for (numbers, expected) in [
        ([None, None, None, None, None], [1, 1, 1, 1]),
        ([Some(6), None, None, None, None], [1, 1, 6, 1]),
        ([None, Some(2), None, Some(4), Some(2)], [2, 1, 4, 2]),
        ([Some(8), Some(2), None, None, Some(2)], [2, 1, 2, 2]),
        ([Some(8), None, None, Some(2), Some(2)], [2, 1, 2, 2]),
        ([Some(64), Some(2), Some(2), Some(8), Some(2)], [2, 2, 8, 2]),
        ([None, None, None, None, Some(2)], [1, 1, 1, 2]),
    ] {
        let config = arranged(numbers);
        assert_eq!(problems(&config), [""; 0], "{numbers:?}");
        assert_eq!(Some(config.topology()), Topology::new(expected), "{numbers:?}");
    }
}

#[test]
fn topologies_that_do_not_multiply_say_what_they_make() {
    let of = |numbers| problems(&arranged(numbers));
    assert_eq!(
        of([Some(8), Some(2), None, Some(3), None]),
        [
            "cpus.count: 2 sockets times 3 cores do not make 8 vCPUs; mend one of the numbers, or leave one out"
        ]
    );
    assert_eq!(
        of([Some(7), None, None, None, Some(2)]),
        ["cpus.count: 2 threads do not make 7 vCPUs; mend one of the numbers, or leave one out"]
    );
    assert_eq!(
        of([None, Some(4), Some(2), Some(16), Some(1)]),
        [
            "cpus: 4 sockets times 2 dies times 16 cores times 1 thread are 128 vCPUs; a machine has at most 64"
        ]
    );
    assert_eq!(of([None, None, None, Some(0), None]), ["cpus.cores: 0 is not between 1 and 64"]);
    assert_eq!(of([Some(65), None, None, None, None]), ["cpus: 65 is not between 1 and 64"]);
    assert_eq!(of([None, Some(i64::MAX), Some(2), None, None]).len(), 1);
}

#[test]
fn an_unknown_feature_suggests_a_near_one() {
    let error = |name: &str| Features::new([(name, true)]).unwrap_err().to_string();
    assert_eq!(error("avx51f"), "`avx51f` is no feature of a processor; did you mean `avx512f`?");
    assert_eq!(error("sse4-2x"), "`sse4-2x` is no feature of a processor; did you mean `sse4_2`?");
    assert!(error("hyperdrive-of-the-third-kind").contains("names are those of /proc/cpuinfo"));
}

#[test]
fn a_feature_that_needs_what_is_off_is_a_contradiction() {
    let features = Features::new([("avx2", true), ("xsave", false)]).unwrap();
    let config = CpuConfig { features, ..CpuConfig::default() };
    assert_eq!(
        problems(&config),
        ["cpus.features: avx2 cannot be there without xsave, which is switched off"]
    );
}

#[test]
fn pins_are_one_for_each_vcpu_and_priorities_leave_room_above() {
    let pin = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    let mut config = CpuConfig::from_value(2);
    config.pin = pin(&["0-1"]);
    assert_eq!(problems(&config), ["cpus.pin: 1 entries for 2 vCPUs; write one for each, in their order"]);
    config.pin = pin(&["1", ""]);
    config.realtime_priority = Some(99);
    assert_eq!(
        problems(&config),
        [
            "cpus.pin.1: no CPU is named; write for example 2, or \"2-3\"",
            "cpus.realtime_priority: 99 is not between 1 and 98"
        ]
    );
    config.pin = pin(&["1", "0"]);
    config.realtime_priority = Some(98);
    assert_eq!(problems(&config), [""; 0]);
}

#[test]
fn both_forms_are_read_and_the_short_one_is_written_where_it_says_all() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Outer {
        #[serde(with = "crate::vmm::config::short_form")]
        cpus: CpuConfig,
    }
    let read = |text: &str| serde_json::from_str::<Outer>(text).unwrap();
    let written = |outer: &Outer| serde_json::to_string(outer).unwrap();
    assert_eq!(read(r#"{"cpus":4}"#).cpus, CpuConfig::from_value(4));
    assert_eq!(written(&read(r#"{"cpus":{"count":4}}"#)), r#"{"cpus":4}"#);
    let long = r#"{"cpus":{"cores":2,"model":"x86-64-v3","features":{"aes":false},"pin":["0","2-3"]}}"#;
    assert_eq!(written(&read(long)), long);
    assert!(serde_json::from_str::<Outer>(r#"{"cpus":{"core":2}}"#).is_err());
    assert!(serde_json::from_str::<Outer>(r#"{"cpus":"many"}"#).is_err());
}
