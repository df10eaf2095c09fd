//! Tables that are there, hidden, denied and broken; scopes followed over the bridges of the machine.

use super::*;
use crate::host::kernel;
use crate::host::source::fake::{Entry, FakeHost};
use crate::spec::sdt::testing::table;

const DMAR: &str = "/sys/firmware/acpi/tables/DMAR";

fn firmware(host: &FakeHost) -> Firmware {
    collect(&host.source(), &kernel::collect(&host.source()))
}

/// A host whose DMAR table has these flags and a reserved region for the function behind bridge 1c.4.
fn host(flags: u8, command_line: &str) -> FakeHost {
    let mut body = vec![38, flags, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    body.extend([1, 0, 34, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0xFF, 0x0F, 0, 1, 0, 0, 0, 0]);
    body.extend([1, 10, 0, 0, 0, 0, 0x1C, 4, 0, 1]);
    let mut bridge = [0; 64];
    (bridge[0x0E], bridge[0x19]) = (0x81, 5);
    FakeHost::new(&[
        ("/proc/cmdline", Entry::Text(command_line)),
        (DMAR, Entry::Bytes(&table("DMAR", &body))),
        ("/sys/firmware/acpi/tables/data/BERT", Entry::Text("")),
        ("/sys/bus/pci/devices/0000:00:1c.4/config", Entry::Bytes(&bridge)),
    ])
}

#[test]
fn scopes_are_followed_by_the_bus_numbers_of_this_machine() {
    let firmware = firmware(&host(1, ""));
    assert_eq!(firmware.acpi_tables, Fact::Known(vec!["DMAR".to_owned()]));
    assert_eq!(firmware.ivrs, Fact::NotPresent);
    let dmar = firmware.dmar.known().unwrap();
    assert_eq!(dmar.reserved_memory[0].scopes[0].address, Some("0000:05:00.1".parse().unwrap()));
    assert_eq!(dmar.faults, []);
}

#[test]
fn a_scope_behind_something_that_is_no_bridge_stays_without_address() {
    let host = host(1, "");
    host.add(&[("/sys/bus/pci/devices/0000:00:1c.4/config", Entry::Bytes(&[0; 64]))]);
    assert_eq!(firmware(&host).dmar.known().unwrap().reserved_memory[0].scopes[0].address, None);
}

#[test]
fn a_table_that_may_not_be_read_is_unknown_and_not_absent() {
    let host = host(1, "");
    let source = host.source_without(&["tables/DMAR"]);
    let firmware = collect(&source, &kernel::collect(&source));
    assert!(matches!(firmware.dmar, Fact::Denied { source } if source == DMAR));
    assert!(firmware.x2apic_opted_out.is_unread());
}

#[test]
fn a_container_hides_tables_and_does_not_deny_that_there_are_some() {
    let firmware = firmware(&FakeHost::new(&[("/sys/firmware", Entry::Directory)]));
    assert!(firmware.acpi_tables.is_unread() && firmware.dmar.is_unread() && firmware.ivrs.is_unread());
}

#[test]
fn firmware_without_acpi_has_no_tables() {
    let firmware = firmware(&FakeHost::new(&[("/sys/firmware/memmap", Entry::Directory)]));
    assert_eq!(firmware.acpi_tables, Fact::Known(Vec::new()));
    assert_eq!(firmware.dmar, Fact::NotPresent);
}

#[test]
fn bytes_that_hold_no_table_are_unreadable_with_the_reason() {
    let host = FakeHost::new(&[(DMAR, Entry::Text(""))]);
    let Fact::Unreadable { source, reason } = firmware(&host).dmar else { panic!("a table of one byte") };
    assert_eq!((source.as_str(), reason.split(' ').next()), (DMAR, Some("1")));
}

#[test]
fn the_command_line_overrules_the_opt_out() {
    let opted_out = |flags, line| firmware(&host(flags, line)).x2apic_opted_out;
    assert_eq!(opted_out(3, "quiet"), Fact::Known(true));
    assert_eq!(opted_out(3, "intremap=nosid,no_x2apic_optout"), Fact::Known(false));
    assert_eq!(opted_out(1, "quiet"), Fact::NotPresent);
}
