//! The machine as KVM holds it: memory slots, interrupt controllers, eventfds on both sides.
//!
//! [`Vm`] implements what devices see of it: [`LineController`] and [`MsiSink`] through
//! [`irqchip`](crate::vmm::interrupt::irqchip), [`Mapper`] here. Linux: Documentation/virt/kvm/api.rst.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use kvm_bindings::{CpuId, KVM_API_VERSION, KVM_MAX_CPUID_ENTRIES};
use kvm_ioctls::{Cap, IoEventAddress, Kvm, NoDatamatch, VmFd};
use vmm_sys_util::eventfd::EventFd;

use crate::sys::kvm::{HostMemory, MemorySlot, SlotAccess, Vcpu, VfioDevice};
use crate::sys::kvm_stats::Counters;
use crate::sys::mmap::Mapping;
use crate::vmm::config::InterruptMode;
use crate::vmm::interrupt::irqchip::Irqchip;
use crate::vmm::layout;
use crate::vmm::mapper::{AddressSpace, Mapped, Mapper};
use crate::vmm::memory::GuestMemory;
use crate::vmm::vcpu::topology::Topology;

const DEVICE: &str = "/dev/kvm";

/// Why KVM is not there, or did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum KvmError {
    /// There is no /dev/kvm.
    #[error(
        "there is no {DEVICE}: enable virtualization in the firmware and load kvm_intel or kvm_amd (`thruway probe` says what is missing)"
    )]
    Missing,
    /// It cannot be opened by this user.
    #[error(
        "no permission to open {DEVICE}: add your user to group kvm (`usermod -aG kvm USER`) and log in again"
    )]
    Permission,
    /// It cannot be opened for another reason.
    #[error("cannot open {DEVICE}")]
    Open(#[source] io::Error),
    /// It is not the interface that every Linux since 2.6.22 has.
    #[error("{DEVICE} speaks API version {0}; version {KVM_API_VERSION} is needed")]
    ApiVersion(i32),
    /// The processor's virtualization is taken by another hypervisor.
    #[error(
        "KVM is busy: another hypervisor on this host uses the processor's virtualization; stop it first"
    )]
    Busy,
    /// A capability is missing.
    #[error("this host's KVM does not offer {0}; a newer kernel is needed")]
    Capability(&'static str),
    /// More vCPUs than this host's KVM carries.
    #[error("{asked} vCPUs are more than this host's KVM takes, which is {limit}; ask for fewer")]
    TooManyVcpus {
        /// vCPUs asked for.
        asked: u8,
        /// KVM_CAP_MAX_VCPUS.
        limit: usize,
    },
    /// An APIC ID beyond those that this host's KVM carries.
    #[error(
        "this arrangement of vCPUs numbers them up to {last}, and this host's KVM takes numbers below {limit}; \
         write numbers of dies, cores and threads that are powers of two"
    )]
    TooHighApicId {
        /// The highest APIC ID.
        last: u8,
        /// KVM_CAP_MAX_VCPU_ID.
        limit: usize,
    },
    /// One call failed.
    #[error("KVM refused to {what}")]
    Call {
        /// What was asked.
        what: &'static str,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
}

impl KvmError {
    /// For `map_err`: the call that does `what` failed.
    pub(crate) fn call<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::Call { what, source: source.into() }
    }
}

/// Capabilities without which a machine cannot be built.
const NEEDED: [(Cap, &str); 7] = [
    (Cap::Irqchip, "an in-kernel interrupt controller"),
    (Cap::Ioeventfd, "ioeventfd"),
    (Cap::Irqfd, "irqfd"),
    (Cap::IrqRouting, "interrupt routing"),
    (Cap::SignalMsi, "message signalled interrupts"),
    (Cap::UserMemory, "memory slots"),
    (Cap::ExtCpuid, "CPUID control"),
];

/// Numbers of memory slots in use.
#[derive(Debug, Default)]
struct SlotNumbers {
    used: BTreeSet<u32>,
    limit: u32,
}

impl SlotNumbers {
    fn take(&mut self) -> Option<u32> {
        let free = (0..self.limit).find(|number| !self.used.contains(number))?;
        self.used.insert(free);
        Some(free)
    }
}

/// One virtual machine of the kernel: RAM, interrupt controllers and eventfds, but no vCPU yet.
#[derive(Debug)]
pub struct Vm {
    kvm: Kvm,
    fd: Arc<VmFd>,
    /// Order: innermost; nothing is called under it.
    slots: Arc<Mutex<SlotNumbers>>,
    irqchip: Irqchip,
    vfio: OnceLock<Arc<VfioDevice>>,
}

/// A memory slot whose number goes back when it is dropped.
#[derive(Debug)]
pub struct SlotGuard {
    slot: Option<MemorySlot>,
    numbers: Arc<Mutex<SlotNumbers>>,
}

impl Drop for SlotGuard {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            let number = slot.number();
            drop(slot);
            self.numbers.lock().unwrap_or_else(PoisonError::into_inner).used.remove(&number);
        }
    }
}

/// An eventfd that guest writes at one address signal; taken away when dropped.
#[derive(Debug)]
struct Ioeventfd {
    vm: Arc<VmFd>,
    event: Arc<EventFd>,
    address: IoEventAddress,
}

impl Drop for Ioeventfd {
    fn drop(&mut self) {
        if let Err(error) = self.vm.unregister_ioevent(&self.event, &self.address, NoDatamatch) {
            tracing::error!(address = ?self.address, %error, "ioeventfd stays");
        }
    }
}

impl Vm {
    /// A machine with interrupt controllers, no memory and no vCPU.
    ///
    /// # Errors
    /// [`KvmError`]: each variant names cause and remedy.
    pub fn new(interrupts: InterruptMode) -> Result<Arc<Self>, KvmError> {
        let kvm = open(Path::new(DEVICE))?;
        if interrupts == InterruptMode::Split && !kvm.check_extension(Cap::SplitIrqchip) {
            return Err(KvmError::Capability("a split interrupt controller (`interrupts: split`)"));
        }
        let fd = Arc::new(create(&kvm)?);
        fd.set_identity_map_address(layout::KVM_IDENTITY_MAP)
            .map_err(KvmError::call("place its identity map"))?;
        let tss = usize::try_from(layout::KVM_TSS).map_err(|_| KvmError::Capability("64-bit addresses"))?;
        fd.set_tss_address(tss).map_err(KvmError::call("place its task state segment"))?;
        let irqchip = Irqchip::new(Arc::clone(&fd), interrupts)
            .map_err(KvmError::call("create interrupt controllers"))?;
        let limit = u32::try_from(kvm.get_nr_memslots()).unwrap_or(32);
        let slots = Arc::new(Mutex::new(SlotNumbers { used: BTreeSet::new(), limit }));
        Ok(Arc::new(Self { kvm, fd, slots, irqchip, vfio: OnceLock::new() }))
    }

    /// Makes the whole of guest RAM reachable; it stays so as long as the guards live.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn map_ram(&self, memory: &GuestMemory) -> io::Result<Vec<SlotGuard>> {
        memory
            .regions()
            .map(|region| {
                let host = HostMemory::Ram(Arc::clone(memory.ram()), region.guest_address);
                self.slot(region.guest_address, host, region.size_bytes, SlotAccess::ReadWrite)
            })
            .collect()
    }

    /// Puts the first `size_bytes` of `memory` at `guest_address` until the guard is dropped.
    ///
    /// # Errors
    /// `ENOSPC` if no slot is left; otherwise what the kernel answered.
    pub fn slot(
        &self,
        guest_address: u64,
        memory: HostMemory,
        size_bytes: u64,
        access: SlotAccess,
    ) -> io::Result<SlotGuard> {
        let number = self
            .slots
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
            .ok_or_else(|| io::Error::from_raw_os_error(libc::ENOSPC))?;
        let slot = MemorySlot::new(Arc::clone(&self.fd), number, guest_address, memory, size_bytes, access);
        match slot {
            Ok(slot) => Ok(SlotGuard { slot: Some(slot), numbers: Arc::clone(&self.slots) }),
            Err(error) => {
                self.slots.lock().unwrap_or_else(PoisonError::into_inner).used.remove(&number);
                Err(error)
            }
        }
    }

    /// Whether KVM carries all vCPUs of `topology`.
    ///
    /// # Errors
    /// [`KvmError::TooManyVcpus`], [`KvmError::TooHighApicId`].
    pub fn check_vcpus(&self, topology: Topology) -> Result<(), KvmError> {
        carries(topology, self.kvm.get_max_vcpus(), self.kvm.get_max_vcpu_id())
    }

    /// vCPU number `id`, which becomes its APIC ID.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn vcpu(&self, id: u8) -> io::Result<Vcpu> {
        Vcpu::new(&self.fd, id)
    }

    /// The CPUID leaves that KVM can offer on this host.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn supported_cpuid(&self) -> io::Result<CpuId> {
        Ok(self.kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)?)
    }

    /// Lets KVM collect guest writes to `length` ports from `port` on, instead of leaving the guest for each. They come out
    /// of [`Vcpu::coalesced_ring`].
    ///
    /// # Errors
    /// What the kernel answered; [`io::ErrorKind::Unsupported`] where it cannot do this.
    pub fn coalesce_ports(&self, port: u16, length: u32) -> io::Result<()> {
        if !self.has(Cap::CoalescedPio) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        Ok(self.fd.register_coalesced_mmio(IoEventAddress::Pio(port.into()), length)?)
    }

    /// Ends what [`Self::coalesce_ports`] began.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn stop_coalescing_ports(&self, port: u16, length: u32) -> io::Result<()> {
        Ok(self.fd.unregister_coalesced_mmio(IoEventAddress::Pio(port.into()), length)?)
    }

    /// Indexes of the model-specific registers that KVM keeps for each vCPU.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn msr_indexes(&self) -> io::Result<Vec<u32>> {
        Ok(self.kvm.get_msr_index_list()?.as_slice().to_vec())
    }

    /// KVM's counters of the machine, where it has any.
    #[must_use]
    pub fn counters(&self) -> Option<Counters> {
        Counters::of_vm(&self.fd).inspect_err(|error| tracing::debug!(%error, "KVM has no counters")).ok()
    }

    /// Whether this host's KVM has an extension.
    #[must_use]
    pub fn has(&self, capability: Cap) -> bool {
        self.fd.check_extension(capability)
    }

    /// KVM's VFIO pseudo device, made at the first call and shared by all passed-through functions.
    ///
    /// # Errors
    /// What the kernel answered; the machine also works without it, at the price of slower interrupts.
    pub fn vfio_device(&self) -> io::Result<Arc<VfioDevice>> {
        if let Some(device) = self.vfio.get() {
            return Ok(Arc::clone(device));
        }
        let device = Arc::new(VfioDevice::new(&self.fd)?);
        Ok(Arc::clone(self.vfio.get_or_init(|| device)))
    }

    /// The kernel's machine itself, for tests of what stands behind this one.
    #[cfg(test)]
    pub(crate) fn descriptor(&self) -> Arc<VmFd> {
        Arc::clone(&self.fd)
    }

    /// The machine's interrupt controllers; a [`LineController`](crate::vmm::interrupt::LineController) and a
    /// [`MsiSink`](crate::vmm::interrupt::MsiSink). Clones share them.
    #[must_use]
    pub fn irqchip(&self) -> &Irqchip {
        &self.irqchip
    }
}

impl Mapper for Vm {
    fn map(&self, address: u64, memory: &Arc<Mapping>, size_bytes: u64) -> io::Result<Mapped> {
        self.slot(address, HostMemory::Mapping(Arc::clone(memory)), size_bytes, SlotAccess::ReadWrite)
            .map(Mapped::new)
    }

    fn map_read_only(&self, address: u64, memory: &Arc<Mapping>, size_bytes: u64) -> io::Result<Mapped> {
        self.slot(address, HostMemory::Mapping(Arc::clone(memory)), size_bytes, SlotAccess::ReadOnly)
            .map(Mapped::new)
    }

    fn notify(&self, space: AddressSpace, address: u64, event: &Arc<EventFd>) -> io::Result<Mapped> {
        let place = || match space {
            AddressSpace::Memory => IoEventAddress::Mmio(address),
            AddressSpace::Port => IoEventAddress::Pio(address),
        };
        self.fd.register_ioevent(event, &place(), NoDatamatch)?;
        Ok(Mapped::new(Ioeventfd { vm: Arc::clone(&self.fd), event: Arc::clone(event), address: place() }))
    }
}

/// Opens the KVM device at `path` and checks that it is one that can carry a machine.
fn open(path: &Path) -> Result<Kvm, KvmError> {
    let name = std::ffi::CString::new(path.as_os_str().as_encoded_bytes())
        .map_err(|error| KvmError::Open(error.into()))?;
    let kvm = Kvm::new_with_path(&name).map_err(|error| match error.errno() {
        libc::ENOENT | libc::ENODEV | libc::ENXIO => KvmError::Missing,
        libc::EACCES | libc::EPERM => KvmError::Permission,
        _ => KvmError::Open(error.into()),
    })?;
    match kvm.get_api_version() {
        version if u32::try_from(version) == Ok(KVM_API_VERSION) => {}
        // Not a KVM device at all: the ioctl itself failed.
        -1 => return Err(KvmError::Open(io::Error::from_raw_os_error(libc::ENOTTY))),
        version => return Err(KvmError::ApiVersion(version)),
    }
    match NEEDED.iter().find(|(capability, _)| !kvm.check_extension(*capability)) {
        Some((_, name)) => Err(KvmError::Capability(name)),
        None => Ok(kvm),
    }
}

fn carries(topology: Topology, most: usize, ids: usize) -> Result<(), KvmError> {
    let (asked, last) = (topology.count(), topology.apic_id(topology.count() - 1));
    if usize::from(asked) > most {
        return Err(KvmError::TooManyVcpus { asked, limit: most });
    }
    if usize::from(last) >= ids {
        return Err(KvmError::TooHighApicId { last, limit: ids });
    }
    Ok(())
}

fn create(kvm: &Kvm) -> Result<VmFd, KvmError> {
    loop {
        match kvm.create_vm() {
            Ok(fd) => return Ok(fd),
            Err(error) => match error.errno() {
                // A signal came while the kernel waited for its memory.
                libc::EINTR => {}
                libc::EBUSY => return Err(KvmError::Busy),
                _ => return Err(KvmError::call("create a virtual machine")(error)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_device_and_one_that_is_not_kvm_are_told_apart() {
        assert!(matches!(open(Path::new("/nonexistent/kvm")), Err(KvmError::Missing)));
        assert!(matches!(open(Path::new("/dev/null")), Err(KvmError::Open(_))));
    }

    #[test]
    fn more_vcpus_than_kvm_carries_are_refused_with_its_limits() {
        let topology = Topology::new([1, 1, 5, 3]).unwrap();
        assert!(carries(topology, 15, 19).is_ok());
        let text = |most, ids| carries(topology, most, ids).unwrap_err().to_string();
        assert_eq!(text(14, 99), "15 vCPUs are more than this host's KVM takes, which is 14; ask for fewer");
        assert!(text(15, 18).contains("numbers them up to 18, and this host's KVM takes numbers below 18"));
    }

    #[test]
    fn slot_numbers_are_reused_and_run_out() {
        let mut numbers = SlotNumbers { used: BTreeSet::new(), limit: 2 };
        assert_eq!((numbers.take(), numbers.take(), numbers.take()), (Some(0), Some(1), None));
        numbers.used.remove(&0);
        assert_eq!(numbers.take(), Some(0));
    }
}
