//! What the KVM interface needs beyond the safe calls of `kvm-ioctls`: memory slots that own their memory, the run
//! loop's shared page, kicks from other threads, and the VFIO pseudo device.
//!
//! Linux: Documentation/virt/kvm/api.rst and Documentation/virt/kvm/devices/vfio.rst.
#![expect(unsafe_code, reason = "KVM ioctls that take addresses, and the kvm_run page")]

use std::io;
use std::mem::{ManuallyDrop, offset_of};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU8, AtomicU32, Ordering};

use kvm_bindings::{
    KVM_CAP_SPLIT_IRQCHIP, KVM_COALESCED_MMIO_PAGE_OFFSET, KVM_DEV_VFIO_GROUP, KVM_DEV_VFIO_GROUP_ADD,
    KVM_DEV_VFIO_GROUP_DEL, KVM_EXIT_FAIL_ENTRY, KVM_EXIT_HLT, KVM_EXIT_INTERNAL_ERROR, KVM_EXIT_INTR,
    KVM_EXIT_IO, KVM_EXIT_IO_IN, KVM_EXIT_IOAPIC_EOI, KVM_EXIT_IRQ_WINDOW_OPEN, KVM_EXIT_MMIO,
    KVM_EXIT_SET_TPR, KVM_EXIT_SHUTDOWN, KVM_EXIT_SYSTEM_EVENT, KVM_IRQCHIP_PIC_MASTER,
    KVM_IRQCHIP_PIC_SLAVE, KVM_MEM_READONLY, KVMIO, kvm_coalesced_mmio, kvm_coalesced_mmio_ring,
    kvm_create_device, kvm_device_attr, kvm_device_type_KVM_DEV_TYPE_VFIO, kvm_enable_cap, kvm_interrupt,
    kvm_irqchip, kvm_run, kvm_userspace_memory_region,
};
use kvm_ioctls::{DeviceFd, VcpuFd, VmFd};
use vm_memory::{GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};

use crate::sys::mmap::Mapping;
use crate::sys::signal;

/// Memory of this process that can stand behind a memory slot; the slot keeps it alive.
#[derive(Debug, Clone)]
pub enum HostMemory {
    /// The RAM region that holds this guest-physical address.
    Ram(Arc<GuestMemoryMmap<()>>, u64),
    /// A mapping of a file or a device region.
    Mapping(Arc<Mapping>),
}

impl HostMemory {
    /// Address in this process and length in bytes.
    fn extent(&self) -> io::Result<(u64, u64)> {
        match self {
            Self::Ram(ram, address) => {
                let region = ram
                    .iter()
                    .find(|region| region.start_addr().0 == *address)
                    .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
                Ok((region.as_ptr() as u64, region.len()))
            }
            Self::Mapping(mapping) => Ok((mapping.address(), mapping.len() as u64)),
        }
    }
}

/// Whether the guest may write to a memory slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotAccess {
    /// Reads and writes are native.
    ReadWrite,
    /// Reads are native, writes exit as MMIO.
    ReadOnly,
}

/// A guest-physical range that the guest reaches without an exit, as long as this value lives.
#[derive(Debug)]
pub struct MemorySlot {
    vm: Arc<VmFd>,
    region: kvm_userspace_memory_region,
    /// Released only when the kernel confirmed that the slot is gone.
    memory: ManuallyDrop<HostMemory>,
}

impl MemorySlot {
    /// Puts the first `size_bytes` of `memory` at `guest_address` of `vm` as slot `number`. Address and size must be
    /// multiples of the page size.
    ///
    /// # Errors
    /// `EINVAL` if `size_bytes` exceeds the memory; otherwise what the kernel answered: `EEXIST` for an overlap,
    /// `EINVAL` for a number beyond `KVM_CAP_NR_MEMSLOTS` or a bad alignment.
    pub fn new(
        vm: Arc<VmFd>,
        number: u32,
        guest_address: u64,
        memory: HostMemory,
        size_bytes: u64,
        access: SlotAccess,
    ) -> io::Result<Self> {
        let (userspace_addr, length) = memory.extent()?;
        if size_bytes == 0 || size_bytes > length {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let region = kvm_userspace_memory_region {
            slot: number,
            flags: if access == SlotAccess::ReadOnly { KVM_MEM_READONLY } else { 0 },
            guest_phys_addr: guest_address,
            memory_size: size_bytes,
            userspace_addr,
        };
        // SAFETY: the range lies within `memory`, which stays mapped until `drop` took the slot away; it is shared
        // memory that nothing in this process holds a Rust reference into.
        unsafe { vm.set_user_memory_region(region) }?;
        Ok(Self { vm, region, memory: ManuallyDrop::new(memory) })
    }

    /// The slot's number.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.region.slot
    }
}

impl Drop for MemorySlot {
    fn drop(&mut self) {
        let region = kvm_userspace_memory_region { memory_size: 0, ..self.region };
        // SAFETY: a size of 0 deletes the slot; no memory is handed over.
        match unsafe { self.vm.set_user_memory_region(region) } {
            // SAFETY: dropped here once, and the kernel no longer refers to the memory.
            Ok(()) => unsafe { ManuallyDrop::drop(&mut self.memory) },
            Err(error) => {
                tracing::error!(slot = self.region.slot, %error, "memory slot stays, so does its memory");
            }
        }
    }
}

/// Why a vCPU came back from guest mode.
#[derive(Debug)]
#[non_exhaustive]
pub enum Exit<'a> {
    /// `IN`/`INS`: fill `data`, which holds one value of `size` bytes for each repetition.
    PortRead {
        /// Port number.
        port: u16,
        /// Bytes of one access: 1, 2 or 4.
        size: usize,
        /// All values of the repetition, `size` bytes each.
        data: &'a mut [u8],
    },
    /// `OUT`/`OUTS`.
    PortWrite {
        /// Port number.
        port: u16,
        /// Bytes of one access: 1, 2 or 4.
        size: usize,
        /// All values of the repetition, `size` bytes each.
        data: &'a [u8],
    },
    /// A load from an address without a slot: fill `data`.
    MmioRead {
        /// Guest-physical address.
        address: u64,
        /// 1 to 8 bytes.
        data: &'a mut [u8],
    },
    /// A store to an address without a writable slot.
    MmioWrite {
        /// Guest-physical address.
        address: u64,
        /// 1 to 8 bytes.
        data: &'a [u8],
    },
    /// `HLT` without an in-kernel local APIC.
    Halt,
    /// The guest takes an interrupt from now on: see [`Vcpu::request_interrupt_window`].
    InterruptWindow,
    /// The guest lowered its task priority; nothing to do without a local APIC in user space.
    TaskPriority,
    /// The guest ended a level-triggered interrupt of a split interrupt controller.
    EndOfInterrupt {
        /// Its vector.
        vector: u8,
    },
    /// Triple fault.
    Shutdown,
    /// A signal or [`Kicker::kick`] ended the run.
    Interrupted,
    /// The kernel reports an event such as a crash or reset (`KVM_SYSTEM_EVENT_*`).
    SystemEvent(u32),
    /// The processor refused to enter the guest.
    FailEntry {
        /// `hardware_entry_failure_reason`.
        reason: u64,
    },
    /// KVM could not go on, for example because it could not emulate an instruction.
    InternalError {
        /// `KVM_INTERNAL_ERROR_*`.
        suberror: u32,
        /// What the kernel attached, at most 16 words.
        data: Vec<u64>,
    },
    /// Any other exit reason.
    Other(u32),
}

const PAGE: usize = 4096;

/// A write that KVM collected instead of leaving the guest for it.
#[derive(Debug, Clone, Copy)]
pub struct CoalescedWrite {
    /// Port, or guest-physical address.
    pub address: u64,
    data: [u8; 8],
    length: usize,
}

impl CoalescedWrite {
    /// The bytes, 1 to 8.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.data.get(..self.length).unwrap_or(&self.data)
    }
}

/// Collected writes of a machine, oldest first. The machine has one; it is taken from by one thread at a time.
#[derive(Debug)]
pub struct CoalescedRing {
    page: Mapping,
}

impl CoalescedRing {
    /// How many entries fit behind the two indexes.
    const ENTRIES: usize = (PAGE - size_of::<kvm_coalesced_mmio_ring>()) / size_of::<kvm_coalesced_mmio>();

    fn index(&self, offset: usize) -> &AtomicU32 {
        // SAFETY: both indexes lie at the start of the page.
        let index = unsafe { self.page.pointer().cast::<u8>().add(offset) };
        // SAFETY: the field is aligned, lives as long as the mapping, and is only accessed as a whole word.
        unsafe { AtomicU32::from_ptr(index.as_ptr().cast()) }
    }

    /// Takes the oldest write out.
    pub fn take(&mut self) -> Option<CoalescedWrite> {
        let (first, last) = (
            self.index(offset_of!(kvm_coalesced_mmio_ring, first)),
            self.index(offset_of!(kvm_coalesced_mmio_ring, last)),
        );
        let before = first.load(Ordering::Relaxed);
        let position = before as usize;
        if before == last.load(Ordering::Acquire) || position >= Self::ENTRIES {
            return None;
        }
        let entries = size_of::<kvm_coalesced_mmio_ring>();
        let offset = entries + position * size_of::<kvm_coalesced_mmio>();
        // SAFETY: `position` was checked, so that the entry lies within the page.
        let entry = unsafe { self.page.pointer().cast::<u8>().add(offset) };
        // SAFETY: the entry is aligned and initialised, since the kernel zeroes the page; the kernel writes it before it
        // moves `last` on, and not again before `first` moved on.
        let entry = unsafe { entry.cast::<kvm_coalesced_mmio>().read_volatile() };
        let next = if position + 1 == Self::ENTRIES { 0 } else { before + 1 };
        first.store(next, Ordering::Release);
        let length = (entry.len as usize).clamp(1, entry.data.len());
        Some(CoalescedWrite { address: entry.phys_addr, data: entry.data, length })
    }
}

/// One virtual CPU. Owned by the thread that runs it.
#[derive(Debug)]
pub struct Vcpu {
    fd: VcpuFd,
    run_size: usize,
}

impl Vcpu {
    /// vCPU number `id` (which becomes its APIC ID) of `vm`.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn new(vm: &VmFd, id: u8) -> io::Result<Self> {
        Ok(Self { fd: vm.create_vcpu(u64::from(id))?, run_size: vm.run_size() })
    }

    /// The vCPU's registers and settings.
    #[must_use]
    pub fn fd(&self) -> &VcpuFd {
        &self.fd
    }

    /// The ring in which KVM collects writes for all vCPUs of the machine.
    ///
    /// # Errors
    /// What mmap(2) answered; `EINVAL` where KVM has no coalesced I/O.
    pub fn coalesced_ring(&self) -> io::Result<CoalescedRing> {
        // SAFETY: the descriptor is open as long as `self` is borrowed.
        let fd = unsafe { BorrowedFd::borrow_raw(self.fd.as_raw_fd()) };
        let offset = u64::from(KVM_COALESCED_MMIO_PAGE_OFFSET) * PAGE as u64;
        Ok(CoalescedRing { page: Mapping::new(fd, offset, PAGE, true)? })
    }

    /// A handle by which other threads can end [`Self::run`].
    ///
    /// # Errors
    /// What mmap(2) answered.
    pub fn kicker(&self) -> io::Result<Kicker> {
        // SAFETY: the descriptor is open as long as `self` is borrowed.
        let fd = unsafe { BorrowedFd::borrow_raw(self.fd.as_raw_fd()) };
        let page = Mapping::new(fd, 0, self.run_size, true)?;
        Ok(Kicker { page: Arc::new(page), thread: Arc::new(AtomicI32::new(0)) })
    }

    /// Whether the guest takes an interrupt at this moment ([`Self::interrupt`]), as it was when [`Self::run`] returned.
    /// Always true where the PIC is in the kernel.
    #[must_use]
    pub fn takes_interrupt(&mut self) -> bool {
        self.fd.get_kvm_run().ready_for_interrupt_injection != 0
    }

    /// Whether the guest had interrupts enabled when [`Self::run`] returned.
    #[must_use]
    pub fn interrupts_enabled(&mut self) -> bool {
        self.fd.get_kvm_run().if_flag != 0
    }

    /// Forgets both, because registers were set since: [`Self::takes_interrupt`] is false until the next [`Self::run`].
    pub fn forget_interruptibility(&mut self) {
        let run = self.fd.get_kvm_run();
        run.ready_for_interrupt_injection = 0;
        run.if_flag = 0;
    }

    /// Lets [`Self::run`] return as soon as the guest takes an interrupt, or no longer.
    pub fn request_interrupt_window(&mut self, request: bool) {
        self.fd.get_kvm_run().request_interrupt_window = request.into();
    }

    /// Gives the guest interrupt `vector` when it runs the next time. Only while [`Self::takes_interrupt`], and only where
    /// the PIC is in user space.
    ///
    /// # Errors
    /// What the kernel answered: `EEXIST` if it has one to give already.
    pub fn interrupt(&self, vector: u8) -> io::Result<()> {
        nix::ioctl_write_ptr!(kvm_interrupt_ioctl, KVMIO, 0x86, kvm_interrupt);
        let interrupt = kvm_interrupt { irq: vector.into() };
        // SAFETY: the descriptor is a vCPU's and open as long as `self` is borrowed; the kernel reads one `kvm_interrupt`.
        unsafe { kvm_interrupt_ioctl(self.fd.as_raw_fd(), &raw const interrupt) }?;
        Ok(())
    }

    /// Runs the guest until something needs attention.
    ///
    /// # Errors
    /// What the kernel answered, for example `EFAULT` where guest RAM cannot be reached. Interruption is no error.
    pub fn run(&mut self) -> io::Result<Exit<'_>> {
        if let Err(error) = self.fd.run() {
            return match error.errno() {
                libc::EINTR | libc::EAGAIN => Ok(Exit::Interrupted),
                _ => Err(error.into()),
            };
        }
        let run_size = self.run_size;
        let run = self.fd.get_kvm_run();
        Ok(match run.exit_reason {
            KVM_EXIT_IO => {
                // SAFETY: the exit reason says that this member of the union is the valid one.
                let io = unsafe { run.__bindgen_anon_1.io };
                let size = usize::from(io.size);
                let length = size.saturating_mul(io.count as usize);
                let offset = usize::try_from(io.data_offset).unwrap_or(usize::MAX);
                if offset.checked_add(length).is_none_or(|end| end > run_size) {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                let page = std::ptr::from_mut(run).cast::<u8>();
                // SAFETY: the kernel's page is `run_size` bytes long and `offset` was checked against it.
                let first = unsafe { page.add(offset) };
                // SAFETY: in bounds as checked above; borrowed from `self`, so that no run happens meanwhile.
                let data = unsafe { std::slice::from_raw_parts_mut(first, length) };
                if u32::from(io.direction) == KVM_EXIT_IO_IN {
                    Exit::PortRead { port: io.port, size, data }
                } else {
                    Exit::PortWrite { port: io.port, size, data }
                }
            }
            KVM_EXIT_MMIO => {
                // SAFETY: the exit reason says that this member of the union is the valid one.
                let mmio = unsafe { &mut run.__bindgen_anon_1.mmio };
                let length = (mmio.len as usize).min(mmio.data.len());
                let data = mmio.data.split_at_mut(length).0;
                if mmio.is_write == 0 {
                    Exit::MmioRead { address: mmio.phys_addr, data }
                } else {
                    Exit::MmioWrite { address: mmio.phys_addr, data }
                }
            }
            KVM_EXIT_HLT => Exit::Halt,
            KVM_EXIT_IRQ_WINDOW_OPEN => Exit::InterruptWindow,
            KVM_EXIT_SET_TPR => Exit::TaskPriority,
            KVM_EXIT_IOAPIC_EOI => {
                // SAFETY: the exit reason says that this member of the union is the valid one.
                Exit::EndOfInterrupt { vector: unsafe { run.__bindgen_anon_1.eoi.vector } }
            }
            KVM_EXIT_SHUTDOWN => Exit::Shutdown,
            KVM_EXIT_INTR => Exit::Interrupted,
            KVM_EXIT_SYSTEM_EVENT => {
                // SAFETY: the exit reason says that this member of the union is the valid one.
                Exit::SystemEvent(unsafe { run.__bindgen_anon_1.system_event.type_ })
            }
            KVM_EXIT_FAIL_ENTRY => {
                // SAFETY: the exit reason says that this member of the union is the valid one.
                let reason = unsafe { run.__bindgen_anon_1.fail_entry.hardware_entry_failure_reason };
                Exit::FailEntry { reason }
            }
            KVM_EXIT_INTERNAL_ERROR => {
                // SAFETY: the exit reason says that this member of the union is the valid one.
                let internal = unsafe { run.__bindgen_anon_1.internal };
                let data = internal.data.iter().take(internal.ndata as usize).copied().collect();
                Exit::InternalError { suberror: internal.suberror, data }
            }
            other => Exit::Other(other),
        })
    }
}

/// Ends a vCPU's stay in guest mode from any thread. Nothing is lost when the vCPU is in userspace at that moment: its
/// next [`Vcpu::run`] returns at once.
#[derive(Debug, Clone)]
pub struct Kicker {
    /// The vCPU's `kvm_run` page, mapped a second time so that it outlives the vCPU.
    page: Arc<Mapping>,
    /// Thread that runs the vCPU; 0 before it started.
    thread: Arc<AtomicI32>,
}

impl Kicker {
    fn immediate_exit(&self) -> &AtomicU8 {
        let page = self.page.pointer().cast::<u8>();
        // SAFETY: the mapping is at least as long as a `kvm_run`.
        let byte = unsafe { page.add(offset_of!(kvm_run, immediate_exit)) };
        // SAFETY: the byte lies in a shared mapping that lives as long as `self`; the kernel and all of our threads
        // access it as a single byte, and it needs no alignment.
        unsafe { AtomicU8::from_ptr(byte.as_ptr()) }
    }

    /// Says that the calling thread is the one that runs the vCPU.
    pub fn attach(&self) {
        self.thread.store(signal::thread_id(), Ordering::SeqCst);
    }

    /// Makes [`Vcpu::run`] return [`Exit::Interrupted`], now or the next time that it is called.
    pub fn kick(&self) {
        self.immediate_exit().store(1, Ordering::SeqCst);
        let thread = self.thread.load(Ordering::SeqCst);
        if thread != 0 {
            signal::kick_thread(thread);
        }
    }

    /// Like [`Self::kick`], unless the calling thread runs the vCPU and is thus not in guest mode.
    pub fn kick_from_elsewhere(&self) {
        if self.thread.load(Ordering::SeqCst) != signal::thread_id() {
            self.kick();
        }
    }

    /// Lets [`Vcpu::run`] run again. Called by the vCPU's own thread.
    pub fn clear(&self) {
        self.immediate_exit().store(0, Ordering::SeqCst);
    }
}

/// Gives `vm` local APICs and no other interrupt controller. The first `inputs` GSIs are those of an I/O APIC in user
/// space: messages there are level-triggered inputs whose end [`Exit::EndOfInterrupt`] tells. Before the first vCPU.
///
/// # Errors
/// What the kernel answered.
pub fn split_irqchip(vm: &VmFd, inputs: u32) -> io::Result<()> {
    let mut capability = kvm_enable_cap { cap: KVM_CAP_SPLIT_IRQCHIP, ..Default::default() };
    capability.args[0] = inputs.into();
    Ok(vm.enable_cap(&capability)?)
}

/// Makes these inputs of KVM's 8259 pair level-triggered, one bit each, and the others edge-triggered.
///
/// # Errors
/// What the kernel answered.
pub fn set_level_triggered(vm: &VmFd, inputs: u16) -> io::Result<()> {
    for (chip_id, elcr) in
        [KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE].into_iter().zip(inputs.to_le_bytes())
    {
        let mut chip = kvm_irqchip { chip_id, ..Default::default() };
        vm.get_irqchip(&mut chip)?;
        // Writing a field of a union is safe where it is plain data.
        chip.chip.pic.elcr = elcr;
        vm.set_irqchip(&chip)?;
    }
    Ok(())
}

/// KVM's VFIO pseudo device: tells KVM which VFIO groups belong to the machine, so that it can trust their DMA to be
/// cache coherent and connect their interrupts directly.
#[derive(Debug)]
pub struct VfioDevice(DeviceFd);

impl VfioDevice {
    /// The device of `vm`; a machine has at most one.
    ///
    /// # Errors
    /// `EBUSY` if it exists already, `ENODEV` if KVM was built without it.
    pub fn new(vm: &VmFd) -> io::Result<Self> {
        let mut device = kvm_create_device { type_: kvm_device_type_KVM_DEV_TYPE_VFIO, fd: 0, flags: 0 };
        Ok(Self(vm.create_device(&mut device)?))
    }

    /// Adds a VFIO group.
    ///
    /// # Errors
    /// What the kernel answered, `EEXIST` if the group is there already.
    pub fn add_group(&self, group: BorrowedFd<'_>) -> io::Result<()> {
        self.group_attribute(KVM_DEV_VFIO_GROUP_ADD, group)
    }

    /// Takes a VFIO group away.
    ///
    /// # Errors
    /// What the kernel answered, `ENOENT` if the group is not there.
    pub fn remove_group(&self, group: BorrowedFd<'_>) -> io::Result<()> {
        self.group_attribute(KVM_DEV_VFIO_GROUP_DEL, group)
    }

    fn group_attribute(&self, attribute: u32, group: BorrowedFd<'_>) -> io::Result<()> {
        let fd = group.as_raw_fd();
        let attribute = kvm_device_attr {
            flags: 0,
            group: KVM_DEV_VFIO_GROUP,
            attr: u64::from(attribute),
            addr: std::ptr::from_ref(&fd) as u64,
        };
        Ok(self.0.set_device_attr(&attribute)?)
    }
}
