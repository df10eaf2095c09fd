//! What a plan costs this host while it holds: what disappears with functions that go to guests, memory that huge pages
//! take, virtual functions that are destroyed.
//!
//! A physical function that comes back, comes back with its disks and interfaces; what stood on them does not by itself.

use std::collections::BTreeSet;

use super::Step;
use super::huge_pages::pages_now;
use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::host::pci::PciDevice;
use crate::host::usage::{Disk, Interface};
use crate::host::usb::UsbDevice;
use crate::setup::action::bind_driver::is_vfio;
use crate::setup::action::hugepages::mebibytes;
use crate::setup::action::{Action, Hugepages};
use crate::spec::pci::PciAddress;
use crate::spec::units::ByteSize;

const GIB: u64 = 1 << 30;

/// What `steps` cost, each in one sentence: by function in the order of the steps, memory last.
pub(super) fn of(facts: &HostFacts, steps: &[Step]) -> Vec<String> {
    let mut costs = Vec::new();
    let mut destroyed = BTreeSet::new();
    let mut pools = Vec::new();
    for step in steps {
        match &step.action {
            Action::VfCount(count) if count.count == 0 => {
                let vfs = virtual_functions(facts, count.pf);
                costs.extend(destruction(count.pf, &vfs));
                destroyed.extend(vfs.iter().map(|vf| vf.address));
            }
            // A virtual function that is made anew is none that the host has now, though its address may be the same.
            Action::BindDriver(bind)
                if bind.driver.as_deref().is_some_and(is_vfio) && !destroyed.contains(&bind.function) =>
            {
                costs.extend(facts.device(bind.function).into_iter().flat_map(|device| going(facts, device)));
            }
            Action::Hugepages(pool) => pools.push(pool),
            _ => {}
        }
    }
    costs.extend(memory(facts, &pools));
    costs
}

/// What disappears with `device`.
fn going(facts: &HostFacts, device: &PciDevice) -> Vec<String> {
    let address = device.address;
    let behind = facts.pci.functions().iter().filter(|other| {
        device.is_volume_management() && device.driver != Fact::NotPresent && other.address.domain > 0xFFFF
    });
    let functions: Vec<_> = std::iter::once(device).chain(behind).collect();
    let interfaces = functions.iter().filter_map(|function| function.usage.interfaces.known()).flatten();
    let disks = functions.iter().filter_map(|function| function.usage.disks.known()).flatten();
    let usb = facts.usb.devices.known().into_iter().flatten();
    let usb = usb.filter(|usb| usb.controller == Some(address) && !usb.is_root_hub());
    let things = interfaces.map(interface).chain(disks.map(disk)).chain(usb.map(usb_device));
    let mut costs: Vec<_> = things.map(|thing| format!("{thing} disappears with {address}")).collect();
    if is_lit(device) {
        costs.push(format!("display {address} goes dark for the host"));
    }
    costs
}

fn interface(interface: &Interface) -> String {
    let speed = interface.speed_mbps.known().map(|speed| format!("{speed} Mbit/s"));
    let above = (!interface.uppers.is_empty()).then(|| format!("below {}", interface.uppers.join(", ")));
    format!("network interface {}{}", interface.name, in_brackets([speed, above]))
}

fn disk(disk: &Disk) -> String {
    let size = disk.size_bytes.known().map(|bytes| size(*bytes).to_string());
    let holds =
        disk.signatures.iter().map(|(on, kind)| format!("{kind} on {on}")).collect::<Vec<_>>().join(", ");
    format!("disk {}{}", disk.name, in_brackets([size, (!holds.is_empty()).then_some(holds)]))
}

fn usb_device(usb: &UsbDevice) -> String {
    format!("USB device {}{}", usb.name, in_brackets([usb.product.known().cloned(), None]))
}

/// Whether the host has a picture on it.
fn is_lit(device: &PciDevice) -> bool {
    device.is_display()
        && device.vfio_bound != Fact::Known(true)
        && (device.driver.known().is_some()
            || device.boot_vga == Fact::Known(true)
            || device.firmware_framebuffer.known().is_some_and(|names| !names.is_empty()))
}

fn virtual_functions(facts: &HostFacts, pf: PciAddress) -> Vec<&PciDevice> {
    let sriov = facts.device(pf).and_then(|pf| pf.sriov.as_ref());
    let vfs = sriov.map_or(&[][..], |sriov| sriov.vfs.as_slice());
    vfs.iter().filter_map(|vf| facts.device(*vf.address.known()?)).collect()
}

fn destruction(pf: PciAddress, vfs: &[&PciDevice]) -> Option<String> {
    let each = vfs.iter().map(|vf| {
        let interfaces =
            vf.usage.interfaces.known().into_iter().flatten().map(|interface| interface.name.clone());
        let interfaces = interfaces.collect::<Vec<_>>().join(", ");
        format!("{}{}", vf.address, in_brackets([(!interfaces.is_empty()).then_some(interfaces), None]))
    });
    let each = each.collect::<Vec<_>>().join(", ");
    let (noun, verb) = if vfs.len() == 1 { ("virtual function", "is") } else { ("virtual functions", "are") };
    (!vfs.is_empty()).then(|| format!("{} {noun} of {pf} {verb} destroyed: {each}", vfs.len()))
}

fn memory(facts: &HostFacts, pools: &[&Hugepages]) -> Option<String> {
    let taken = pools.iter().map(|pool| {
        let now = pages_now(facts, pool).ok().flatten().unwrap_or(0);
        pool.count.saturating_sub(now).saturating_mul(pool.size_bytes)
    });
    let taken = taken.fold(0_u64, u64::saturating_add);
    let total = facts.memory.total_bytes.known();
    let of = total.map_or("the host's".to_owned(), |total| format!("the host's {} of", size(*total)));
    (taken > 0).then(|| format!("huge pages take {} of {of} memory", mebibytes(taken)))
}

fn in_brackets<const N: usize>(parts: [Option<String>; N]) -> String {
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) }
}

/// Without what is smaller than the unit: nobody asks for the bytes of a disk.
fn size(bytes: u64) -> ByteSize {
    if bytes >= GIB { ByteSize::from_bytes(bytes / GIB * GIB) } else { mebibytes(bytes) }
}

#[cfg(test)]
mod tests {
    use crate::host;
    use crate::setup::action::BIND_LIMIT;
    use crate::setup::control::Control;
    use crate::setup::fake::{BRIDGE, FakeKernel, Function, NIC, NVME, Node, UPLINK};
    use crate::setup::goal::Goal;
    use crate::setup::guard::Consents;
    use crate::setup::plan::plan;

    fn costs(kernel: &FakeKernel, yaml: &str) -> Vec<String> {
        let goal: Goal = serde_json::from_value(serde_yaml::from_str(yaml).unwrap()).unwrap();
        let consents = Consents { allow: [NVME.address.parse().unwrap()].into(), ..Consents::default() };
        plan(&host::collect(kernel.source()), &goal, &consents).unwrap().costs
    }

    #[test]
    fn interfaces_and_disks_go_with_their_functions() {
        let kernel = FakeKernel::usual();
        let place = "/bus/pci/devices/0000:02:00.0/nvme/nvme0/nvme0n1";
        for (name, text) in [("dev", "259:0"), ("size", "976773168")] {
            kernel.put(&format!("/sys{place}/{name}"), text);
        }
        kernel.link("/sys/class/block/nvme0n1", &format!("../..{place}"));
        kernel.put("/run/udev/data/b259:0", "E:ID_FS_TYPE=ext4");
        kernel.set_link("eth0", true, BIND_LIMIT).unwrap();
        kernel.put("/sys/class/net/eth0/speed", "10000");

        let both =
            costs(&kernel, "devices: [{select: {address: '01:00.0'}}, {select: {address: '02:00.0'}}]");
        let back = costs(&kernel, "devices: [{select: {address: '01:00.0'}, driver: igb}]");

        assert_eq!(
            both,
            [
                "network interface eth0 (10000 Mbit/s) disappears with 0000:01:00.0",
                "disk nvme0n1 (465GiB, ext4 on nvme0n1) disappears with 0000:02:00.0"
            ]
        );
        assert_eq!(back, [""; 0]);
    }

    #[test]
    fn displays_go_dark_where_the_host_has_a_picture() {
        let display = Function { class: 0x03_0000, ids: (0x1234, 0x1111), ..NVME };
        let lit = FakeKernel::new(&[display, BRIDGE]);
        let dark = FakeKernel::new(&[Function { driver: None, ..display }, BRIDGE]);
        let goal = "devices: [{select: {address: '02:00.0'}}]";

        assert_eq!(costs(&lit, goal), ["display 0000:02:00.0 goes dark for the host"]);
        assert_eq!(costs(&dark, goal), [""; 0]);
    }

    #[test]
    fn virtual_functions_are_destroyed_by_another_count_and_not_lost_twice() {
        let kernel = FakeKernel::new(&[NIC, UPLINK, BRIDGE]);
        kernel.write("/sys/bus/pci/devices/0000:01:00.0/sriov_numvfs", "2", BIND_LIMIT).unwrap();
        let pf = "pf: {address: '01:00.0'}";

        let more =
            costs(&kernel, &format!("sriov: [{{{pf}, count: 3, vfs: [{{index: 0, driver: vfio-pci}}]}}]"));
        let same =
            costs(&kernel, &format!("sriov: [{{{pf}, count: 2, vfs: [{{index: 1, driver: vfio-pci}}]}}]"));

        let [more] = &more[..] else { panic!("{more:?}") };
        assert!(
            more.starts_with("2 virtual functions of 0000:01:00.0 are destroyed: 0000:01:10.0 ("),
            "{more}"
        );
        let [same] = &same[..] else { panic!("{same:?}") };
        assert!(same.ends_with(" disappears with 0000:01:10.2"), "{same}");
    }

    #[test]
    fn huge_pages_take_what_is_missing() {
        let node = Node { asked: 2, ..Node::default() };
        let kernel = FakeKernel::usual().with_nodes(&[node, node]);
        kernel.put("/proc/meminfo", "MemTotal: 131072 kB\nMemAvailable: 65536 kB");

        let more =
            costs(&kernel, "hugepages: [{size: 2MiB, count: 5, node: 0}, {size: 2MiB, count: 3, node: 1}]");
        let enough = costs(&kernel, "hugepages: [{size: 2MiB, count: 2, node: 0}]");

        assert_eq!(more, ["huge pages take 8MiB of the host's 128MiB of memory"]);
        assert_eq!(enough, [""; 0]);
    }
}
