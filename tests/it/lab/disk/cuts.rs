//! The power goes at any moment of a persistent apply: the host starts again, and undo leaves nothing.
//!
//! Five moments, drawn from a seed; with `THRUWAY_TEST_SOAK=1` (`tests/run --soak`) fifty.

use std::time::Duration;

use super::persist::{STATE, SURVEY, UNTOUCHED, lines, said};
use super::{Cut, DiskHost, Loader};
use crate::lab::Lab;

/// Its driver is not needed in the initial RAM file system, which takes the better part of a minute to make.
const PROFILE: &str = "
schema: 1
name: cut
host:
  devices: [{select: {vf: {pf: {address: '01:00.0'}, index: 0}}}]
  sriov: [{pf: {address: '01:00.0'}, count: 2}]
  hugepages: [{size: 2MiB, count: 4}]
  kernel_arguments: [lab.persisted=1]
";

/// How long the apply takes at least here, from its beginning to its end.
const SPAN: Duration = Duration::from_millis(9000);

/// Numbers that are the same in each run (SplitMix64, public domain, Sebastiano Vigna).
fn draw(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[test]
fn a_power_cut_at_any_moment_of_a_persistent_apply_leaves_what_undo_repairs() {
    let Some(lab) = Lab::open() else { return };
    let Some(mut host) = DiskHost::open(lab, Loader::Grub) else { return };
    let cuts = if std::env::var_os("THRUWAY_TEST_SOAK").is_some() { 50 } else { 5 };
    // What undo finds, and what it leaves; then the next apply, in the midst of which the power goes.
    let script = format!(
        "thruway status --format json >\"$LAB_OUT/status.json\"\n\
         thruway undo --all --yes >\"$LAB_OUT/undo\" 2>&1; echo \"undone $?\"\n{SURVEY}\n\
         cat >/root/cut.yaml <<'END'\n{PROFILE}\nEND\nsync\n"
    );
    let apply =
        "mark begun; thruway apply /root/cut.yaml --persist --yes >\"$LAB_OUT/apply\" 2>&1; sleep 1000\n";

    let mut seed = 0x7468_7275_7761_7900;
    let mut found = [0; 3];
    let mut boots = Vec::new();
    for _ in 0..cuts {
        let moment = Duration::from_millis(draw(&mut seed) % u64::try_from(SPAN.as_millis()).unwrap());
        boots.push((moment, host.boot_and_cut(&format!("{script}{apply}"), &Cut::at("begun").later(moment))));
    }
    boots.push((Duration::ZERO, host.boot(&script)));

    let before = &boots[0].1;
    for (at, (_, boot)) in boots.iter().enumerate() {
        let cut = at.checked_sub(1).map(|last| boots[last].0);
        assert_eq!(boot.said("undone"), "0", "after a cut at {cut:?}: {}", boot.file("undo"));
        // The arguments of this boot are those that the cut one left.
        let [_, rest @ ..] = said(boot, STATE);
        assert_eq!(rest, UNTOUCHED[1..], "after a cut at {cut:?}: {}", boot.stdout());
        for name in ["etc", "arguments"] {
            let (then, now) = (before.file(name), boot.file(name));
            let difference: Vec<_> = lines(&then).symmetric_difference(&lines(&now)).copied().collect();
            assert!(difference.is_empty(), "after a cut at {cut:?}, {name}: {difference:#?}");
        }
        let status = boot.file("status.json");
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        let steps = status["data"]["transactions"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|one| one["steps"].as_array().unwrap());
        let done = steps.map(|step| step["recorded"]["state"] == "done").collect::<Vec<_>>();
        let kind = if done.is_empty() { 0 } else { usize::from(done.iter().all(|done| *done)) + 1 };
        found[kind] += usize::from(at > 0);
    }
    let [nothing, half, whole] = found;
    println!(
        "{cuts} cuts: {nothing} before anything was written down, {half} half way, {whole} at the end of a step"
    );
}
