//! The law of checks: each has a host on which it passes, one on which it does not, and one on which nobody can say.

use std::collections::BTreeSet;

use super::fixture::{self, FakeHost, SUBJECT};
use super::*;
use crate::host;

fn ask(host: &FakeHost, check: &Check) -> Outcome {
    let facts = host::collect(&host.source());
    match check.run {
        Question::Host(ask) => ask(&facts),
        Question::Function(ask) => {
            ask(&facts, facts.device(SUBJECT.parse().unwrap()).expect("the healthy host has it"))
        }
    }
}

fn assert_status(check: &Check, change: fn(&FakeHost), allowed: &[Status]) {
    let host = fixture::healthy();
    change(&host);
    let outcome = ask(&host, check);
    assert!(allowed.contains(&outcome.status), "{}: not one of {allowed:?}: {outcome:#?}", check.id);
    let told = match outcome.status {
        Status::Warn | Status::Fail => {
            !outcome.evidence.is_empty() && outcome.cause.is_some() && !outcome.remedy.is_empty()
        }
        Status::Pass => !outcome.evidence.is_empty(),
        Status::Unknown | Status::NotApplicable => true,
    };
    assert!(told, "{}: evidence, cause or remedy is missing: {outcome:#?}", check.id);
}

#[test]
fn each_check_passes_fails_and_does_not_know_on_its_fixtures() {
    for fixture in fixture::all() {
        let check = by_id(fixture.id).unwrap_or_else(|| panic!("no check is called {}", fixture.id));
        assert_status(check, fixture.pass, &[Status::Pass]);
        assert_status(check, fixture.fail, &[Status::Warn, Status::Fail]);
        assert_status(check, fixture.unknown, &[Status::Unknown]);
    }
}

#[test]
fn each_check_has_a_fixture_and_an_id_of_its_own() {
    let ids: Vec<_> = all().map(|check| check.id).collect();
    let unique: BTreeSet<_> = ids.iter().copied().collect();
    assert_eq!(ids.len(), unique.len(), "an id is used twice: {ids:?}");
    let fixtures: BTreeSet<_> = fixture::all().map(|fixture| fixture.id).collect();
    assert_eq!(unique, fixtures);
    for id in ids {
        assert!(
            id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'),
            "{id}"
        );
    }
}

#[test]
fn nothing_warns_or_fails_on_a_healthy_host() {
    let host = fixture::healthy();
    let facts = host::collect(&host.source());
    let mut findings = run(&facts, None);
    if let Some(function) = facts.device(SUBJECT.parse().unwrap()) {
        findings.extend(run_for(&facts, function));
    }
    findings.retain(|finding| matches!(finding.outcome.status, Status::Warn | Status::Fail));
    assert!(findings.is_empty(), "{findings:#?}");
}
