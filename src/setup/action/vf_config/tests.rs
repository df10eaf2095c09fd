//! What is written, what is put back, and what a driver refuses.

use std::time::Duration;

use super::*;
use crate::setup::action::{Action, Change};
use crate::setup::control::ControlError;
use crate::setup::fake::FakeKernel;

const LIMIT: Duration = Duration::from_secs(10);

fn kernel(vfs: &str) -> FakeKernel {
    let kernel = FakeKernel::usual();
    kernel.write("/sys/bus/pci/devices/0000:01:00.0/sriov_numvfs", vfs, LIMIT).unwrap();
    kernel.trouble(None);
    kernel
}

fn action(settings: VfSettings) -> Action {
    let (pf, function) = ("0000:01:00.0".parse().unwrap(), "0000:01:10.0".parse().unwrap());
    Action::VfConfig(VfConfig { function, vf: VfIndex { pf, index: 0 }, settings })
}

fn observed(kernel: &FakeKernel, settings: VfSettings) -> Change {
    action(settings).observe(kernel).unwrap()
}

fn mac(text: &str) -> Option<MacAddress> {
    Some(text.parse().unwrap())
}

fn set(kernel: &FakeKernel, setting: VfSetting) {
    kernel.set_vf("eth0", 0, setting, LIMIT).unwrap();
}

#[test]
fn only_what_differs_is_written_and_the_priority_and_the_other_rate_stay() {
    let kernel = kernel("1");
    set(&kernel, VfSetting::Vlan { number: 9, priority: 3 });
    kernel.trouble(None);

    let settings = VfSettings {
        vlan: Some(42),
        spoof_check: Some(true),
        max_tx_rate_mbps: Some(100),
        ..VfSettings::default()
    };
    observed(&kernel, settings).carry_out(&kernel).unwrap();

    assert_eq!(kernel.log(), ["VF 0 of eth0: VLAN 42", "VF 0 of eth0: at most 100 Mbit/s"]);
    let now = kernel.vf("eth0", 0).unwrap();
    assert_eq!((now.vlan, now.vlan_priority), (Some(42), Some(3)));
}

#[test]
fn an_address_that_the_function_chose_itself_is_not_pinned_by_putting_it_back() {
    let kernel = kernel("1");
    let chosen = kernel.vf("eth0", 0).unwrap().mac.unwrap();
    assert_ne!(chosen, MacAddress::ZERO.to_string());

    let change = observed(&kernel, VfSettings { mac: mac("02:00:00:00:00:01"), ..VfSettings::default() });
    change.carry_out(&kernel).unwrap();
    kernel.trouble(None);
    change.take_back(&kernel).unwrap();

    let written: Vec<_> = kernel.log().into_iter().filter(|line| line.contains("MAC")).collect();
    assert_eq!(written, ["VF 0 of eth0: no MAC address"]);
    assert_eq!(change.standing(&kernel).unwrap(), Standing::Before);
}

#[test]
fn a_function_of_the_host_is_bound_anew_for_its_address_and_its_interface_has_it_then() {
    let kernel = kernel("1");
    kernel.set_link("vf100", true, LIMIT).unwrap();

    observed(&kernel, VfSettings { mac: mac("02:00:00:00:00:01"), ..VfSettings::default() })
        .carry_out(&kernel)
        .unwrap();

    let net = "/sys/bus/pci/devices/0000:01:10.0/net/vf100";
    assert_eq!(kernel.text(&format!("{net}/address")).unwrap(), "02:00:00:00:00:01");
    assert_eq!(kernel.text(&format!("{net}/flags")).unwrap(), "0x1003");
}

#[test]
fn other_settings_leave_the_functions_driver_alone() {
    let kernel = kernel("1");

    observed(&kernel, VfSettings { trust: Some(true), ..VfSettings::default() }).carry_out(&kernel).unwrap();

    assert_eq!(kernel.log(), ["VF 0 of eth0: trust on"]);
}

#[test]
fn a_setting_that_the_driver_does_not_have_is_named() {
    let kernel = kernel("1");
    let change =
        observed(&kernel, VfSettings { link_state: Some(VfLinkState::Enable), ..VfSettings::default() });

    let error = change.carry_out(&kernel).unwrap_err();

    assert!(matches!(error, ActionError::Control(ControlError::VfUnsupported { .. })), "{error:?}");
    let text =
        "eth0's driver does not support setting the link state of its virtual functions; leave that out";
    assert_eq!(error.to_string(), text);
}

#[test]
fn a_value_that_the_driver_does_not_take_is_named_with_its_function() {
    let kernel = kernel("1");
    let change = observed(&kernel, VfSettings { min_tx_rate_mbps: Some(5), ..VfSettings::default() });

    let error = change.carry_out(&kernel).unwrap_err();

    assert!(
        error
            .to_string()
            .starts_with("eth0's driver does not take at least 5 Mbit/s for its virtual function 0")
    );
}

#[test]
fn what_the_driver_does_not_tell_is_not_changed() {
    let kernel = kernel("1");
    kernel.with_vfs("eth0", |vfs| vfs[0].trusted = None);

    let error =
        action(VfSettings { trust: Some(true), ..VfSettings::default() }).observe(&kernel).unwrap_err();

    assert!(error.to_string().contains("does not tell trust"), "{error}");
}

#[test]
fn settings_are_gone_with_their_function_and_somebody_elses_are_drift() {
    let kernel = kernel("1");
    let settings = VfSettings { vlan: Some(42), trust: Some(true), ..VfSettings::default() };
    let change = observed(&kernel, settings);
    let mut seen = Vec::new();
    for setting in [
        VfSetting::Vlan { number: 42, priority: 0 },
        VfSetting::Trust(true),
        VfSetting::Vlan { number: 8, priority: 0 },
    ] {
        set(&kernel, setting);
        seen.push(change.standing(&kernel).unwrap());
    }
    kernel.write("/sys/bus/pci/devices/0000:01:00.0/sriov_numvfs", "0", LIMIT).unwrap();
    seen.push(change.standing(&kernel).unwrap());

    let drifted = Standing::Drifted("VLAN 8".to_owned());
    assert_eq!(seen, [Standing::Between, Standing::Applied, drifted, Standing::Gone]);
}
