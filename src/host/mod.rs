//! The inspector's floor: what is true of a host, read through a [`source::Source`].
//!
//! States facts, with the place that each was read from, and judges nothing: whether a fact is good or bad is for
//! `check`, whether a change is safe is for `setup::guard`. What the *kernel's own* rules say (a group is viable, a
//! selector names this function) is a fact and lives here.

pub mod boot;
pub mod cpu;
pub mod diff;
pub mod fact;
pub mod firmware;
pub mod input;
pub mod interrupts;
pub mod iommu;
pub mod kernel;
pub mod kernel_log;
pub mod kvm;
pub mod memory;
mod parse;
pub mod pci;
pub mod scheduling;
pub mod scsi;
pub mod select;
pub mod source;
pub mod sriov;
pub mod topology;
pub mod usage;
pub mod usb;
pub mod vfio;

use std::panic::resume_unwind;
use std::thread;

use serde::Serialize;

use crate::spec::pci::PciAddress;
use cpu::Cpu;
use fact::Fact;
use firmware::Firmware;
use input::Input;
use interrupts::Interrupts;
use iommu::{Group, Iommu};
use kernel::Kernel;
use kernel_log::KernelLog;
use kvm::Kvm;
use memory::Memory;
use pci::{Pci, PciDevice};
use scheduling::Scheduling;
use scsi::Scsi;
use source::{Bundle, Recorder, Source};
use topology::Topology;
use usage::RemoteMount;
use usb::Usb;
use vfio::Vfio;

/// Everything that was read of a host, at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct HostFacts {
    /// The running kernel and this boot.
    pub kernel: Kernel,
    /// The kernel's log, as far as it is about virtualization.
    pub kernel_log: KernelLog,
    /// The processor and what we run under.
    pub cpu: Cpu,
    /// Firmware and its tables.
    pub firmware: Firmware,
    /// Where CPUs and memory are.
    pub topology: Topology,
    /// When and how fast CPUs run.
    pub scheduling: Scheduling,
    /// Memory.
    pub memory: Memory,
    /// KVM.
    pub kvm: Kvm,
    /// IOMMUs and their groups.
    pub iommu: Iommu,
    /// Ways for interrupts to reach a guest.
    pub interrupts: Interrupts,
    /// VFIO.
    pub vfio: Vfio,
    /// PCI functions and what uses them.
    pub pci: Pci,
    /// What of the file tree comes over the network.
    #[serde(skip_serializing_if = "has_none")]
    pub remote_mounts: Fact<Vec<RemoteMount>>,
    /// USB devices.
    pub usb: Usb,
    /// SCSI devices.
    pub scsi: Scsi,
    /// What people type on.
    #[serde(skip_serializing_if = "Input::is_unseen")]
    pub input: Input,
}

/// Whether documents leave a list out: nothing is in it, or captures from before it was read hold no answer.
fn has_none<T>(list: &Fact<Vec<T>>) -> bool {
    list.known().is_none_or(Vec::is_empty)
}

/// Reads a host. What cannot be read is a fact too; this never fails as a whole.
///
/// # Panics
/// When reading does, which is a fault of ours.
#[must_use]
pub fn collect(source: &dyn Source) -> HostFacts {
    // The two halves need nothing of each other and take about as long.
    let (pci, machine) = thread::scope(|scope| {
        let machine = scope.spawn(|| Machine::collect(source));
        let pci = functions(source);
        (pci, machine.join().unwrap_or_else(|panic| resume_unwind(panic)))
    });
    let Machine { mut kernel, kernel_log, cpu, topology, scheduling, memory, kvm, firmware, interrupt_list } =
        machine;
    let iommu = iommu::collect(source, &pci, &kernel, &kernel_log, &interrupt_list);
    kernel::parameters::explain(&mut kernel, &cpu, &iommu, &kernel_log);
    let known = interrupts::Known { kernel: &kernel, log: &kernel_log, kvm: &kvm, iommu: &iommu };
    HostFacts {
        interrupts: interrupts::collect(source, &interrupt_list, &known),
        firmware,
        scheduling,
        memory,
        vfio: vfio::collect(source, &kernel, &pci),
        remote_mounts: usage::remote::collect(source),
        usb: usb::collect(source, &pci),
        scsi: scsi::collect(source, &pci),
        input: input::collect(source),
        kernel,
        kernel_log,
        cpu,
        topology,
        kvm,
        iommu,
        pci,
    }
}

/// One PCI function and what uses it, read anew; none if it is not there. What takes the other functions to know is left out:
/// names, siblings of a bus reset, settings of virtual functions.
#[must_use]
pub fn function(source: &dyn Source, address: PciAddress) -> Option<PciDevice> {
    let mut pci = pci::collect_function(source, address);
    usage::collect(source, &mut pci);
    pci.device(address).cloned()
}

/// PCI functions and what uses them.
fn functions(source: &dyn Source) -> Pci {
    let mut pci = pci::collect(source);
    usage::collect(source, &mut pci);
    sriov::add_links(source, &mut pci);
    sriov::add_fits(&mut pci);
    pci
}

/// What can be read of a host without a look at its PCI functions.
struct Machine {
    kernel: Kernel,
    kernel_log: KernelLog,
    cpu: Cpu,
    topology: Topology,
    scheduling: Scheduling,
    memory: Memory,
    kvm: Kvm,
    firmware: Firmware,
    interrupt_list: Fact<String>,
}

impl Machine {
    fn collect(source: &dyn Source) -> Self {
        let kernel = kernel::collect(source);
        let cpu = cpu::collect(source, &kernel);
        let topology = topology::collect(source);
        Self {
            kernel_log: kernel_log::collect(source),
            scheduling: scheduling::collect(source, &kernel, &topology),
            topology,
            memory: memory::collect(source),
            kvm: kvm::collect(source, &cpu, &kernel),
            firmware: firmware::collect(source, &kernel),
            interrupt_list: interrupts::list(source),
            kernel,
            cpu,
        }
    }
}

/// Reads a host as [`collect`] does and keeps what it answered: a replay gives the same facts.
#[must_use]
pub fn capture(source: &dyn Source) -> (HostFacts, Bundle) {
    let recorder = Recorder::new(source);
    let facts = collect(&recorder);
    // No fact, and redaction has to know it: it stands in names of volumes and on the command line.
    for path in source::redact::HOST_NAMES {
        drop(recorder.text(path));
    }
    let mut bundle = recorder.into_bundle();
    pci::abridge_names(&mut bundle, &facts.pci);
    kernel::abridge(&mut bundle, &facts.kernel);
    input::abridge(&mut bundle);
    (facts, bundle)
}

impl HostFacts {
    /// The function at `address`, if there is one.
    #[must_use]
    pub fn device(&self, address: PciAddress) -> Option<&PciDevice> {
        self.pci.device(address)
    }

    /// IOMMU group `id`, if there is one.
    #[must_use]
    pub fn group(&self, id: u32) -> Option<&Group> {
        let groups = self.iommu.groups.known()?;
        groups.get(groups.binary_search_by_key(&id, |group| group.id).ok()?)
    }

    /// Identity of this boot.
    #[must_use]
    pub fn boot_id(&self) -> &Fact<String> {
        &self.kernel.boot_id
    }

    /// The virtual functions of the physical function at `pf` that a process holds open or that could not be judged.
    pub fn virtual_functions_in_use(&self, pf: PciAddress) -> impl Iterator<Item = &PciDevice> {
        let vfs = self.device(pf).and_then(|pf| pf.sriov.as_ref()).map_or(&[][..], |sriov| &sriov.vfs);
        vfs.iter()
            .filter_map(|vf| self.device(*vf.address.known()?))
            .filter(|vf| vf.usage.vfio_users.known().is_none_or(|users| !users.is_empty()))
    }
}

/// The names in `directory`. A directory that is missing holds nothing, if `above` (which every kernel shows) is
/// there; if that is missing too, nobody can say.
fn list_or_empty(source: &dyn Source, directory: &str, above: &str) -> Fact<Vec<String>> {
    match source.list(directory) {
        Fact::NotPresent => match source.list(above) {
            Fact::Known(_) => Fact::Known(Vec::new()),
            Fact::NotPresent => {
                Fact::Unreadable { source: directory.to_owned(), reason: format!("there is no {above} here") }
            }
            unread => unread,
        },
        names => names,
    }
}
