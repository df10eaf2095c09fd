//! Parts of the machine, volume management, and what keeps functions apart.

use super::*;

/// Of Intel, which the class alone does not say.
fn of_intel(class: u32, driver: &'static str) -> Function {
    Function { class, ids: (0x8086, 0x5678), driver: Some(driver), ..NVME }
}

#[test]
fn parts_of_the_chipset_need_consent() {
    for (function, expected) in [
        (of_intel(0x06_0100, "lpc_ich"), Some(Rule::Chipset)),
        (of_intel(0x0C_0500, "i801_smbus"), Some(Rule::Chipset)),
        (of_intel(0x0C_0700, "ipmi_si"), Some(Rule::Chipset)),
        (of_intel(0x07_8000, "mei_me"), Some(Rule::Chipset)),
        (of_intel(0x08_8000, "i6300esb"), Some(Rule::Chipset)),
        (of_intel(0x11_8000, "intel_vsec"), Some(Rule::Chipset)),
        (Function { ids: (0x1022, 0x1486), ..of_intel(0x10_8000, "ccp") }, Some(Rule::Chipset)),
        (of_intel(0x08_0501, "sdhci-pci"), None),
        (of_intel(0x0B_4000, "qat"), None),
    ] {
        let expected = expected.map_or(Vec::new(), |rule| consentable(rule, NVME.address));
        assert_eq!(rules(&with(function), &[NVME.address]), expected, "{function:?}");
    }
}

#[test]
fn the_display_of_remote_management_is_a_part_of_the_machine_even_if_nothing_draws_on_it() {
    let kernel = with(Function { ids: (0x1A03, 0x2000), driver: None, ..of_intel(0x03_0000, "") });
    kernel.put("/proc/iomem", "80000000-8fffffff : 0000:02:00.0");
    assert_eq!(rules(&kernel, &[NVME.address]), consentable(Rule::Chipset, NVME.address));
}

#[test]
fn cooling_and_memory_are_refused() {
    for driver in ["intel_pch_thermal", "proc_thermal", "proc_thermal_pci"] {
        let kernel = with(of_intel(0x11_8000, driver));
        assert_eq!(rules(&kernel, &[NVME.address]), refused(Rule::Thermal, NVME.address), "{driver}");
    }
    let memory = with(of_intel(0x05_0210, "cxl_pci"));
    let shared = with(of_intel(0x05_0000, "ivshmem"));
    assert_eq!(rules(&memory, &[NVME.address]), refused(Rule::Memory, NVME.address));
    assert_eq!(rules(&shared, &[NVME.address]), []);
}

#[test]
fn volume_management_is_judged_by_the_drives_behind_it() {
    const DRIVE: &str = "10000:01:00.0";
    let vmd = Function { ids: (0x8086, 0x467F), driver: Some("vmd"), class: 0x01_0400, ..NVME };
    let another = Function { address: "0000:05:00.0", group: 9, ..vmd };
    let with_drive = |functions: &[Function], mounts: &str| {
        let kernel = FakeKernel::new(functions);
        kernel.add(&Function { address: DRIVE, group: 10, ..NVME });
        let place = format!("/sys/bus/pci/devices/{DRIVE}/nvme/nvme0/nvme0n1");
        kernel.put(&format!("{place}/dev"), "259:0");
        kernel.link("/sys/class/block/nvme0n1", &format!("../..{}", place.trim_start_matches("/sys")));
        kernel.put("/proc/self/mountinfo", mounts);
        kernel
    };
    let (quiet, mounted) = ("1 0 0:1 / / rw - tmpfs tmpfs rw", "30 1 259:0 / /mnt rw - ext4 /dev/nvme0n1 rw");
    let of = |functions: &[Function], mounts| rules(&with_drive(functions, mounts), &[NVME.address]);

    assert_eq!(of(&[vmd], mounted), refused(Rule::VolumeManagement, NVME.address));
    assert_eq!(of(&[vmd], quiet), []);
    assert_eq!(of(&[Function { driver: None, ..vmd }], mounted), []);
    assert_eq!(of(&[vmd, another], mounted), consentable(Rule::VolumeManagement, NVME.address));
}

#[test]
fn only_an_override_between_a_function_and_its_neighbours_needs_consent() {
    let kernel = FakeKernel::usual();
    let mut facts = host::collect(kernel.source());
    let taken = [address(NVME.address)].into();
    let consents = Consents::default();
    let of = |facts: &HostFacts| {
        let found = Guard::new(facts, &consents, &taken)
            .against_passing(facts.device(address(NVME.address)).unwrap());
        found.into_iter().map(|objection| objection.rule).collect::<Vec<_>>()
    };
    assert_eq!(of(&facts), []);
    let Fact::Known(groups) = &mut facts.iommu.groups else { panic!() };
    groups.iter_mut().find(|group| group.id == NVME.group).unwrap().causes = vec![host::iommu::Cause {
        kind: host::iommu::CauseKind::Override,
        effect: host::iommu::Effect::KeepsApart,
        function: None,
        acs_capability: Some(false),
        missing: crate::spec::acs::Services::empty(),
        members: [address(NVME.address)].into(),
        summary: String::new(),
        evidence: Vec::new(),
    }];
    assert_eq!(of(&facts), [Rule::AcsOverride]);
}

#[test]
fn no_iommu_mode_needs_consent_and_interrupts_say_who_lets_them() {
    let unmapped = FakeKernel::usual();
    unmapped.put("/proc/interrupts", " 1: 5 IO-APIC 1-edge\n 2: 9 PCI-MSI 2-edge");
    unmapped.put("/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts", "Y");
    let without = FakeKernel::usual();
    std::fs::remove_file(without.at("/sys/kernel/iommu_groups/2/type")).unwrap();
    without.put("/sys/kernel/iommu_groups/2/name", "vfio-noiommu");

    let goal = Goal {
        devices: vec![DeviceGoal::new(Selector::Address(address(NVME.address)), "vfio-pci".to_owned())],
        ..Goal::default()
    };
    let error = plan(&host::collect(unmapped.source()), &goal, &Consents::default()).unwrap_err();

    assert!(error.to_string().contains("allow_unsafe_interrupts lets VFIO do it"), "{error}");
    assert_eq!(rules(&without, &[NVME.address]), consentable(Rule::NoIommu, NVME.address));
}
