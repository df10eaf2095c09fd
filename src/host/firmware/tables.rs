//! ACPI tables: which there are, and the two that describe IOMMUs on x86, decoded.
//!
//! Linux: Documentation/ABI/testing/sysfs-firmware-acpi. Everybody sees the names; the bytes are for root.

use crate::host::fact::Fact;
use crate::host::kernel::Kernel;
use crate::host::source::Source;
use crate::spec::dmar::{self, Dmar};
use crate::spec::ivrs::{self, Ivrs};
use crate::spec::pci::{PciAddress, header};

const TABLES: &str = "/sys/firmware/acpi/tables";

/// Names of the tables, as the kernel numbers those of the same name: `SSDT1`, `SSDT2`. A container hides the directory
/// above them; firmware without ACPI leaves them out of it.
pub(super) fn names(source: &dyn Source) -> Fact<Vec<String>> {
    match source.list(TABLES) {
        Fact::NotPresent => match source.list("/sys/firmware") {
            Fact::Known(names) if !names.is_empty() && !names.iter().any(|name| name == "acpi") => {
                Fact::Known(Vec::new())
            }
            Fact::Denied { source } => Fact::Denied { source },
            _ => Fact::Unreadable {
                source: TABLES.to_owned(),
                reason: "no ACPI tables are shown here, as in a container".to_owned(),
            },
        },
        // Beside the tables there are directories for tables that came later and for what tables point to.
        names => names.map(|mut names| {
            names.retain(|name| !matches!(name.as_str(), "data" | "dynamic"));
            names
        }),
    }
}

/// Reads and decodes table `name`, if there is one.
fn table<T, E: std::fmt::Display>(
    source: &dyn Source,
    names: &Fact<Vec<String>>,
    name: &str,
    decode: impl FnOnce(&[u8]) -> Result<T, E>,
) -> Fact<T> {
    names.as_ref().and_then(|names| {
        if !names.iter().any(|known| known == name) {
            return Fact::NotPresent;
        }
        let path = format!("{TABLES}/{name}");
        source.read(&path).parse(&path, |bytes| decode(&bytes))
    })
}

/// The table of Intel's IOMMUs; paths over bridges are followed on this machine.
pub(super) fn dmar(source: &dyn Source, names: &Fact<Vec<String>>) -> Fact<Dmar> {
    table(source, names, dmar::SIGNATURE, dmar::parse).map(|mut dmar| {
        dmar.resolve(&|bridge| secondary_bus(source, bridge));
        dmar
    })
}

/// The table of AMD's IOMMUs.
pub(super) fn ivrs(source: &dyn Source, names: &Fact<Vec<String>>) -> Fact<Ivrs> {
    table(source, names, ivrs::SIGNATURE, ivrs::parse)
}

/// The bus behind the bridge at `address`, from the part of its configuration space that everybody may read.
fn secondary_bus(source: &dyn Source, address: PciAddress) -> Option<u8> {
    let config = source.read(&format!("/sys/bus/pci/devices/{address}/config"));
    let byte = |offset: u16| config.known()?.get(usize::from(offset)).copied();
    let is_bridge = byte(header::HEADER_TYPE)? & 0x7F == 1;
    byte(header::SECONDARY_BUS).filter(|_| is_bridge)
}

/// Whether the kernel leaves x2APIC mode alone because firmware asks so; absent where firmware does not ask. The
/// command line can overrule it (Linux: drivers/iommu/intel/irq_remapping.c, `dmar_x2apic_optout`).
pub(super) fn x2apic_opted_out(dmar: &Fact<Dmar>, kernel: &Kernel) -> Fact<bool> {
    dmar.as_ref().and_then(|dmar| {
        if !dmar.x2apic_opt_out {
            return Fact::NotPresent;
        }
        kernel.command_line.as_ref().map(|_| {
            !kernel
                .parameter("intremap")
                .flat_map(|value| value.split(','))
                .any(|word| word == "no_x2apic_optout")
        })
    })
}
