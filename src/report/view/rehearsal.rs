//! A rehearsal as text for people: how it ended, and each step with its time and its evidence.

use crate::rehearse::road::{Report, Step, StepOutcome};
use crate::report::style::{Tone, clean, wrap};

/// Where a step's evidence starts.
const INDENT: usize = 10;

/// The report, for a terminal of `width` columns.
#[must_use]
pub fn render(report: &Report, width: Option<u16>) -> String {
    let mut out = String::new();
    let (tone, verdict) = if report.passed { (Tone::Good, "passed") } else { (Tone::Bad, "failed") };
    out.push_str(&format!(
        "{} {} in {}\n",
        Tone::Title.paint(&clean(&format!("Rehearsal of {} on {}:", report.profile, report.hardware))),
        tone.paint(verdict),
        seconds(report.duration_ms)
    ));
    let boot = report.boot_ms.map(|boot_ms| format!("; up after {}", seconds(boot_ms))).unwrap_or_default();
    let how = match report.accelerator {
        "kvm" => "KVM",
        _ => "QEMU's translator",
    };
    out.push_str("  ");
    wrap(
        &mut out,
        Tone::Detail,
        &clean(&format!("{}; Linux {} under {how}{boot}", report.hardware_description, report.kernel)),
        2,
        width,
    );
    for step in &report.steps {
        out.push('\n');
        render_step(&mut out, step, width);
    }
    out
}

fn render_step(out: &mut String, step: &Step, width: Option<u16>) {
    let (tone, word) = match step.outcome {
        StepOutcome::Passed => (Tone::Good, "ok"),
        StepOutcome::Failed => (Tone::Bad, "FAILED"),
        StepOutcome::Skipped => (Tone::Notice, "skipped"),
    };
    let time = if step.outcome == StepOutcome::Skipped { String::new() } else { seconds(step.duration_ms) };
    let name = Tone::Title.paint(&format!("{:<INDENT$}", clean(&step.name)));
    out.push_str(&format!("{name}{} {} {time}\n", clean(&step.title), tone.paint(word)));
    let mut line = |tone, text: &str| {
        for text in text.lines() {
            out.push_str(&" ".repeat(INDENT));
            wrap(out, tone, &clean(text), INDENT, width);
        }
    };
    if let Some(reason) = &step.reason {
        line(tone, reason);
    }
    step.evidence.iter().for_each(|evidence| line(Tone::Plain, evidence));
}

fn seconds(milliseconds: u64) -> String {
    format!("{}.{} s", milliseconds / 1000, milliseconds % 1000 / 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let step = |name: &str, outcome, reason: Option<&str>, evidence: &[&str]| Step {
            name: name.to_owned(),
            title: format!("do {name}"),
            outcome,
            reason: reason.map(str::to_owned),
            duration_ms: 1250,
            evidence: evidence.iter().map(|line| (*line).to_owned()).collect(),
            facts: serde_json::Value::Null,
        };
        Report {
            hardware: "vtd-igb".to_owned(),
            hardware_description: "a host".to_owned(),
            profile: "sriov-nic".to_owned(),
            passed: false,
            accelerator: "tcg",
            kernel: "6.12".to_owned(),
            boot_ms: Some(6040),
            duration_ms: 61_999,
            steps: vec![
                step("probe", StepOutcome::Passed, None, &["IOMMU: dmar0", "bad\u{1b}[0m"]),
                step("plan", StepOutcome::Failed, Some("exit code 6:\nrefused"), &[]),
                step("apply", StepOutcome::Skipped, Some("an earlier step failed"), &[]),
            ],
        }
    }

    #[test]
    fn every_step_shows_outcome_time_and_evidence() {
        let text = anstream::adapter::strip_str(&render(&report(), None)).to_string();

        assert_eq!(
            text,
            "Rehearsal of sriov-nic on vtd-igb: failed in 61.9 s\n  \
             a host; Linux 6.12 under QEMU's translator; up after 6.0 s\n\n\
             probe     do probe ok 1.2 s\n          IOMMU: dmar0\n          bad?[0m\n\n\
             plan      do plan FAILED 1.2 s\n          exit code 6:\n          refused\n\n\
             apply     do apply skipped \n          an earlier step failed\n"
        );
    }
}
