//! What a function's state is while others work on it.

use super::*;
use crate::setup::fake::FakeKernel;

#[test]
fn an_interface_that_is_listed_and_never_there_is_an_error_that_names_the_place() {
    let kernel = FakeKernel::usual();
    let function: PciAddress = "0000:01:00.0".parse().unwrap();
    let before = FunctionState::observe(&kernel, function).unwrap();
    std::fs::create_dir(kernel.at("/sys/bus/pci/devices/0000:01:00.0/net/renamed")).unwrap();

    let error = FunctionState::observe(&kernel, function).unwrap_err();

    assert!(before.links_up.is_empty());
    assert!(error.to_string().contains("0000:01:00.0/net"), "{error}");
    assert!(error.to_string().contains("do not come to rest"), "{error}");
}

#[test]
fn a_driver_that_is_still_being_loaded_is_waited_for() {
    let kernel = FakeKernel::usual();
    let function: PciAddress = "0000:02:00.0".parse().unwrap();
    kernel.is_still_loading("nvme");

    detach(&kernel, function).unwrap();

    assert_eq!(driver(&kernel, function).unwrap(), None);
    assert_eq!(kernel.pauses(), 1);
}

#[test]
fn a_driver_that_lets_nothing_go_is_an_error_that_says_so() {
    let kernel = FakeKernel::usual();
    let function: PciAddress = "0000:02:00.0".parse().unwrap();
    std::fs::remove_file(kernel.at("/sys/bus/pci/drivers/nvme/unbind")).unwrap();

    let error = detach(&kernel, function).unwrap_err();

    assert!(error.to_string().contains("driver/unbind to appear"), "{error}");
    assert_eq!(driver(&kernel, function).unwrap().as_deref(), Some("nvme"));
}
