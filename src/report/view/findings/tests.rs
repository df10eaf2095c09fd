//! The doctor in words.

use super::*;
use crate::check::{Assignment, Counts, Loss, LossKind, Member, Outcome, Role, Verdict, Verdicts};
use crate::host::cpu::Reason;

fn verdict(usable: Option<bool>, reason: Reason, explanation: &str) -> Verdict {
    Verdict { usable, reason, explanation: explanation.to_owned(), evidence: Vec::new() }
}

fn finding(id: &'static str, outcome: Outcome) -> Finding {
    Finding { id, title: "a title", subject: None, outcome }
}

fn diagnosis() -> Diagnosis {
    let menu = Remedy {
        kind: RemedyKind::Firmware,
        text: "enable in the firmware setup, usually at `Advanced > VT-d`".to_owned(),
        note: None,
        confidence: Some(Confidence::Medium),
        reboot: true,
    };
    let findings = vec![
        finding("cpu-extension", Outcome::pass("The CPU has VT-x").evidence("CPUID 0x1", "0x20")),
        finding(
            "iommu-dma-remapping",
            Outcome::fail("The kernel runs no IOMMU")
                .evidence("/sys/class/iommu", "empty")
                .evidence("/proc/cmdline", "quiet\u{1b}[2J")
                .cause("firmware offers none")
                .remedy(menu)
                .remedy(Remedy::command("reboot", "into the setup")),
        ),
        finding(
            "kernel-x",
            Outcome::warn("X is set").evidence("/x", 1).cause("y").remedy(Remedy::advice("z")),
        ),
        finding("iommu-x", Outcome::unknown("A").remedy(Remedy::command("sudo thruway doctor", "root may"))),
        finding("iommu-y", Outcome::unknown("B").remedy(Remedy::command("sudo thruway doctor", "root may"))),
        finding("sriov-x", Outcome::not_applicable("C")),
    ];
    Diagnosis {
        verdicts: Verdicts {
            kvm: verdict(Some(true), Reason::Ok, "it makes virtual machines, in hardware"),
            iommu: verdict(Some(false), Reason::OffInFirmware, "firmware switched it off"),
        },
        assignment: None,
        findings,
        counts: Counts { pass: 1, warn: 1, fail: 1, unknown: 2, not_applicable: 1 },
    }
}

fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

#[test]
fn failures_come_first_with_cause_remedy_and_evidence_and_passes_are_counted() {
    assert_eq!(
        plain(&render(&diagnosis(), Detail::Brief, Some(70))),
        "\
KVM    usable: it makes virtual machines, in hardware
IOMMU  not usable: firmware switched it off

Does not work (1)
  iommu-dma-remapping  The kernel runs no IOMMU
    why     firmware offers none
    do      enable in the firmware setup, usually at `Advanced > VT-d`
            [confidence: medium]; takes a reboot
    or      run: reboot; into the setup
    seen    /sys/class/iommu: empty
            /proc/cmdline: quiet?[2J

Works, and could be better or safer (1)
  kernel-x  X is set
    why     y
    do      z
    seen    /x: 1

Unknown (2)
  iommu-x  A
  iommu-y  B
  to know: run: sudo thruway doctor; root may (2 of these)

6 checks: 1 failed, 1 warned, 2 unknown, 1 passed, 1 do not apply here
-v lists what passed; --explain ID says why a check matters
"
    );
}

#[test]
fn in_full_what_passed_and_what_does_not_apply_is_listed() {
    let text = plain(&render(&diagnosis(), Detail::Full, None));
    assert!(text.contains("As it should be (1)\n  cpu-extension  The CPU has VT-x\n"), "{text}");
    assert!(text.contains("Does not apply here (1)\n  sriov-x  C\n"), "{text}");
}

#[test]
fn one_function_is_answered_before_everything_else() {
    let member = |device: &str, driver: &str, role| Member {
        device: device.to_owned(),
        description: None,
        driver: Some(driver.to_owned()),
        role,
    };
    let assignment = Assignment {
        address: "0000:01:00.0".parse().unwrap(),
        description: Some("Ethernet controller".to_owned()),
        possible: Some(true),
        reasons: Vec::new(),
        iommu_group: Some(7),
        members: vec![
            member("0000:01:00.0", "igb", Role::Asked),
            member("0000:01:00.1", "igb", Role::GoesAlong),
        ],
        losses: vec![Loss {
            function: "0000:01:00.0".parse().unwrap(),
            kind: LossKind::NetworkInterface,
            text: "network interface eth0: the default route".to_owned(),
            in_use: Some(true),
        }],
    };
    let text = plain(&render(
        &Diagnosis { assignment: Some(assignment), findings: Vec::new(), ..diagnosis() },
        Detail::Brief,
        None,
    ));
    assert!(
        text.starts_with(
            "\
Can 0000:01:00.0 be passed through? Yes
  Ethernet controller
    now     driver igb, IOMMU group 7, with these:
            0000:01:00.1: goes along, the host has to take igb from it
    loses   network interface eth0: the default route (0000:01:00.0)
    next    thruway bind 0000:01:00.0 --dry-run

KVM    usable: "
        ),
        "{text}"
    );
}
