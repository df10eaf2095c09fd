//! Modules that are there, built in, used and missing.

use super::*;
use crate::setup::action::{Action, Change};
use crate::setup::fake::FakeKernel;

fn change(kernel: &FakeKernel, module: &str) -> Change {
    Action::LoadModule(LoadModule { module: module.to_owned() }).observe(kernel).unwrap()
}

fn loaded(kernel: &FakeKernel, module: &str) -> Change {
    let change = change(kernel, module);
    change.carry_out(kernel).unwrap();
    change
}

#[test]
fn a_module_is_loaded_and_unloaded_and_what_it_needs_stays() {
    let kernel = FakeKernel::usual();
    let change = loaded(&kernel, "vhost-net");
    assert!(kernel.at("/sys/module/vhost_net").exists());

    change.take_back(&kernel).unwrap();

    assert!(!kernel.at("/sys/module/vhost_net").exists());
    assert!(kernel.at("/sys/module/vhost").exists());
    assert_eq!(kernel.log(), ["load vhost-net", "unload vhost_net"]);
}

#[test]
fn what_is_loaded_or_part_of_the_kernel_is_already_so_in_either_spelling() {
    let kernel = FakeKernel::usual();
    loaded(&kernel, "vhost_net");
    kernel.put(
        "/lib/modules/6.12.0-test/modules.builtin",
        "kernel/drivers/vfio/vfio.ko\nkernel/drivers/iommu/iommufd/iommu-fd.ko",
    );

    for module in ["vhost-net", "vhost_net", "vfio", "iommu_fd"] {
        assert!(change(&kernel, module).is_already_so(), "{module}");
    }
    assert!(!change(&kernel, "tun").is_already_so());
}

#[test]
fn a_module_in_use_is_kept_and_the_user_named() {
    let kernel = FakeKernel::usual();
    let (vhost, tun, vfio) = (loaded(&kernel, "vhost"), loaded(&kernel, "tun"), loaded(&kernel, "vfio-pci"));
    let above = loaded(&kernel, "vhost-net");
    kernel.put("/sys/module/tun/refcnt", "2");
    kernel.link("/sys/bus/pci/drivers/vfio-pci/0000:02:00.0", "../../../../devices/0000:02:00.0");
    kernel.link("/sys/bus/pci/drivers/vfio-pci/module", "../../../../module/vfio_pci");

    vhost.may_take_back(&kernel).expect("what stands on it may go before");
    let texts = [&vhost, &tun, &vfio].map(|change| change.take_back(&kernel).unwrap_err().to_string());

    assert_eq!(
        texts,
        [
            "kernel module vhost is in use: vhost_net on top of it; end that first",
            "kernel module tun is in use: the kernel counts 2 users of it; end that first",
            "kernel module vfio_pci is in use: 0000:02:00.0, which is bound to its driver vfio-pci; end that first",
        ]
    );
    assert!(matches!(tun.may_take_back(&kernel), Err(ActionError::InUse { .. })));
    above.take_back(&kernel).unwrap();
    vhost.take_back(&kernel).unwrap();
}

#[test]
fn a_module_that_there_is_not_is_named() {
    let kernel = FakeKernel::usual();
    let error = change(&kernel, "no-such").carry_out(&kernel).unwrap_err().to_string();
    assert!(error.starts_with("cannot load kernel module no-such: "), "{error}");
}
