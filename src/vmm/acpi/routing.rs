//! How PCI's interrupt pins reach the interrupt controllers (ACPI 6.5, 5.8.1 and 6.2.13): each at its own input of the I/O
//! APIC, or, for an operating system that uses the PIC, through link devices, which are the registers of the router
//! ([`pirq`]) in the LPC bridge.

use acpi_tables::aml::{
    And, Arg, CreateDWordField, Device, EISAName, Field, FieldAccessType, FieldEntry, FieldLockRule,
    FieldUpdateRule, If, LessThan, Method, Name, OpRegion, OpRegionSpace, Package, PackageBuilder, Path,
    ResourceTemplate, Return, Store, ZERO,
};
use acpi_tables::{Aml, AmlSink};

use crate::vmm::acpi::aml;
use crate::vmm::acpi::dsdt::Raw;
use crate::vmm::interrupt::pirq::{self, NOT_ROUTED, PIC_INPUTS, REQUESTS};
use crate::vmm::pci::lpc_bridge;

/// `\_PIC` was called with this: 1 for the I/O APIC.
const MODEL: &str = "PICF";
/// Bytes of configuration space from PIRQA's register to the end of PIRQH's.
const REGISTERS_LENGTH: u8 = 12;

/// Level-triggered, active low and shared inputs, one of which is used (6.4.3.6).
struct Interrupts<'a>(&'a [u8]);

/// Where the first number stands in it.
const NUMBER_AT: u8 = 5;

impl Aml for Interrupts<'_> {
    fn to_aml_bytes(&self, sink: &mut dyn AmlSink) {
        const EXTENDED: u8 = 0x89;
        const CONSUMED_LEVEL_LOW_SHARED: u8 = 0b1101;
        let count = u8::try_from(self.0.len()).unwrap_or_default();
        sink.byte(EXTENDED);
        sink.word(2 + 4 * u16::from(count));
        sink.byte(CONSUMED_LEVEL_LOW_SHARED);
        sink.byte(count);
        for input in self.0 {
            sink.dword((*input).into());
        }
    }
}

/// The letters of the requests, PIRQA# to PIRQH#.
fn letters() -> impl Iterator<Item = char> {
    ('A'..).take(REQUESTS.into())
}

fn register(letter: char) -> Path {
    Path::new(&format!("\\_SB_.PCI0.ISA_.PRQ{letter}"))
}

fn link_name(letter: char) -> String {
    format!("LNK{letter}")
}

/// `\_PIC`: which controllers the operating system uses. Where it is the I/O APIC, it need not know of the router, which then
/// leads nothing to the PIC.
pub(super) fn model() -> Vec<u8> {
    let stores = letters().map(|letter| aml(&Store::new(&register(letter), &NOT_ROUTED)));
    let disable: Vec<Raw> = stores.map(Raw).collect();
    let disable = disable.iter().map(|raw| raw as &dyn Aml).collect();
    let model = Path::new(MODEL);
    let method = aml(&Method::new(
        Path::new("_PIC"),
        1,
        false,
        vec![&Store::new(&model, &Arg(0)), &If::new(&Arg(0), disable)],
    ));
    [aml(&Name::new(Path::new(MODEL), &ZERO)), method].concat()
}

/// The LPC bridge with the router's registers, to stand in the host bridge.
pub(super) fn bridge() -> Vec<u8> {
    let address = u32::from(lpc_bridge::DEVICE) << 16;
    let offset = lpc_bridge::PIRQ_A_TO_D;
    let named = |letter: char| match u8::try_from(letter) {
        Ok(letter) => FieldEntry::Named([b'P', b'R', b'Q', letter], 8),
        Err(_) => FieldEntry::Reserved(8),
    };
    let mut fields: Vec<FieldEntry> = letters().map(named).collect();
    let gap = usize::from(lpc_bridge::PIRQ_E_TO_H - lpc_bridge::PIRQ_A_TO_D - 4);
    fields.insert(4, FieldEntry::Reserved(8 * gap));
    aml(&Device::new(
        Path::new("ISA_"),
        vec![
            &Name::new(Path::new("_ADR"), &address),
            &OpRegion::new(Path::new("PIRQ"), OpRegionSpace::PCIConfig, &offset, &REGISTERS_LENGTH),
            &Field::new(
                Path::new("PIRQ"),
                FieldAccessType::Byte,
                FieldLockRule::NoLock,
                FieldUpdateRule::Preserve,
                fields,
            ),
        ],
    ))
}

/// A device for each request, by which its input of the PIC is chosen.
pub(super) fn links() -> impl Iterator<Item = Vec<u8>> {
    letters().zip(0u8..).map(|(letter, number)| link(letter, number))
}

fn link(letter: char, number: u8) -> Vec<u8> {
    /// Present, enabled, functioning; and the same without enabled.
    const ENABLED: u8 = 0b1011;
    const DISABLED: u8 = 0b1001;
    let register = register(letter);
    let is_routed = LessThan::new(&register, &NOT_ROUTED);
    let (buffer, input, argument) = (Path::new("CRSB"), Path::new("INPT"), Arg(0));
    let (chosen, possible) = (Interrupts(&[0]), Interrupts(&PIC_INPUTS));
    let mask = 0x0Fu8;
    aml(&Device::new(
        Path::new(&link_name(letter)),
        vec![
            &Name::new(Path::new("_HID"), &EISAName::new("PNP0C0F")),
            &Name::new(Path::new("_UID"), &number),
            &Name::new(Path::new("_PRS"), &ResourceTemplate::new(vec![&possible])),
            &Method::new(
                Path::new("_STA"),
                0,
                false,
                vec![&If::new(&is_routed, vec![&Return::new(&ENABLED)]), &Return::new(&DISABLED)],
            ),
            &Method::new(Path::new("_DIS"), 0, false, vec![&Store::new(&register, &NOT_ROUTED)]),
            &Method::new(
                Path::new("_CRS"),
                0,
                true,
                vec![
                    &Name::new(Path::new("CRSB"), &ResourceTemplate::new(vec![&chosen])),
                    &CreateDWordField::new(&input, &buffer, &NUMBER_AT),
                    &If::new(&is_routed, vec![&Store::new(&input, &register)]),
                    &Return::new(&buffer),
                ],
            ),
            &Method::new(
                Path::new("_SRS"),
                1,
                true,
                vec![
                    &CreateDWordField::new(&input, &argument, &NUMBER_AT),
                    &And::new(&register, &input, &mask),
                ],
            ),
        ],
    ))
}

/// `_PRT` of the host bridge: one entry for each pin of each of `devices`.
pub(super) fn table(devices: &[u8]) -> Vec<u8> {
    const ANY_FUNCTION: u32 = 0xFFFF;
    let (mut fixed, mut linked) = (PackageBuilder::new(), PackageBuilder::new());
    for device in devices {
        for pin in 0..4 {
            let address = u32::from(*device) << 16 | ANY_FUNCTION;
            let request = pirq::request(*device, pin);
            let input = pirq::io_apic_input(request);
            fixed.add_element(&Package::new(vec![&address, &pin, &ZERO, &input]));
            if let Some(letter) = letters().nth(request.into()) {
                let link = Path::new(&format!("\\_SB_.{}", link_name(letter)));
                linked.add_element(&Package::new(vec![&address, &pin, &link, &ZERO]));
            }
        }
    }
    let (fixed_name, linked_name) = (Path::new("PRTA"), Path::new("PRTP"));
    let method = aml(&Method::new(
        Path::new("_PRT"),
        0,
        false,
        vec![&If::new(&Path::new(MODEL), vec![&Return::new(&fixed_name)]), &Return::new(&linked_name)],
    ));
    let named = |name: &str, routes| aml(&Name::new(Path::new(name), routes));
    [named("PRTA", &fixed), named("PRTP", &linked), method].concat()
}
