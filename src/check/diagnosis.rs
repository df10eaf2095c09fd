//! The doctor's whole answer: the verdicts, every finding, how many of each, and for one function the answer to the
//! one question.

use serde::Serialize;

use super::assignment::{Assignment, assignment};
use super::{Finding, Purpose, Status, Verdicts, run, run_for, verdicts};
use crate::host::HostFacts;
use crate::host::pci::PciDevice;

/// What the doctor is asked about.
#[derive(Debug, Clone, Copy)]
pub enum Asked<'a> {
    /// Everything about the host.
    Host,
    /// What a host must be good for to serve a purpose.
    Purpose(Purpose),
    /// Whether this function can be passed through.
    Function(&'a PciDevice),
}

/// `data` of the document `thruway.doctor`.
#[derive(Debug, Clone, Serialize)]
pub struct Diagnosis {
    /// The two answers that everybody asks for first.
    pub verdicts: Verdicts,
    /// Whether one function can be passed through; absent where none was asked about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assignment: Option<Assignment>,
    /// The answer to each check, nearest to the hardware first.
    pub findings: Vec<Finding>,
    /// How many there are of each status.
    pub counts: Counts,
}

/// How many findings there are of each status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Counts {
    /// As it should be.
    pub pass: usize,
    /// Works, and not as it could.
    pub warn: usize,
    /// Will not work.
    pub fail: usize,
    /// Cannot be told.
    pub unknown: usize,
    /// Does not arise here.
    pub not_applicable: usize,
}

impl Counts {
    fn of(findings: &[Finding]) -> Self {
        let count = |status| findings.iter().filter(|finding| finding.outcome.status == status).count();
        Self {
            pass: count(Status::Pass),
            warn: count(Status::Warn),
            fail: count(Status::Fail),
            unknown: count(Status::Unknown),
            not_applicable: count(Status::NotApplicable),
        }
    }
}

impl Diagnosis {
    /// Whether the answer is no: a check failed, or the function cannot be passed through.
    #[must_use]
    pub fn is_no(&self) -> bool {
        self.counts.fail > 0
            || self.assignment.as_ref().is_some_and(|assignment| assignment.possible == Some(false))
    }

    /// The findings with `status`, in their order.
    pub fn with_status(&self, status: Status) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(move |finding| finding.outcome.status == status)
    }
}

/// Asks the host of `facts`.
#[must_use]
pub fn diagnose(facts: &HostFacts, asked: Asked<'_>) -> Diagnosis {
    let findings = match asked {
        Asked::Host => run(facts, None),
        Asked::Purpose(purpose) => run(facts, Some(purpose)),
        Asked::Function(function) => run_for(facts, function),
    };
    let assignment = match asked {
        Asked::Function(function) => Some(assignment(facts, function, &findings)),
        Asked::Host | Asked::Purpose(_) => None,
    };
    Diagnosis { verdicts: verdicts(facts), assignment, counts: Counts::of(&findings), findings }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Outcome;

    fn finding(outcome: Outcome) -> Finding {
        Finding { id: "x", title: "x", subject: None, outcome }
    }

    #[test]
    fn only_a_fail_is_a_no() {
        let all = [
            Outcome::pass("p"),
            Outcome::warn("w"),
            Outcome::unknown("u"),
            Outcome::not_applicable("n"),
            Outcome::fail("f"),
        ];
        let counts = Counts::of(&all.map(finding));
        assert_eq!(counts, Counts { pass: 1, warn: 1, fail: 1, unknown: 1, not_applicable: 1 });
    }
}
