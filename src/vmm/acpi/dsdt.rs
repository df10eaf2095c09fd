//! DSDT: what cannot be found by probing: the PCI host bridge with its windows and interrupt wiring ([`routing`]), serial
//! ports, the keyboard controller, the panic port, the clock, and how to power off. ACPI 6.5, chapters 5 and 6; PCI Firmware Specification 3.3, 4.5.

use acpi_tables::Aml;
use acpi_tables::aml::{
    AddressSpace, AddressSpaceCacheable, And, Arg, CreateDWordField, Device, EISAName, Equal, IO, If,
    Interrupt, Memory32Fixed, Method, Name, ONE, Package, Path, ResourceTemplate, Return, Scope, Store, Uuid,
    ZERO,
};

use crate::spec::acpi::SLP_TYP_S5;
use crate::vmm::acpi::{Platform, aml, routing, table};
use crate::vmm::chipset::{hpet, i8042, pvpanic, rtc, serial, vmgenid};
use crate::vmm::config::Hpet;
use crate::vmm::layout;
use crate::vmm::pci::root::Windows;

/// The DSDT of `platform`.
pub(super) fn build(platform: &Platform) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(soft_off());
    body.extend(routing::model());
    let mut devices = vec![host_bridge(platform), motherboard(), clock(), keyboard(), mouse()];
    devices.extend(routing::links());
    devices.extend(serial_ports(platform.serial_ports));
    if platform.hpet == Hpet::Present {
        devices.push(timers());
    }
    if platform.pvpanic {
        devices.push(panic_port());
    }
    if platform.vmgenid {
        devices.push(generation());
    }
    let devices: Vec<Raw> = devices.into_iter().map(Raw).collect();
    let children = devices.iter().map(|device| device as &dyn Aml).collect();
    body.extend(aml(&Scope::new(Path::new("_SB_"), children)));
    table(*b"DSDT", 2, &body)
}

/// Bytes that were generated before.
pub(super) struct Raw(pub(super) Vec<u8>);

impl Aml for Raw {
    fn to_aml_bytes(&self, sink: &mut dyn acpi_tables::AmlSink) {
        sink.vec(&self.0);
    }
}

/// `\_S5`: what to write into SLP_TYP (7.4.2).
fn soft_off() -> Vec<u8> {
    let values = Package::new(vec![&SLP_TYP_S5, &ZERO, &ZERO, &ZERO]);
    aml(&Name::new(Path::new("_S5_"), &values))
}

fn host_bridge(platform: &Platform) -> Vec<u8> {
    let Windows { pio, mmio32, mmio64 } = &platform.windows;
    let word = |value: u64| u16::try_from(value).unwrap_or(u16::MAX);
    let dword = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    let buses = AddressSpace::new_bus_number(0u16, platform.last_bus.into());
    // The host bridge consumes its own ports; ISA devices lie below the I/O window.
    let config_ports = IO::new(0xCF8, 0xCF8, 1, 8);
    let isa_low = AddressSpace::new_io(0u16, 0x0CF7, None);
    let isa_high = AddressSpace::new_io(0x0D00u16, 0x0FFF, None);
    let ports = AddressSpace::new_io(word(pio.start), word(pio.end.saturating_sub(1)), None);
    let low = AddressSpace::new_memory(
        AddressSpaceCacheable::NotCacheable,
        true,
        dword(mmio32.start),
        dword(mmio32.end.saturating_sub(1)),
        None,
    );
    let mut resources: Vec<&dyn Aml> = vec![&buses, &config_ports, &isa_low, &isa_high, &ports, &low];
    let high = AddressSpace::new_memory(
        AddressSpaceCacheable::NotCacheable,
        true,
        mmio64.start,
        mmio64.end.saturating_sub(1),
        None,
    );
    if !mmio64.is_empty() {
        resources.push(&high);
    }
    let [routes, bridge] = [routing::table(&platform.interrupt_devices), routing::bridge()].map(Raw);
    aml(&Device::new(
        Path::new("PCI0"),
        vec![
            &Name::new(Path::new("_HID"), &EISAName::new("PNP0A08")),
            &Name::new(Path::new("_CID"), &EISAName::new("PNP0A03")),
            &Name::new(Path::new("_UID"), &ZERO),
            &Name::new(Path::new("_SEG"), &ZERO),
            &Name::new(Path::new("_BBN"), &ZERO),
            &Name::new(Path::new("_CCA"), &ONE),
            &Name::new(Path::new("_CRS"), &ResourceTemplate::new(resources)),
            &routes,
            &bridge,
            &control_method(),
        ],
    ))
}

/// `_OSC`: the operating system may control everything that it asks for of PCI Express (PCI Firmware 3.3, 4.5.1); this
/// firmware does nothing with it that would collide.
fn control_method() -> Raw {
    const PCI_HOST_BRIDGE: &str = "33db4d5b-1ff7-401c-9657-7441c03dd766";
    /// Native hot plug, SHPC, PME, AER, capability structure, LTR.
    const GRANTED: u32 = 0b11_1111;
    const UNRECOGNIZED_UUID: u32 = 1 << 2;
    let status = Path::new("CDW1");
    let control = Path::new("CDW3");
    let uuid = Uuid::new(PCI_HOST_BRIDGE);
    let is_pci = Equal::new(&Arg(0), &uuid);
    let status_at = 0u32;
    let control_at = 8u32;
    Raw(aml(&Method::new(
        Path::new("_OSC"),
        4,
        true,
        vec![
            &CreateDWordField::new(&status, &Arg(3), &status_at),
            &If::new(
                &is_pci,
                vec![
                    &CreateDWordField::new(&control, &Arg(3), &control_at),
                    &And::new(&control, &control, &GRANTED),
                    &Return::new(&Arg(3)),
                ],
            ),
            &Store::new(&status, &UNRECOGNIZED_UUID),
            &Return::new(&Arg(3)),
        ],
    )))
}

/// Addresses that no device driver may claim: memory-mapped configuration space and the power management ports.
fn motherboard() -> Vec<u8> {
    let dword = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    let ecam =
        Memory32Fixed::new(true, dword(layout::ECAM.start), dword(layout::ECAM.end - layout::ECAM.start));
    // All that PMBASE claims: what the bridge has, Linux knows, and what lies in it only in part it takes away.
    let power = IO::new(layout::PM_BASE, layout::PM_BASE, 1, 0x80);
    aml(&Device::new(
        Path::new("MBRD"),
        vec![
            &Name::new(Path::new("_HID"), &EISAName::new("PNP0C02")),
            &Name::new(Path::new("_UID"), &ZERO),
            &Name::new(Path::new("_CRS"), &ResourceTemplate::new(vec![&ecam, &power])),
        ],
    ))
}

fn serial_ports(count: usize) -> impl Iterator<Item = Vec<u8>> {
    let names = ["COM1", "COM2"].into_iter().zip(1u8..);
    names.zip(serial::PORTS).take(count).map(|((name, number), (port, gsi))| {
        let ports = IO::new(port, port, 1, 8);
        let interrupt = isa_interrupt(gsi);
        aml(&Device::new(
            Path::new(name),
            vec![
                &Name::new(Path::new("_HID"), &EISAName::new("PNP0501")),
                &Name::new(Path::new("_UID"), &number),
                &Name::new(Path::new("_CRS"), &ResourceTemplate::new(vec![&ports, &interrupt])),
            ],
        ))
    })
}

/// An edge-triggered interrupt of a device on the ISA bus.
fn isa_interrupt(gsi: u32) -> Interrupt {
    Interrupt::new(true, true, false, false, gsi)
}

fn clock() -> Vec<u8> {
    let ports = IO::new(rtc::INDEX_PORT, rtc::INDEX_PORT, 1, 2);
    let interrupt = isa_interrupt(rtc::GSI);
    aml(&Device::new(
        Path::new("RTC_"),
        vec![
            &Name::new(Path::new("_HID"), &EISAName::new("PNP0B00")),
            &Name::new(Path::new("_CRS"), &ResourceTemplate::new(vec![&ports, &interrupt])),
        ],
    ))
}

/// The keyboard has the controller's ports, the mouse only its interrupt, as on every PC.
fn keyboard() -> Vec<u8> {
    let data = IO::new(i8042::DATA_PORT, i8042::DATA_PORT, 1, 1);
    let command = IO::new(i8042::COMMAND_PORT, i8042::COMMAND_PORT, 1, 1);
    let interrupt = isa_interrupt(i8042::KEYBOARD_GSI);
    aml(&Device::new(
        Path::new("KBD_"),
        vec![
            &Name::new(Path::new("_HID"), &EISAName::new("PNP0303")),
            &Name::new(Path::new("_CRS"), &ResourceTemplate::new(vec![&data, &command, &interrupt])),
        ],
    ))
}

fn mouse() -> Vec<u8> {
    let interrupt = isa_interrupt(i8042::MOUSE_GSI);
    aml(&Device::new(
        Path::new("MOU_"),
        vec![
            &Name::new(Path::new("_HID"), &EISAName::new("PNP0F13")),
            &Name::new(Path::new("_CRS"), &ResourceTemplate::new(vec![&interrupt])),
        ],
    ))
}

fn timers() -> Vec<u8> {
    let dword = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    let registers = Memory32Fixed::new(false, dword(hpet::BASE), dword(hpet::LENGTH));
    aml(&Device::new(
        Path::new("HPET"),
        vec![
            &Name::new(Path::new("_HID"), &EISAName::new("PNP0103")),
            &Name::new(Path::new("_UID"), &ZERO),
            &Name::new(Path::new("_CRS"), &ResourceTemplate::new(vec![&registers])),
        ],
    ))
}

/// Drivers look for the compatible name; `ADDR` is the low and the high half of the address.
fn generation() -> Vec<u8> {
    let [low, high] = [vmgenid::ADDRESS & 0xFFFF_FFFF, vmgenid::ADDRESS >> 32];
    aml(&Device::new(
        Path::new("VGEN"),
        vec![
            &Name::new(Path::new("_HID"), &"THRY0001"),
            &Name::new(Path::new("_CID"), &"VM_Gen_Counter"),
            &Name::new(Path::new("_DDN"), &"VM_Gen_Counter"),
            &Name::new(Path::new("ADDR"), &Package::new(vec![&low, &high])),
        ],
    ))
}

fn panic_port() -> Vec<u8> {
    /// Present, enabled, shown, functioning.
    const STATUS: u8 = 0xF;
    let port = IO::new(pvpanic::PORT, pvpanic::PORT, 1, 1);
    aml(&Device::new(
        Path::new("PEVT"),
        vec![
            &Name::new(Path::new("_HID"), &"QEMU0001"),
            &Name::new(Path::new("_STA"), &STATUS),
            &Name::new(Path::new("_CRS"), &ResourceTemplate::new(vec![&port])),
        ],
    ))
}
