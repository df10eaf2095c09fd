//! Nodes that are given, were given, and went.

use super::*;
use crate::setup::action::{Action, Change};
use crate::setup::fake::FakeKernel;

const NVME: &str = "0000:02:00.0";
const NODE: &str = "/dev/vfio/2";

fn bound() -> FakeKernel {
    let kernel = FakeKernel::usual();
    kernel.load_module("vfio-pci").unwrap();
    for (path, value) in [
        ("/sys/bus/pci/devices/0000:02:00.0/driver_override", "vfio-pci"),
        ("/sys/bus/pci/devices/0000:02:00.0/driver/unbind", NVME),
        ("/sys/bus/pci/drivers_probe", NVME),
    ] {
        kernel.write(path, value, BIND_LIMIT).unwrap();
    }
    kernel
}

fn owner(number: u32) -> Option<Owner> {
    Some(Owner { number, name: number.to_string() })
}

fn change(kernel: &FakeKernel, user: Option<Owner>, group: Option<Owner>) -> Change {
    let function = NVME.parse().unwrap();
    Action::NodeAccess(NodeAccess { function, vf: None, user, group }).observe(kernel).unwrap()
}

fn node(kernel: &FakeKernel) -> (u32, u32, u32) {
    let node = *kernel.source().device_node(NODE).known().unwrap();
    (node.uid, node.gid, node.mode)
}

#[test]
fn a_user_alone_gets_it_alone_and_a_group_with_the_group_bits() {
    for (user, group, expected) in [
        (owner(1000), None, (1000, 0, 0o600)),
        (None, owner(107), (0, 107, 0o660)),
        (owner(1000), owner(107), (1000, 107, 0o660)),
    ] {
        let kernel = bound();
        let change = change(&kernel, user, group);

        change.carry_out(&kernel).unwrap();
        let given = node(&kernel);
        change.take_back(&kernel).unwrap();

        assert_eq!(given, expected);
        assert_eq!(node(&kernel), (0, 0, 0o600));
    }
}

#[test]
fn permission_that_somebody_else_gave_is_left() {
    let kernel = bound();
    kernel.change_node(NODE, |node| node.mode = 0o606).unwrap();
    let change = change(&kernel, None, owner(107));

    change.carry_out(&kernel).unwrap();

    assert_eq!(node(&kernel), (0, 107, 0o666));
    change.take_back(&kernel).unwrap();
    assert_eq!(node(&kernel), (0, 0, 0o606));
}

#[test]
fn who_has_it_already_is_not_given_it_and_drift_says_what_is_there() {
    let kernel = bound();
    kernel.change_node(NODE, |node| (node.uid, node.mode) = (1000, 0o660)).unwrap();
    assert!(change(&kernel, owner(1000), None).is_already_so());
    let change = change(&kernel, owner(1001), None);
    change.carry_out(&kernel).unwrap();

    kernel.change_node(NODE, |node| node.uid = 7).unwrap();

    let drift = "/dev/vfio/2 with user 7, group 0 and mode 0660".to_owned();
    assert_eq!(change.standing(&kernel).unwrap(), Standing::Drifted(drift));
}

#[test]
fn the_node_goes_with_the_binding() {
    let kernel = bound();
    let change = change(&kernel, owner(1000), None);
    change.carry_out(&kernel).unwrap();

    kernel.write("/sys/bus/pci/devices/0000:02:00.0/driver/unbind", NVME, BIND_LIMIT).unwrap();

    assert_eq!(change.standing(&kernel).unwrap(), Standing::Gone);
    assert!(change.ends_with_function());
}

#[test]
fn a_node_that_does_not_come_is_told() {
    let kernel = FakeKernel::usual();
    let function = NVME.parse().unwrap();
    let action = Action::NodeAccess(NodeAccess { function, vf: None, user: owner(1), group: None });
    let error = action.observe(&kernel).unwrap_err().to_string();
    assert_eq!(error, "0000:02:00.0: expected /dev/vfio/2 to appear, found no such node");
}

#[test]
fn udev_is_waited_for_where_it_runs() {
    let kernel = bound();
    kernel.put("/run/udev/control", "");
    kernel.put("/sys/class/vfio/2/dev", "240:0");
    change(&kernel, owner(1000), None);
    assert_eq!(kernel.pauses(), TRIES as usize);

    kernel.put("/run/udev/data/c240:0", "I:12345");
    change(&kernel, owner(1000), None);
    assert_eq!(kernel.pauses(), TRIES as usize);
}
