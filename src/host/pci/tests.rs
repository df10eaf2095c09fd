//! One function, as sysfs may show it.

use proptest::prelude::*;

use super::*;
use crate::host::collect as collect_host;
use crate::host::source::fake::{Entry, FakeHost};

const FUNCTION: &str = "/sys/bus/pci/devices/0000:01:00.0";

fn function(entries: &[(&str, Entry<'_>)]) -> PciDevice {
    let host = FakeHost::new(&[(FUNCTION, Entry::Directory)]);
    for (name, entry) in entries {
        host.add(&[(&format!("{FUNCTION}/{name}"), entry.clone())]);
    }
    collect_host(&host.source()).pci.functions()[0].clone()
}

/// The first `size` bytes of a configuration space with capability lists.
fn config(size: usize) -> Vec<u8> {
    let mut config = vec![0; size.max(0x110)];
    config[0x06] = 0x10;
    config[0x34] = 0x40;
    config[0x40..0x42].copy_from_slice(&[0x10, 0]);
    config[0x100..0x104].copy_from_slice(&[0x10, 0, 1, 0]);
    config.truncate(size);
    config
}

#[test]
fn identifiers_class_and_names_are_read() {
    let nic = function(&[
        ("vendor", Entry::Text("0x8086")),
        ("device", Entry::Text("0x10c9")),
        ("class", Entry::Text("0x020000")),
    ]);
    assert_eq!(
        (nic.vendor_id, nic.device_id, nic.class),
        (Fact::Known(0x8086), Fact::Known(0x10c9), Fact::Known(0x02_0000))
    );
    assert_eq!(nic.vendor.as_deref(), Some("Intel Corporation"));
    assert_eq!(nic.class_name.as_deref(), Some("Ethernet controller"));
}

#[test]
fn the_hosts_own_list_of_names_comes_first() {
    let host = FakeHost::new(&[
        (&format!("{FUNCTION}/vendor"), Entry::Text("0x8086")),
        (&format!("{FUNCTION}/device"), Entry::Text("0x10c9")),
        ("/usr/share/misc/pci.ids", Entry::Text("8086  Ours\n\t10c9  Special")),
    ]);
    let facts = collect_host(&host.source());
    assert_eq!(facts.pci.functions()[0].device.as_deref(), Some("Special"));
}

#[test]
fn what_the_kernel_writes_for_nothing_is_absent() {
    let plain = function(&[
        ("driver_override", Entry::Text("(null)")),
        ("numa_node", Entry::Text("-1")),
        ("reset_method", Entry::Text("")),
    ]);
    assert_eq!(plain.driver_override, Fact::NotPresent);
    assert_eq!(plain.numa_node, Fact::NotPresent);
    assert_eq!((plain.reset_methods, plain.driver), (Fact::NotPresent, Fact::NotPresent));
    assert_eq!(plain.vfio_bound, Fact::Known(false));
}

#[test]
fn a_reset_that_an_old_kernel_does_not_name_is_not_called_absent() {
    assert!(function(&[("reset", Entry::Text(""))]).reset_methods.is_unread());
}

#[test]
fn sixty_four_bytes_leave_capabilities_unread_and_not_empty() {
    let cut = function(&[("config", Entry::Bytes(&config(64)))]).config;
    assert!(matches!(cut.capabilities, Fact::Denied { .. }));
    assert!(matches!(cut.extended_capabilities, Fact::Denied { .. }));
    assert_eq!(cut.header_type, Fact::Known(0));
}

#[test]
fn an_express_function_with_256_bytes_has_an_extended_list_that_nobody_saw() {
    let short = function(&[("config", Entry::Bytes(&config(256)))]).config;
    assert_eq!(short.capabilities.known().unwrap()[0].name, Some("PCI Express"));
    assert!(matches!(short.extended_capabilities, Fact::Unreadable { .. }));
    let whole = function(&[("config", Entry::Bytes(&config(4096)))]).config;
    assert_eq!(whole.extended_capabilities.known().unwrap()[0].name, Some("SR-IOV"));
}

#[test]
fn a_conventional_function_without_lists_has_none() {
    let bare = function(&[("config", Entry::Bytes(&[0; 256]))]).config;
    assert_eq!((bare.capabilities, bare.extended_capabilities), (Fact::Known(vec![]), Fact::Known(vec![])));
}

#[test]
fn a_function_that_does_not_answer_is_unread() {
    assert!(function(&[("config", Entry::Bytes(&[0xFF; 4096]))]).config.capabilities.is_unread());
}

#[test]
fn only_the_kernels_own_spelling_is_an_address() {
    let host = FakeHost::new(&[
        (&format!("{DEVICES}/0000:01:00.0"), Entry::Directory),
        (&format!("{DEVICES}/01:00.0"), Entry::Directory),
        (&format!("{DEVICES}/10000:e1:00.0"), Entry::Directory),
    ]);
    let pci = collect_host(&host.source()).pci;
    let addresses: Vec<_> = pci.functions().iter().map(|function| function.address.to_string()).collect();
    assert_eq!(addresses, ["0000:01:00.0", "10000:e1:00.0"]);
    assert_eq!(pci.malformed_addresses, ["01:00.0"]);
}

proptest! {
    #[test]
    fn random_configuration_space_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..4200)) {
        let config = ConfigSpace::from_bytes(Fact::Known(bytes), "config");
        let count = config.capabilities.known().map_or(0, Vec::len);
        prop_assert!(count <= 48);
    }
}
