//! The list of interrupts, and those in it that belong to functions of guests.

use serde::Serialize;

use crate::host::fact::Fact;
use crate::host::parse;
use crate::host::source::Source;
use crate::spec::cpu_list::CpuList;
use crate::spec::pci::PciAddress;

const LIST: &str = "/proc/interrupts";
/// Most bytes of the list that are read: 1,000 interrupts on 1,024 CPUs are 11 MB.
const LIMIT_BYTES: u64 = 32 << 20;

/// An interrupt of a function that is passed through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GuestInterrupt {
    /// Its number.
    pub number: u32,
    /// The function.
    pub function: PciAddress,
    /// What the function raises it by.
    pub kind: GuestInterruptKind,
    /// CPUs that serve it.
    pub cpus: Fact<CpuList>,
}

/// What a function raises an interrupt by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GuestInterruptKind {
    /// A line.
    Intx,
    /// A message.
    Msi,
    /// A message of many.
    MsiX,
}

/// Reads the list.
pub(super) fn read(source: &dyn Source) -> Fact<String> {
    let bytes = parse::required(source.read_limited(LIST, LIMIT_BYTES), LIST);
    bytes.parse(LIST, |bytes| String::from_utf8(bytes).map_err(|_| "not UTF-8"))
}

/// The interrupts of functions of guests: VFIO names them `vfio-msix[0](0000:01:00.0)` (Linux:
/// drivers/vfio/pci/vfio_pci_intrs.c).
pub(super) fn of_guests(source: &dyn Source, list: &str) -> Vec<GuestInterrupt> {
    let lines = list.lines().filter(|line| line.contains("vfio-"));
    let interrupts = lines.flat_map(|line| {
        let number = line.split_once(':').and_then(|(number, _)| number.trim().parse::<u32>().ok());
        let actions = line.split_ascii_whitespace().filter_map(action);
        actions.filter_map(move |(kind, function)| Some((number?, kind, function)))
    });
    interrupts
        .map(|(number, kind, function)| GuestInterrupt { number, function, kind, cpus: cpus(source, number) })
        .collect()
}

/// One word of a line, if it names a function of a guest.
fn action(word: &str) -> Option<(GuestInterruptKind, PciAddress)> {
    let (name, rest) = word.strip_prefix("vfio-")?.split_once('(')?;
    let kind = match name.split('[').next()? {
        "intx" => GuestInterruptKind::Intx,
        "msi" => GuestInterruptKind::Msi,
        "msix" => GuestInterruptKind::MsiX,
        _ => return None,
    };
    Some((kind, rest.split_once(')')?.0.parse().ok()?))
}

/// Where the interrupt goes; kernels that do not show that show where it may go.
fn cpus(source: &dyn Source, number: u32) -> Fact<CpuList> {
    let file = |name: &str| format!("/proc/irq/{number}/{name}");
    match parse::cpus(source, &file("effective_affinity_list")) {
        Fact::Known(cpus) if !cpus.is_empty() => Fact::Known(cpus),
        Fact::Known(_) | Fact::NotPresent => parse::cpus(source, &file("smp_affinity_list")),
        unread => unread,
    }
}
