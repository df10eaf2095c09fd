//! A plan as text for people: what will be done, what is so already, whom it concerns.

use std::fmt::Write as _;

use crate::report::style::{Tone, clean, wrap};
use crate::report::table::Table;
use crate::setup::guard::Objection;
use crate::setup::plan::{Plan, Role};

/// All of `plan`, for a terminal of `width` columns.
#[must_use]
pub fn render(plan: &Plan, width: Option<u16>) -> String {
    let mut out = String::new();
    if plan.is_empty() && plan.needs_reboot.is_empty() {
        out.push_str("Nothing to do: it is all so already\n");
    } else if plan.is_empty() {
        out.push_str("Nothing to do now\n");
    } else {
        section(&mut out, "To do");
        for (number, step) in (1..).zip(&plan.steps) {
            // Writing to a String cannot fail.
            let _ = write!(out, "{number:>4}  ");
            wrap(&mut out, Tone::Plain, &clean(&step.text), 6, width);
        }
    }
    list(&mut out, "Already so", Tone::Detail, &plan.already, width);
    if !plan.groups.is_empty() {
        section(&mut out, "IOMMU groups");
        let mut table = Table::new(&["group", "member", "driver", "what becomes of it", "device"], width);
        for group in &plan.groups {
            for member in &group.members {
                let (tone, role) = match member.role {
                    Role::Asked => (Tone::Good, "goes to the guest"),
                    Role::Bridge => (Tone::Detail, "bridge, stays"),
                    Role::Free => (Tone::Plain, "unused, stays"),
                    Role::Allowed => (Tone::Notice, "in use, stays, allowed"),
                };
                let text = |text: &Option<String>| clean(text.as_deref().unwrap_or("-"));
                table.row([
                    (Tone::Title, group.id.to_string()),
                    (Tone::Plain, clean(&member.device)),
                    (Tone::Plain, text(&member.driver)),
                    (tone, role.to_owned()),
                    (Tone::Detail, text(&member.description)),
                ]);
            }
        }
        out.push_str(&table.render());
    }
    list(
        &mut out,
        "You allowed",
        Tone::Notice,
        &plan.consented.iter().map(evidence).collect::<Vec<_>>(),
        width,
    );
    list(&mut out, "What it costs this host", Tone::Notice, &plan.costs, width);
    list(&mut out, "Only with a boot", Tone::Notice, &plan.needs_reboot, width);
    list(&mut out, "Mind", Tone::Notice, &plan.warnings, width);
    out
}

/// Why there is no plan: one rule after the other, each with what was seen and the way out.
#[must_use]
pub fn render_refusal(objections: &[Objection], width: Option<u16>) -> String {
    let mut out = Tone::Bad.paint("Refused:");
    out.push_str(" nothing was changed\n");
    for objection in objections {
        out.push_str("  ");
        wrap(&mut out, Tone::Title, &evidence(objection), 4, width);
        out.push_str("    ");
        wrap(&mut out, Tone::Plain, &clean(&objection.remedy), 4, width);
    }
    out
}

fn evidence(objection: &Objection) -> String {
    clean(&format!("{} [{}] {}", objection.subject, objection.rule, objection.evidence))
}

fn section(out: &mut String, title: &str) {
    if !out.is_empty() {
        out.push('\n');
    }
    out.push_str(&Tone::Title.paint(title));
    out.push('\n');
}

fn list(out: &mut String, title: &str, tone: Tone, lines: &[String], width: Option<u16>) {
    if !lines.is_empty() {
        section(out, title);
    }
    for line in lines {
        out.push_str("  ");
        wrap(out, tone, &clean(line), 4, width);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::guard::{Rule, Severity};
    use crate::setup::plan::{Member, TouchedGroup};

    fn plain(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    #[test]
    fn a_plan_without_steps_says_so_and_why() {
        let plan = Plan {
            steps: Vec::new(),
            already: vec!["x is so".to_owned()],
            groups: Vec::new(),
            consented: Vec::new(),
            costs: vec!["memory goes".to_owned()],
            needs_reboot: Vec::new(),
            warnings: Vec::new(),
        };
        assert_eq!(
            plain(&render(&plan, None)),
            "Nothing to do: it is all so already\n\nAlready so\n  x is so\n\nWhat it costs this host\n  memory goes\n"
        );
    }

    #[test]
    fn a_group_shows_what_becomes_of_each_member_and_names_cannot_steer_the_terminal() {
        let member = Member {
            device: "0000:02:00.0".to_owned(),
            description: Some("Evil\x1b[2J".to_owned()),
            driver: None,
            role: Role::Allowed,
        };
        let groups = vec![TouchedGroup { id: 7, members: vec![member] }];
        let plan = Plan {
            steps: Vec::new(),
            already: Vec::new(),
            groups,
            consented: Vec::new(),
            costs: vec!["memory goes".to_owned()],
            needs_reboot: Vec::new(),
            warnings: Vec::new(),
        };
        let text = render(&plan, None);
        assert!(!text.contains("\x1b[2J"), "{text:?}");
        assert!(
            plain(&text).contains("7      0000:02:00.0  -       in use, stays, allowed  Evil?[2J"),
            "{}",
            plain(&text)
        );
    }

    #[test]
    fn a_refusal_names_subject_rule_evidence_and_remedy() {
        let objection = Objection {
            severity: Severity::Refuse,
            rule: Rule::DiskInUse,
            subject: "0000:02:00.0".parse().unwrap(),
            evidence: "nvme0n1 is mounted at /".to_owned(),
            remedy: "umount / first".to_owned(),
        };
        assert_eq!(
            plain(&render_refusal(&[objection], None)),
            "Refused: nothing was changed\n  0000:02:00.0 [disk-in-use] nvme0n1 is mounted at /\n    umount / first\n"
        );
    }
}
