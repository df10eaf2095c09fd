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
fn what_the_kernel_writes_for_nothing_is_absent() {
    let plain = function(&[
        ("driver_override", Entry::Text("(null)")),
        ("numa_node", Entry::Text("-1")),
        ("reset_method", Entry::Text("")),
        ("power_state", Entry::Text("unknown")),
    ]);
    assert_eq!((plain.driver_override, plain.power_state), (Fact::NotPresent, Fact::NotPresent));
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

/// A whole configuration space: Express at 40h with a link of 4 of 8 lanes, MSI-X at 80h, then `extended` from 100h.
fn express(extended: &[u8]) -> Vec<u8> {
    let mut config = vec![0; 4096];
    for (offset, bytes) in [
        (0x06, &[0x10][..]),
        (0x34, &[0x40]),
        (0x40, &[0x10, 0x80, 0x02, 0x00, 0x00, 0x00, 0x00, 0x10]),
        (0x4C, &[0x84, 0x00, 0x00, 0x00]),
        (0x52, &[0x43, 0x10]),
        (0x80, &[0x11, 0x00, 0x0F, 0x80]),
        (0x100, extended),
    ] {
        config[offset..offset + bytes.len()].copy_from_slice(bytes);
    }
    config
}

#[test]
fn registers_of_capabilities_are_told_and_what_has_none_is_absent() {
    let config = express(&[0x0F, 0x00, 0x01, 0x00, 0x00, 0x00, 0x1F, 0x80]);
    let abilities = function(&[("config", Entry::Bytes(&config))]).config.abilities;
    let link = Link {
        speed_gt_per_s: Some(8.0),
        width_lanes: 4,
        max_speed_gt_per_s: Some(16.0),
        max_width_lanes: 8,
    };
    assert_eq!(abilities.link, Fact::Known(link));
    assert_eq!(abilities.function_level_reset, Fact::Known(true));
    assert_eq!(abilities.msi_x, Fact::Known(Vectors { vectors: 16, enabled: true }));
    assert_eq!(abilities.ats, Fact::Known(Switch { enabled: true }));
    assert_eq!((abilities.msi, abilities.pri), (Fact::NotPresent, Fact::NotPresent));
    assert_eq!((abilities.no_soft_reset, abilities.aer), (Fact::NotPresent, Fact::NotPresent));
}

#[test]
fn without_privilege_abilities_are_denied_and_never_absent() {
    let cut = express(&[])[..64].to_vec();
    let abilities = function(&[("config", Entry::Bytes(&cut))]).config.abilities;
    assert!(matches!(abilities.link, Fact::Denied { .. }));
    assert!(matches!(abilities.function_level_reset, Fact::Denied { .. }));
    assert!(matches!(abilities.resizable_bars, Fact::Denied { .. }));
}

#[test]
fn a_capability_at_the_end_of_the_bytes_is_unread() {
    let mut config = express(&[]);
    config[0x81] = 0xFC;
    config[0xFC] = 0x05;
    config.truncate(0xFE);
    let abilities = ConfigSpace::from_bytes(Fact::Known(config), "config").abilities;
    assert!(matches!(abilities.msi, Fact::Unreadable { .. }), "{:?}", abilities.msi);
}

#[test]
fn a_function_that_does_not_answer_says_so() {
    let config = |bytes: &[u8]| function(&[("config", Entry::Bytes(bytes))]).config;
    assert_eq!(config(&[0xFF; 64]).answers, Fact::Known(false));
    assert_eq!(config(&[0; 64]).answers, Fact::Known(true));
    assert!(config(&[0xFF; 4]).answers.is_unread());
}

#[test]
fn a_reset_of_the_bus_hits_what_is_on_it_and_behind_it() {
    let bridge = |secondary: u8, subordinate: u8| {
        let mut header = vec![0; 64];
        header[0x0E] = 1;
        header[0x19..0x1B].copy_from_slice(&[secondary, subordinate]);
        header
    };
    let host = FakeHost::new(&[]);
    for (address, header) in [
        ("0000:00:02.0", bridge(1, 2)),
        ("0000:00:03.0", bridge(0, 0)),
        ("0000:00:1f.0", vec![0; 64]),
        ("0000:01:00.0", vec![0; 64]),
        ("0000:01:01.0", bridge(2, 2)),
        ("0000:02:00.0", vec![0; 64]),
        ("0000:03:00.0", vec![0; 64]),
    ] {
        host.add(&[(&format!("{DEVICES}/{address}/config"), Entry::Bytes(&header))]);
    }
    let pci = collect_host(&host.source()).pci;
    let hit = |address: &str| {
        let siblings = &pci.device(address.parse().unwrap()).unwrap().bus_reset_siblings;
        siblings.as_ref().map(|siblings| siblings.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    assert_eq!(hit("0000:00:1f.0"), Fact::NotPresent);
    assert_eq!(hit("0000:01:00.0"), Fact::Known(vec!["0000:01:01.0".to_owned(), "0000:02:00.0".to_owned()]));
    assert_eq!(hit("0000:02:00.0"), Fact::Known(Vec::new()));
}

#[test]
fn claims_on_frame_buffers_are_asked_for_displays_only() {
    let nic = function(&[("class", Entry::Text("0x020000"))]);
    assert_eq!(nic.firmware_framebuffer, Fact::NotPresent);
    let display = function(&[("class", Entry::Text("0x038000")), ("boot_vga", Entry::Text("1"))]);
    assert!(display.firmware_framebuffer.is_unread(), "this host has no /proc/iomem");
    assert_eq!(display.boot_vga, Fact::Known(true));
}
