//! Whether KVM can be used, for each way in which it can or cannot.

use super::*;
use crate::host::collect as collect_host;
use crate::host::cpu::tests::{AMD, GUEST, INTEL, SVM, VMX, host};
use crate::host::source::answers::Answer as Recorded;
use crate::host::source::fake::{Entry, FakeHost};

const WORKS: Recorded<KvmAnswer> =
    Recorded::Given(KvmAnswer { api_version: 12, creates_vm: true, busy: false });

/// What stands behind KVM, whether it is usable, and why.
fn kvm(host: &FakeHost) -> (Option<bool>, Option<Backing>, Reason) {
    let kvm = collect_host(&host.source()).kvm;
    (kvm.usable.known().copied(), kvm.backing.known().copied(), kvm.reason)
}

#[test]
fn kvm_without_the_extension_is_software() {
    let real = host(AMD, 0, SVM, "svm");
    let software = host(AMD, GUEST, 0, "");
    for host in [&real, &software] {
        host.answer_kvm(WORKS);
    }
    assert_eq!(kvm(&real), (Some(true), Some(Backing::Hardware), Reason::Ok));
    assert_eq!(kvm(&software), (Some(true), Some(Backing::Software), Reason::SoftwareOnly));
}

#[test]
fn the_module_that_does_without_hardware_is_software_on_any_processor() {
    let host = host(AMD, 0, SVM, "svm");
    host.answer_kvm(WORKS);
    host.add(&[("/sys/module/kvm_pvm", Entry::Directory)]);
    assert_eq!(kvm(&host), (Some(true), Some(Backing::Software), Reason::SoftwareOnly));
}

#[test]
fn a_missing_device_has_the_cause_nearest_to_the_hardware() {
    assert_eq!(kvm(&host(INTEL, 0, 0, "")), (Some(false), None, Reason::NotInHardware));
    let capable = host(INTEL, VMX, 0, "vmx");
    assert_eq!(kvm(&capable), (Some(false), None, Reason::NoDriver));
    capable.add(&[("/sys/module/kvm_intel", Entry::Directory)]);
    assert_eq!(kvm(&capable), (Some(false), None, Reason::NoPermission));
}

#[test]
fn a_device_that_may_not_be_opened_is_unknown_and_not_unusable() {
    let host = host(INTEL, VMX, 0, "vmx");
    let denied = collect_host(&host.source_without(&["/dev/kvm"])).kvm;
    assert!(matches!(denied.usable, Fact::Denied { .. }));
    assert_eq!(denied.reason, Reason::NoPermission);
}

#[test]
fn an_interface_of_another_version_is_not_usable() {
    let host = host(INTEL, VMX, 0, "vmx");
    host.answer_kvm(Recorded::Given(KvmAnswer { api_version: 11, creates_vm: true, busy: false }));
    assert_eq!(kvm(&host), (Some(false), None, Reason::Unknown));
}

#[test]
fn a_node_without_a_module_behind_it_has_the_processors_cause_whoever_asks() {
    let without = host(INTEL, 0, 0, "");
    without.add(&[("/sys/class/net", Entry::Directory)]);
    let denied = collect_host(&without.source_without(&["/dev/kvm"])).kvm;
    assert_eq!((denied.usable, denied.reason), (Fact::Known(false), Reason::NotInHardware));

    // Something else than hardware stands behind it, or may: it is not for us to use.
    without.add(&[("/sys/class/misc/kvm", Entry::Directory)]);
    let denied = collect_host(&without.source_without(&["/dev/kvm"])).kvm;
    assert!(denied.usable.is_unread());
    assert_eq!((denied.reason, denied.registered), (Reason::NoPermission, Fact::Known(true)));
}

#[test]
fn another_hypervisor_keeps_kvm_from_making_machines() {
    let host = host(INTEL, VMX, 0, "vmx");
    host.answer_kvm(Recorded::Given(KvmAnswer { api_version: 12, creates_vm: false, busy: true }));
    host.add(&[("/sys/module/vboxdrv", Entry::Directory)]);
    assert_eq!(kvm(&host), (Some(false), None, Reason::Unknown));
    let facts = collect_host(&host.source()).kvm;
    assert_eq!((facts.busy, facts.other_hypervisors), (Fact::Known(true), Fact::Known(vec!["VirtualBox"])));
}

#[test]
fn a_module_that_the_command_line_keeps_out_is_off_in_the_kernel() {
    let host = host(AMD, 0, SVM, "svm");
    for argument in ["modprobe.blacklist=nouveau,kvm-amd", "module_blacklist=kvm"] {
        host.add(&[("/proc/cmdline", Entry::Text(argument))]);
        assert_eq!(kvm(&host), (Some(false), None, Reason::OffInKernel), "{argument}");
    }
}

#[test]
fn what_is_measured_outweighs_what_the_processor_promises() {
    let real = host(AMD, 0, SVM, "svm");
    real.answer_kvm(WORKS);
    let mut kvm = collect_host(&real.source()).kvm;
    let measured = |backing| {
        Fact::Known(Measured {
            exits_per_second: 1,
            guest_instructions_per_second: 1,
            host_instructions_per_second: 1,
            backing,
        })
    };
    let promised = kvm.explanation.clone();
    kvm.take(measured(Backing::Hardware));
    assert_eq!((kvm.reason, kvm.explanation.as_str()), (Reason::Ok, promised.as_str()));
    kvm.take(measured(Backing::Software));
    assert_eq!((kvm.reason, kvm.backing), (Reason::SoftwareOnly, Fact::Known(Backing::Software)));
}
