//! Ways of delivery, modes and affinities: yes, no, and not to be told.

use super::*;
use crate::host::collect as collect_host;
use crate::host::source::KvmAnswer;
use crate::host::source::answers::{Answer, MsrEntry, Refusal};
use crate::host::source::fake::{Entry, FakeHost};

const APICV: &str = "/sys/module/kvm_intel/parameters/enable_apicv";
const CAP: &str = "/sys/class/iommu/dmar0/intel-iommu/cap";

/// A server that can post interrupts, with a function of a guest.
fn server() -> FakeHost {
    let host = FakeHost::new(&[
        (APICV, Entry::Text("Y")),
        (CAP, Entry::Text("8d2078c106f0466")),
        ("/sys/class/iommu/dmar0/intel-iommu/ecap", Entry::Text("f020df")),
        ("/sys/class/iommu/dmar0/devices/0000:01:00.0", Entry::Directory),
        ("/sys/kernel", Entry::Directory),
        ("/proc/cmdline", Entry::Text("quiet")),
        (
            "/proc/interrupts",
            Entry::Text(
                "            CPU0       CPU1\n 45:  6  0  IR-PCI-MSIX-0000:01:00.0    1-edge  vfio-msix[1](0000:01:00.0)\n \
                 23:  1  0  IR-IO-APIC   23-fasteoi   vfio-intx(0000:02:00.0), ehci_hcd:usb1\n \
                 46:  1  0  IR-PCI-MSI   0-edge   vfio-other[0](0000:03:00.0)",
            ),
        ),
    ]);
    host.answer_kvm(Answer::Given(KvmAnswer { api_version: 12, creates_vm: true, busy: false }));
    host.answer_cpuid(&[(0, [1, 0, 0, 0]), (1, [0, 0, 1 << 21, 0])]);
    host
}

fn interrupts(host: &FakeHost) -> Interrupts {
    collect_host(&host.source()).interrupts
}

fn posted(change: impl FnOnce(&FakeHost)) -> Delivery {
    let host = server();
    change(&host);
    interrupts(&host).delivery.posted
}

#[test]
fn all_three_ways_are_open_where_every_step_is() {
    let ways = interrupts(&server()).delivery;
    for way in [ways.emulated, ways.irqfd, ways.posted] {
        assert_eq!(way.available, Fact::Known(true), "{way:?}");
    }
}

#[test]
fn posting_names_the_step_that_is_missing() {
    let text = |path: &'static str, text: &'static str| posted(|host| host.add(&[(path, Entry::Text(text))]));
    for (way, word) in [
        (text(APICV, "N"), "APICv"),
        (text(CAP, "d2078c106f0466"), "dmar0 cannot post"),
        (text("/proc/interrupts", " 1: 0 PCI-MSI-edge x"), "not remapped"),
        (text("/proc/cmdline", "intremap=on,nopost"), "`intremap=on,nopost`"),
        (posted(|host| host.answer_kvm(Answer::Refused(Refusal::Absent))), "KVM cannot be used"),
    ] {
        assert_eq!(way.available, Fact::Known(false), "{way:?}");
        assert!(way.because.contains(word), "{way:?}");
    }
}

#[test]
fn a_step_that_is_unknown_leaves_posting_open_unless_another_is_missing() {
    let deny = |host: &FakeHost| {
        host.answer(|answers| {
            answers.denied.insert(APICV.to_owned());
        });
    };
    assert!(matches!(posted(deny).available, Fact::Denied { .. }));
    let way = posted(|host| {
        deny(host);
        host.add(&[(CAP, Entry::Text("d2078c106f0466"))]);
    });
    assert_eq!(way.available, Fact::Known(false));
    assert!(posted(|host| host.answer(|answers| answers.kvm = None)).available.is_unread());
}

#[test]
fn interrupts_of_guests_are_told_with_the_cpus_that_serve_them() {
    let host = server();
    host.add(&[
        ("/proc/irq/45/effective_affinity_list", Entry::Text("1")),
        ("/proc/irq/23/effective_affinity_list", Entry::Text("")),
        ("/proc/irq/23/smp_affinity_list", Entry::Text("0-1")),
        (DEFAULT_AFFINITY, Entry::Text("00000001,00000003")),
    ]);
    let nothing = interrupts(&FakeHost::new(&[]));
    let interrupts = interrupts(&host);
    let told: Vec<_> =
        interrupts.of_guests.known().unwrap().iter().map(|one| (one.number, one.kind)).collect();
    assert_eq!(told, [(45, GuestInterruptKind::MsiX), (23, GuestInterruptKind::Intx)]);
    let cpus = |index: usize| interrupts.of_guests.known().unwrap()[index].cpus.known().unwrap().to_string();
    assert_eq!((cpus(0).as_str(), cpus(1).as_str()), ("1", "0-1"));
    assert_eq!(interrupts.default_affinity.known().unwrap().to_string(), "0-1,32");
    assert!(nothing.of_guests.is_unread());
}

#[test]
fn the_register_tells_the_mode_and_else_the_log() {
    let enabled = |register: Option<u64>, line: &str| {
        let host = server();
        host.answer_log(&[line]);
        host.answer(|answers| {
            let entry = |value| MsrEntry { cpu: 0, register: 0x1B, value: Answer::Given(value) };
            answers.msr = register.map(entry).into_iter().collect();
        });
        interrupts(&host).x2apic_enabled
    };
    assert_eq!(enabled(Some(0xFEE0_0D00), ""), Fact::Known(true));
    assert_eq!(enabled(Some(0xFEE0_0900), "x2apic enabled"), Fact::Known(false));
    assert_eq!(enabled(None, "x2apic enabled"), Fact::Known(true));
    assert_eq!(enabled(None, "x2apic is disabled because BIOS sets x2apic opt out bit."), Fact::Known(false));
    assert!(enabled(None, "").is_unread());
}

#[test]
fn the_log_tells_to_which_identifiers_interrupts_are_remapped() {
    let mode = |line: &str| {
        let host = server();
        host.answer_log(&[line]);
        interrupts(&host).remapping_mode
    };
    assert_eq!(mode("DMAR-IR: Enabled IRQ remapping in x2apic mode"), Fact::Known(RemappingMode::X2apic));
    assert_eq!(mode("AMD-Vi: Interrupt remapping enabled"), Fact::Known(RemappingMode::Xapic));
    assert!(mode("").is_unread());
    let host = server();
    host.add(&[("/proc/interrupts", Entry::Text(" 1: 0 PCI-MSI-edge x"))]);
    assert_eq!(interrupts(&host).remapping_mode, Fact::NotPresent);
}
