//! Descriptions: what is read, what is refused, what becomes of them on QEMU's command line.

use super::*;

fn parse(text: &str) -> Result<Hardware, HardwareError> {
    Hardware::parse(text, "test.yaml")
}

fn with_pci(pci: &str) -> String {
    format!("schema: 1\ndescription: d\niommu: {{none: {{}}}}\npci:\n{pci}\n")
}

fn refusal(text: &str) -> String {
    let error = parse(text).unwrap_err();
    error.to_string()
}

fn arguments(text: &str) -> String {
    render(&parse(text).unwrap(), Accelerator::Tcg).arguments.join(" ")
}

#[test]
fn every_builtin_description_loads_and_survives_a_round_trip() {
    for builtin in BUILTIN {
        let hardware = Hardware::load(builtin.name).unwrap();

        let again = parse(&serde_yaml::to_string(&hardware).unwrap()).unwrap();

        assert_eq!(again, hardware, "{}", builtin.name);
    }
}

#[test]
fn default_hardware_becomes_the_proved_command_line() {
    let rendered = render(&Hardware::load("vtd-igb").unwrap(), Accelerator::Tcg);

    let expected = [
        "-machine q35,kernel-irqchip=split,usb=off,vmport=off",
        "-accel tcg,thread=multi,tb-size=512",
        "-cpu qemu64,svm=on,npt=on",
        "-smp 2",
        "-m 2048M",
        "-device intel-iommu,intremap=on,caching-mode=on,aw-bits=48",
        "-device pcie-root-port,id=port1,chassis=1,slot=1,bus=pcie.0,addr=02.0",
        "-netdev user,id=net2,net=10.0.2.0/24,restrict=on",
        "-device igb,id=nic2,netdev=net2,mac=52:54:00:6c:61:01,bus=port1,addr=00.0",
        "-device pcie-root-port,id=port3,chassis=3,slot=3,bus=pcie.0,addr=03.0",
        "-device nvme,id=nvme4,serial=SCRATCH,bus=port3,addr=00.0",
        "-drive file=images/SCRATCH-ns1.img,format=raw,if=none,id=drive5",
        "-device nvme-ns,drive=drive5,bus=nvme4,nsid=1",
        "-device pcie-root-port,id=port6,chassis=6,slot=6,bus=pcie.0,addr=04.0",
        "-netdev user,id=net7,net=10.0.3.0/24,restrict=on",
        "-device e1000e,id=nic7,netdev=net7,mac=52:54:00:6c:61:02,bus=port6,addr=00.0",
    ];
    assert_eq!(rendered.arguments.join(" "), expected.join(" "));
    assert_eq!(
        rendered.images,
        [Image { name: "SCRATCH-ns1.img".to_owned(), size: ByteSize::from_mebibytes(64) }]
    );
    let uplink = rendered.uplink.unwrap();
    assert_eq!((uplink.mac.as_str(), uplink.gateway.to_string().as_str()), ("52:54:00:6c:61:02", "10.0.3.2"));
}

#[test]
fn functions_of_one_slot_are_announced_by_function_zero() {
    let text = arguments(&with_pci(
        "  - root_port: {at: \"03.0\", acs: false}\n  - root_port: {at: \"03.1\"}\n  - root_port: {at: \"04.0\"}",
    ));

    assert!(text.contains("disable-acs=on,bus=pcie.0,addr=03.0,multifunction=on"), "{text}");
    assert!(text.contains("slot=2,bus=pcie.0,addr=03.1 "), "{text}");
    assert!(text.ends_with("slot=3,bus=pcie.0,addr=04.0"), "{text}");
}

#[test]
fn nvme_with_virtual_functions_keeps_resources_for_the_physical_one() {
    let rendered = render(&Hardware::load("vtd-nvme").unwrap(), Accelerator::Tcg).arguments.join(" ");

    assert!(
        rendered.contains(
            "sriov_max_vfs=4,sriov_vq_flexible=8,sriov_vi_flexible=4,max_ioqpairs=16,msix_qsize=16"
        ),
        "{rendered}"
    );
}

#[test]
fn switches_and_bridges_give_their_children_a_bus() {
    let text = arguments(&with_pci(
        "  - root_port:\n      at: \"02.0\"\n      devices:\n        - switch:\n            downstream:\n              - [{virtio_rng: {}}]\n              - [{pci_bridge: {devices: [{e1000: {at: \"01.0\"}}]}}]",
    ));

    for expected in [
        "x3130-upstream,id=up2,bus=port1,addr=00.0",
        "xio3130-downstream,id=port3,chassis=3,slot=3,bus=up2,addr=00.0",
        "virtio-rng-pci,id=rng4,bus=port3,addr=00.0",
        "pcie-pci-bridge,id=bridge6,bus=port5,addr=00.0",
        "e1000,id=nic7,mac=52:54:00:6c:61:01,bus=bridge6,addr=01.0",
    ] {
        assert!(text.contains(expected), "{expected} in {text}");
    }
}

#[test]
fn much_memory_narrows_the_physical_address_space() {
    let hardware = |memory: &str| {
        arguments(&format!("schema: 1\ndescription: d\nmemory: {memory}\niommu: {{none: {{}}}}\n"))
    };

    assert!(!hardware("2816MiB").contains("phys-bits"));
    assert!(hardware("4GiB").contains("npt=on,phys-bits=36"));
}

#[test]
fn kvm_runs_the_machines_own_cpu() {
    let hardware = Hardware::load("vtd-igb").unwrap();

    let rendered = render(&hardware, Accelerator::Kvm).arguments.join(" ");

    assert!(rendered.contains("-accel kvm -cpu host -smp"), "{rendered}");
}

#[test]
fn virtio_behind_an_iommu_uses_it() {
    let text = "schema: 1\ndescription: d\niommu: {virtio: {}}\npci: [{virtio_rng: {at: \"05.0\"}}]\n";
    let rendered = render(&parse(text).unwrap(), Accelerator::Tcg);

    assert_eq!(rendered.early_modules, ["virtio-iommu"]);
    assert!(rendered.arguments.join(" ").contains("iommu_platform=on,bus=pcie.0,addr=05.0"));
}

#[test]
fn amd_unit_is_rendered_with_its_parameters() {
    let rendered = render(&Hardware::load("amdvi").unwrap(), Accelerator::Tcg).arguments.join(" ");

    assert!(rendered.contains("-device amd-iommu,intremap=on,xtsup=on"), "{rendered}");
}

#[test]
fn unknown_keys_are_refused_with_their_place() {
    let text = refusal(&with_pci("  - igb: {at: \"02.0\", speed: 10}"));

    assert!(text.starts_with("test.yaml: "), "{text}");
    assert!(text.contains("unknown field `speed`") && text.contains("line 5"), "{text}");
    assert!(refusal("schema: 1\nsize: 3\n").contains("unknown field `size`"));
}

#[test]
fn impossible_machines_are_refused_by_name() {
    for (pci, reason) in [
        ("  - igb: {}", "pci[0].igb: say where it sits"),
        ("  - igb: {at: \"1e.0\"}", "slot 1e.0 is taken"),
        (
            "  - igb: {at: \"02.0\"}\n  - igb: {at: \"02.0\"}",
            "pci[1].igb: slot 02.0 is taken by an earlier entry",
        ),
        ("  - igb: {at: \"02.1\"}", "has no function 0"),
        ("  - switch: {at: \"02.0\", downstream: [[]]}", "sits behind a root port"),
        ("  - root_port: {at: \"02.0\", devices: [{root_port: {at: \"00.0\"}}]}", "sits on the root bus"),
        ("  - pci_bridge: {at: \"02.0\", devices: [{igb: {at: \"01.0\"}}]}", "does not fit"),
        ("  - igb: {at: \"02.0\", network: {address: 10.0.2.1}}", "no address of a /24"),
        (
            "  - nvme: {at: \"02.0\", serial: A, namespaces: [{size: 64MiB}]}\n  - nvme: {at: \"03.0\", serial: A, namespaces: [{size: 64MiB}]}",
            "serial `A` is used twice",
        ),
        ("  - nvme: {at: \"02.0\", serial: \"../a\", namespaces: [{size: 64MiB}]}", "serial `../a`"),
        ("  - nvme: {at: \"02.0\", serial: A, namespaces: [{size: 1000}]}", "size 1000B"),
        (
            "  - nvme: {at: \"02.0\", serial: A, namespaces: [{size: 1MiB}], sriov: {max_vfs: 4, flexible_queues: 7, flexible_interrupts: 4}}",
            "each virtual function needs",
        ),
    ] {
        let text = refusal(&with_pci(pci));
        assert!(text.contains(reason), "{reason}: {text}");
    }
}

#[test]
fn reserved_memory_brings_a_table_of_its_own() {
    let vtd = |memory: &str| {
        format!("schema: 1\ndescription: d\niommu: {{vtd: {{reserved_memory: [{memory}]}}}}\n")
    };
    let good = vtd("{path: [\"02.0\"], base: 0xf0000, size: 64KiB}");
    let rendered = render(&parse(&good).unwrap(), Accelerator::Tcg);
    assert_eq!(rendered.acpi_tables[0].name, "dmar.aml");
    assert_eq!(render(&parse(&vtd("")).unwrap(), Accelerator::Tcg).acpi_tables, []);
    for (memory, reason) in [
        ("{path: [], base: 0, size: 4KiB}", "reserved_memory[0]: path: 1 to 8 slots"),
        ("{path: [\"02.0\"], base: 1, size: 4KiB}", "0x1 and 4KiB: multiples of 4 KiB"),
        ("{path: [\"02.0\"], base: 0, size: 0}", "and not nothing"),
        ("{path: [\"02.0\"], base: 0xfffffffffffff000, size: 8KiB}", "multiples of 4 KiB"),
    ] {
        let text = refusal(&vtd(memory));
        assert!(text.contains(reason), "{reason}: {text}");
    }
}

#[test]
fn another_schema_version_is_refused() {
    let text = refusal("schema: 2\ndescription: d\niommu: {none: {}}\n");

    assert!(text.contains("schema is 2, this tool reads 1"), "{text}");
}

#[test]
fn words_that_would_become_options_are_refused() {
    let cpu = "schema: 1\ndescription: d\niommu: {none: {}}\ncpu: {model: \"a,b=c\"}\n";
    let kernel = "schema: 1\ndescription: d\niommu: {none: {}}\nkernel_arguments: [\"a b\"]\n";

    assert!(refusal(cpu).contains("no name of a CPU model"));
    assert!(refusal(kernel).contains("not one printable word"));
}

#[test]
fn unknown_names_list_what_there_is() {
    let error = Hardware::load("no-such-hardware").unwrap_err().to_string();

    assert!(error.contains("vtd-igb, vtd-nvme, amdvi, no-iommu, shared-group"), "{error}");
}
