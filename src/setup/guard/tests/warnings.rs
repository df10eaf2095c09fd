//! What is told and stops nothing.

use super::*;
use crate::setup::goal::HugepagesGoal;

/// The names of the warnings when `functions` are to be bound to vfio-pci.
fn warnings(kernel: &FakeKernel, functions: &[&str]) -> Vec<Rule> {
    let facts = host::collect(kernel.source());
    let taken = functions.iter().map(|function| address(function)).collect();
    let consents = Consents::default();
    let guard = Guard::new(&facts, &consents, &taken);
    let found =
        taken.iter().flat_map(|function| guard.warnings(facts.device(*function).unwrap(), &[1].into()));
    found
        .map(|found| {
            assert_eq!(found.severity, Severity::Warn);
            found.rule
        })
        .collect()
}

fn put(kernel: &FakeKernel, attribute: &str, text: &str) {
    kernel.put(&format!("/sys/bus/pci/devices/{}/{attribute}", NVME.address), text);
}

#[test]
fn power_that_goes_is_told_of_displays_and_of_what_is_off() {
    for (class, allowed, state, argument, expected) in [
        (0x03_0000, "1", "D0", "", &[Rule::D3cold][..]),
        (0x03_0000, "0", "D0", "", &[]),
        (0x03_0000, "1", "D0", "vfio_pci.disable_idle_d3=1", &[]),
        (0x01_0802, "1", "D0", "", &[]),
        (0x01_0802, "1", "D3cold", "", &[Rule::D3cold]),
    ] {
        let kernel = with(of_class(class));
        put(&kernel, "d3cold_allowed", allowed);
        put(&kernel, "power_state", state);
        kernel.put("/proc/cmdline", &format!("console=ttyS0 {argument}"));
        assert_eq!(warnings(&kernel, &[NVME.address]), expected, "{class:#x} {allowed} {state} {argument}");
    }
}

#[test]
fn a_part_of_a_card_is_told() {
    let second = Function { address: "0000:02:00.1", group: 9, ..NVME };
    let kernel = FakeKernel::new(&[NVME, second]);
    assert_eq!(warnings(&kernel, &[NVME.address]), [Rule::PartOfCard]);
    assert_eq!(warnings(&kernel, &[NVME.address, second.address]), []);
    // Functions of the chipset share numbers and are no card.
    let (one, other) =
        (Function { address: "0000:00:1f.3", ..NVME }, Function { address: "0000:00:1f.6", ..second });
    assert_eq!(warnings(&FakeKernel::new(&[one, other]), &[one.address]), []);
}

#[test]
fn a_reset_of_the_bus_is_told_while_others_are_on_it() {
    let second = Function { address: "0000:02:01.0", group: 9, ..NVME };
    for (methods, others, expected) in
        [("bus", &[second][..], &[Rule::BusReset][..]), ("flr bus", &[second], &[]), ("bus", &[], &[])]
    {
        let kernel = with(NVME);
        others.iter().for_each(|other| kernel.add(other));
        put(&kernel, "reset_method", methods);
        // The root port's header: buses 2 to 2 are behind it.
        let mut header = [0_u8; 64];
        (header[0x0E], header[0x19], header[0x1A]) = (1, 2, 2);
        std::fs::write(kernel.at(&format!("/sys/bus/pci/devices/{}/config", BRIDGE.address)), header)
            .unwrap();
        assert_eq!(warnings(&kernel, &[NVME.address]), expected, "{methods} {others:?}");
        let all: Vec<_> =
            [NVME.address].into_iter().chain(others.iter().map(|other| other.address)).collect();
        assert!(!warnings(&kernel, &all).contains(&Rule::BusReset));
    }
}

#[test]
fn a_reset_that_is_known_to_go_wrong_is_told_while_the_kernel_would_use_it() {
    // Samsung SM961: FLR hurts.
    let kernel = with(Function { ids: (0x144D, 0xA804), ..NVME });
    for (methods, expected) in [("flr bus", &[Rule::KnownReset][..]), ("device_specific flr", &[])] {
        put(&kernel, "reset_method", methods);
        assert_eq!(warnings(&kernel, &[NVME.address]), expected, "{methods}");
    }
}

#[test]
fn a_display_without_rom_is_told() {
    let kernel = with(of_class(0x03_0000));
    let bar = "0x00000000e0000000 0x00000000efffffff 0x0000000000042208\n";
    let none = "0x0000000000000000 0x0000000000000000 0x0000000000000000\n";
    let rom = "0x00000000fe000000 0x00000000fe01ffff 0x000000000004620a\n";
    put(&kernel, "resource", &[bar, none, none, none, none, none, none].concat());
    assert_eq!(warnings(&kernel, &[NVME.address]), [Rule::OptionRom]);
    put(&kernel, "resource", &[bar, none, none, none, none, none, rom].concat());
    assert_eq!(warnings(&kernel, &[NVME.address]), []);
}

#[test]
fn memory_on_another_node_is_told() {
    let kernel = FakeKernel::usual();
    for (node, expected) in [("-1", &[][..]), ("1", &[]), ("0", &[Rule::NumaRemote])] {
        put(&kernel, "numa_node", node);
        assert_eq!(warnings(&kernel, &[NVME.address]), expected, "{node}");
    }
}

#[test]
fn a_plan_tells_warnings_and_needs_no_consent_for_them() {
    let kernel = FakeKernel::usual().with_nodes(&[crate::setup::fake::Node::default(); 2]);
    put(&kernel, "numa_node", "0");
    let goal = Goal {
        devices: vec![DeviceGoal::new(Selector::Address(address(NVME.address)), "vfio-pci".to_owned())],
        hugepages: vec![HugepagesGoal { size: "2MiB".parse().unwrap(), count: 1, node: Some(1) }],
        ..Goal::default()
    };
    let plan = plan(&host::collect(kernel.source()), &goal, &Consents::default()).unwrap();
    assert!(plan.consented.is_empty());
    assert!(plan.warnings[0].starts_with("0000:02:00.0 [numa-remote]: "), "{:?}", plan.warnings);
}
