//! The verdict on the extension, for each way in which it comes about.

use super::*;
use crate::host::collect as collect_host;
use crate::host::source::answers::{Answer, MsrEntry, Refusal};
use crate::host::source::fake::{Entry, FakeHost};

pub(in crate::host) const INTEL: [u32; 4] = [0x16, 0x756E_6547, 0x6C65_746E, 0x4965_6E69];
pub(in crate::host) const AMD: [u32; 4] = [0x10, 0x6874_7541, 0x444D_4163, 0x6974_6E65];
pub(in crate::host) const VMX: u32 = cpuid::FEATURES_ECX_VMX;
pub(in crate::host) const SVM: u32 = cpuid::EXTENDED_ECX_SVM;
pub(in crate::host) const GUEST: u32 = cpuid::FEATURES_ECX_HYPERVISOR;

/// A host whose processor answers `vendor`, leaf 1 ECX `features`, leaf 80000001h ECX `extended`, and whose kernel
/// shows `flags`.
pub(in crate::host) fn host(vendor: [u32; 4], features: u32, extended: u32, flags: &str) -> FakeHost {
    let host = FakeHost::new(&[
        ("/proc/cpuinfo", Entry::Text(&format!("processor\t: 0\nflags\t\t: fpu {flags}\n\nprocessor\t: 1"))),
        ("/proc/cmdline", Entry::Text("quiet")),
        ("/proc/sys/kernel/osrelease", Entry::Text("6.12.0")),
        ("/sys/module", Entry::Directory),
        ("/sys/kernel", Entry::Directory),
    ]);
    host.answer_cpuid(&[
        (0, vendor),
        (1, [0x000A_0F11, 0, features, 0]),
        (0x4000_0000, [0x4000_0001, 0x4B4D_564B, 0x564B_4D56, 0x4D]),
        (0x8000_0000, [0x8000_0008, 0, 0, 0]),
        (0x8000_0001, [0, 0, extended, 0]),
    ]);
    host.answer_kvm(Answer::Refused(Refusal::Absent));
    host
}

fn verdict(host: &FakeHost) -> (Option<bool>, Option<bool>, Reason) {
    let virtualization = collect_host(&host.source()).cpu.virtualization;
    (
        virtualization.in_silicon.known().copied(),
        virtualization.usable.known().copied(),
        virtualization.reason,
    )
}

#[test]
fn an_extension_that_the_kernel_offers_is_usable() {
    let intel = host(INTEL, VMX, 0, "vmx");
    assert_eq!(verdict(&intel), (Some(true), Some(true), Reason::Ok));
    assert_eq!(verdict(&host(AMD, 0, SVM, "svm")), (Some(true), Some(true), Reason::Ok));
    let cpu = collect_host(&intel.source()).cpu;
    assert_eq!((cpu.vendor, cpu.online), (Fact::Known("GenuineIntel".to_owned()), Fact::Known(2)));
    assert_eq!(cpu.hypervisor.present, Fact::Known(false));
}

#[test]
fn silicon_without_the_flag_is_off_in_firmware_if_the_kernel_has_kvm_for_it() {
    assert_eq!(verdict(&host(AMD, 0, SVM, "")), (Some(true), Some(false), Reason::OffInFirmware));
    let intel = host(INTEL, VMX, 0, "");
    assert_eq!(verdict(&intel), (Some(true), Some(false), Reason::Unknown));
    intel.add(&[("/lib/modules/6.12.0/kernel/arch/x86/kvm/kvm-intel.ko.xz", Entry::Text(""))]);
    assert_eq!(verdict(&intel), (Some(true), Some(false), Reason::OffInFirmware));
}

#[test]
fn the_command_line_can_take_the_flag_away() {
    for argument in ["clearcpuid=svm", "clearcpuid=fpu,194"] {
        let amd = host(AMD, 0, SVM, "");
        amd.add(&[("/proc/cmdline", Entry::Text(argument))]);
        assert_eq!(verdict(&amd), (Some(true), Some(false), Reason::OffInKernel), "{argument}");
    }
}

#[test]
fn silicon_that_lacks_it_differs_from_a_hypervisor_that_hides_it() {
    assert_eq!(verdict(&host(INTEL, 0, 0, "")), (Some(false), Some(false), Reason::NotInHardware));
    assert_eq!(verdict(&host(AMD, GUEST, 0, "")), (None, Some(false), Reason::HiddenByHypervisor));
    let either = FakeHost::new(&[("/proc/cpuinfo", Entry::Text("vendor_id\t: AuthenticAMD"))]);
    either.answer_cpuid(&[(0x8000_0000, [0x8000_0008, 0, 0, 0]), (0x8000_0001, [0; 4])]);
    assert_eq!(verdict(&either), (Some(false), Some(false), Reason::Unknown));
}

#[test]
fn a_locked_register_outweighs_the_flag_of_an_old_kernel() {
    let amd = host(AMD, 0, SVM, "svm");
    amd.answer(|answers| {
        answers.msr.push(MsrEntry { cpu: 0, register: 0xC001_0114, value: Answer::Given(0x18) });
    });
    assert_eq!(verdict(&amd), (Some(true), Some(false), Reason::OffInFirmware));
}

#[test]
fn a_leaf_out_of_range_is_a_processor_from_before_the_extension() {
    let old = host(AMD, 0, 0, "");
    old.answer_cpuid(&[(0, AMD), (1, [0; 4]), (0x8000_0000, [0; 4])]);
    assert_eq!(verdict(&old), (Some(false), Some(false), Reason::NotInHardware));
}

#[test]
fn without_cpuid_the_kernels_flag_decides_and_its_absence_does_not() {
    for (flags, expected) in
        [("svm", (Some(true), Some(true), Reason::Ok)), ("", (None, None, Reason::Unknown))]
    {
        let text = format!("vendor_id\t: AuthenticAMD\nflags\t\t: fpu {flags}");
        let tree = FakeHost::new(&[("/proc/cpuinfo", Entry::Text(&text))]);
        assert_eq!(verdict(&tree), expected, "{flags}");
    }
}

#[test]
fn a_host_that_shows_nothing_is_unknown_throughout() {
    let facts = collect_host(&FakeHost::new(&[]).source());
    assert!(facts.cpu.vendor.is_unread() && facts.cpu.hypervisor.present.is_unread());
    assert_eq!(facts.cpu.virtualization.reason, Reason::Unknown);
    assert!(facts.cpu.virtualization.usable.known().is_none() && facts.kvm.usable.is_unread());
}

#[test]
fn the_hypervisor_is_named_by_its_signature_else_by_the_firmware() {
    let kvm = host(AMD, GUEST, SVM, "svm");
    assert_eq!(collect_host(&kvm.source()).cpu.hypervisor.name.as_deref(), Some("KVM"));
    kvm.answer_cpuid(&[(0, AMD), (1, [0, 0, GUEST, 0]), (0x4000_0000, [0, 0x4141_4141, 0, 0])]);
    kvm.add(&[("/sys/class/dmi/id/sys_vendor", Entry::Text("VMware, Inc."))]);
    let hypervisor = collect_host(&kvm.source()).cpu.hypervisor;
    assert_eq!(
        (hypervisor.name.as_deref(), hypervisor.signature),
        (Some("VMware"), Fact::Known("AAAA".to_owned()))
    );
}

#[test]
fn what_may_not_be_seen_is_no_permission() {
    let denied = collect_host(&host(AMD, 0, SVM, "svm").source_without(&["/proc/cpuinfo"]));
    let Virtualization { usable, reason, .. } = denied.cpu.virtualization;
    assert!(usable.is_unread());
    assert_eq!(reason, Reason::NoPermission);
}

#[test]
fn the_registers_of_firmware_are_told_where_they_can_be_read() {
    let intel = host(INTEL, VMX, 0, "vmx");
    intel.answer(|answers| {
        answers.msr.push(MsrEntry { cpu: 0, register: 0x3A, value: Answer::Given(0x5) });
    });
    let virtualization = collect_host(&intel.source()).cpu.virtualization;
    let control = virtualization.feature_control.known().unwrap();
    assert!(control.locked && control.vmx_outside_smx && !control.vmx_inside_smx);
    assert_eq!(
        (virtualization.off_by_register, virtualization.vm_cr),
        (Fact::Known(false), Fact::NotPresent)
    );
    assert_eq!(collect_host(&host(AMD, 0, SVM, "svm").source()).cpu.virtualization.vm_cr, Fact::NotPresent);
}

#[test]
fn widths_threads_and_microcode_come_from_cpuid_or_else_from_the_kernel() {
    let text = "processor\t: 0\nmicrocode\t: 0xa0011d5\nsiblings\t: 16\ncpu cores\t: 8\nflags\t: \
                pdpe1gb\naddress sizes\t: 43 bits physical, 48 bits virtual";
    let tree = FakeHost::new(&[("/proc/cpuinfo", Entry::Text(text))]);
    let cpu = collect_host(&tree.source()).cpu;
    assert_eq!((cpu.microcode_revision, cpu.threads_per_core), (Fact::Known(0x0A00_11D5), Fact::Known(2)));
    assert_eq!((cpu.physical_address_bits, cpu.linear_address_bits), (Fact::Known(43), Fact::Known(48)));
    assert_eq!((cpu.gigabyte_pages, cpu.differences), (Fact::Known(true), Fact::Known(Vec::new())));

    tree.answer_cpuid(&[(0x8000_0000, [0x8000_0008, 0, 0, 0]), (0x8000_0008, [0x3930, 0, 0, 0])]);
    let cpu = collect_host(&tree.source()).cpu;
    assert_eq!((cpu.physical_address_bits, cpu.linear_address_bits), (Fact::Known(48), Fact::Known(57)));
}
