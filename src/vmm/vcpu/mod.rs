//! Virtual CPUs: how one is set up, and the loop of the thread that runs it.
//!
//! A vCPU belongs to its thread. Exits go to the two buses; what an access asks for beyond the device is carried out here,
//! after the access: BARs are placed again at once, everything else is left as a [`Request`] to the machine's thread.

pub mod config;
pub mod cpuid;
pub mod exits;
mod msr;
mod no_apic;
pub mod placement;
mod regs;
pub mod topology;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use kvm_bindings::CpuId;

use crate::sys::kvm::{CoalescedRing, Exit, Kicker, Vcpu};
use crate::sys::kvm_stats::Counters;
use crate::vmm::boot::{Entry, Programming};
use crate::vmm::bus::{Bus, Effects};
use crate::vmm::config::InterruptMode;
use crate::vmm::events::{Control, Obeyed, Order, Request, Wait};
use crate::vmm::interrupt::irqchip::Irqchip;
use crate::vmm::interrupt::userspace::Chips;
use crate::vmm::kvm::Vm;
use crate::vmm::pci::root::PciRoot;
use crate::vmm::rate_limit::RateLimit;
use crate::vmm::stats::VcpuSource;
use exits::ExitCounts;
use placement::Placement;
use regs::{LocalApic, PowerOnState};
use topology::Topology;

/// Stack of a vCPU's thread: device code is shallow, and untouched pages cost nothing.
const STACK_BYTES: usize = 256 << 10;
/// A guest that starts again and again tells of it a few times.
static TRIPLE_FAULTS: RateLimit = RateLimit::new();
/// KVM_SYSTEM_EVENT_SHUTDOWN, _RESET and _CRASH (Linux: include/uapi/linux/kvm.h).
const SYSTEM_SHUTDOWN: u32 = 1;
const SYSTEM_RESET: u32 = 2;
const SYSTEM_CRASH: u32 = 3;

/// What the vCPUs of one machine share.
#[derive(Debug)]
pub struct Shared {
    /// Port I/O.
    pub pio: Arc<Bus>,
    /// Memory-mapped I/O.
    pub mmio: Arc<Bus>,
    /// BARs that a register access moved are placed again here.
    pub root: Arc<PciRoot>,
    /// Requests and orders.
    pub control: Arc<Control>,
    /// Interrupt controllers.
    pub irqchip: Irqchip,
    /// Writes that KVM collects while the guest boots.
    pub coalesced: Coalesced,
}

/// Writes to the address port of PCI configuration space, which KVM collects while a guest boots instead of leaving the guest
/// for each: the port is written before every access to the data port and does nothing by itself, so this saves one exit of
/// two while the guest looks for devices.
///
/// The reset register amid its bytes is collected with it. So the machine's thread looks after collected writes ten times a
/// second, and ends the collecting when the guest has had [`Self::LIFETIME`] to boot.
#[derive(Debug, Default)]
pub struct Coalesced(Mutex<Option<CoalescedRing>>);

impl Coalesced {
    /// How long writes are collected, from the machine's start.
    pub const LIFETIME: Duration = Duration::from_secs(60);
    /// How often the machine's thread looks after them.
    pub const PERIOD: Duration = Duration::from_millis(100);

    /// Begins to take writes from `ring`.
    pub fn begin(&self, ring: CoalescedRing) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(ring);
    }

    /// Carries out what was collected. Holds the lock meanwhile, so that whoever comes next finds everything done.
    pub fn carry_out(&self, pio: &Bus) -> Effects {
        let mut ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut effects = Effects::empty();
        while let Some(write) = ring.as_mut().and_then(CoalescedRing::take) {
            effects |= pio.write(write.address, write.bytes());
        }
        effects
    }

    /// Carries out what is left and takes no more. KVM must have stopped to collect.
    pub fn end(&self, pio: &Bus) -> Effects {
        let effects = self.carry_out(pio);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
        effects
    }
}

/// How vCPUs are made.
#[derive(Debug)]
pub struct Template {
    /// How they are arranged.
    pub topology: Topology,
    /// What CPUID tells of all of them alike.
    pub selected: CpuId,
    /// Where each of them runs.
    pub placements: Vec<Placement>,
    /// Who sets up memory types and local interrupts.
    pub programming: Programming,
    /// Registers that [`MachineCpu`] remembers for a reset; none if the machine never resets in place.
    pub msr_indexes: Option<Vec<u32>>,
}

/// A vCPU that is set up and not yet running.
pub struct MachineCpu {
    id: u8,
    vcpu: Vcpu,
    kicker: Kicker,
    placement: Placement,
    exits: Arc<ExitCounts>,
    power_on: Option<PowerOnState>,
    /// The guest executed HLT and nobody but us waits for its end; never where the local APIC is in the kernel.
    halted: bool,
}

impl std::fmt::Debug for MachineCpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MachineCpu").field("id", &self.id).finish_non_exhaustive()
    }
}

impl MachineCpu {
    /// vCPU `id` of `vm`, counted from 0, in power-on state. vCPU 0 is the one that starts; the others wait for it to wake them.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn new(vm: &Vm, id: u8, template: &Template) -> io::Result<Self> {
        let vcpu = vm.vcpu(template.topology.apic_id(id))?;
        let local_apic = match vm.irqchip().mode() {
            InterruptMode::Kernel | InterruptMode::Split => LocalApic::Kernel,
            InterruptMode::Userspace => LocalApic::None,
        };
        let mut leaves = cpuid::leaves(&template.selected, template.topology, id)
            .ok_or_else(|| io::Error::other("more CPUID leaves than KVM takes"))?;
        if local_apic == LocalApic::None {
            no_apic::hide(&mut leaves);
            no_apic::disable(vcpu.fd())?;
        }
        vcpu.fd().set_cpuid2(&leaves)?;
        let refused = match template.programming {
            Programming::Done => msr::set_up(vcpu.fd(), cpuid::physical_bits(&template.selected)),
            Programming::ByFirmware => Vec::new(),
        };
        // All vCPUs are alike, so one tells for all.
        if id == 0 && !refused.is_empty() {
            tracing::warn!("KVM refuses these registers, and the guest does without: {}", refused.join(", "));
        }
        if local_apic == LocalApic::Kernel && template.programming == Programming::Done {
            set_local_interrupts(&vcpu)?;
        }
        let kicker = vcpu.kicker()?;
        let placement = template.placements.get(usize::from(id)).cloned().unwrap_or_default();
        let power_on = template
            .msr_indexes
            .as_deref()
            .map(|indexes| PowerOnState::capture(vcpu.fd(), indexes, local_apic))
            .transpose()?;
        Ok(Self { id, vcpu, kicker, placement, exits: Arc::default(), power_on, halted: false })
    }

    /// Ends this vCPU's stay in guest mode from any thread.
    #[must_use]
    pub fn kicker(&self) -> Kicker {
        self.kicker.clone()
    }

    /// Where its exits are counted.
    #[must_use]
    pub fn stats(&self, topology: Topology) -> VcpuSource {
        let kvm = Counters::of_vcpu(self.vcpu.fd()).ok();
        VcpuSource { apic_id: topology.apic_id(self.id), exits: Arc::clone(&self.exits), kvm }
    }

    /// The ring in which KVM collects writes of all vCPUs.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn coalesced_ring(&self) -> io::Result<CoalescedRing> {
        self.vcpu.coalesced_ring()
    }

    /// Puts the first vCPU at the payload's entry; the others stay as they are, asleep.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn enter(&self, entry: Entry) -> io::Result<()> {
        if self.id == 0 { regs::enter(self.vcpu.fd(), entry) } else { Ok(()) }
    }

    /// Starts the thread; it waits for an order.
    ///
    /// # Errors
    /// What the kernel answered to the creation of a thread.
    pub fn start(self, shared: Arc<Shared>) -> io::Result<JoinHandle<()>> {
        thread::Builder::new().name(format!("vcpu-{}", self.id)).stack_size(STACK_BYTES).spawn(move || {
            let mut cpu = self;
            let id = cpu.id;
            // A panic ends the machine, not the process: the terminal and the host are given back first.
            if catch_unwind(AssertUnwindSafe(|| cpu.obey(&shared))).is_err() {
                shared.control.request(Request::Fault(format!("the thread of vCPU {id} panicked")));
            }
        })
    }

    fn obey(&mut self, shared: &Shared) {
        self.kicker.attach();
        // Tried when the machine was built; CPUs may have gone since.
        if let Err(error) = self.placement.take(self.id.into()) {
            shared.control.request(Request::Fault(error.to_string()));
        }
        let mut obeyed = Obeyed::default();
        let mut wait = Wait::ForRun;
        loop {
            // Cleared before the order is looked at: a kick for a later order stays.
            self.kicker.clear();
            match shared.control.next_order(&mut obeyed, wait) {
                Order::Run => {
                    wait = self.run(shared);
                    if wait == Wait::ForInterrupt {
                        let enabled = self.vcpu.interrupts_enabled();
                        shared.control.halt(&obeyed, || enabled && is_asked(shared));
                        wait = Wait::ForRun;
                    }
                }
                Order::Park => {
                    shared.control.carried_out();
                    wait = Wait::ForRun;
                }
                Order::Reset(entry) => {
                    if let Err(error) = self.reset(entry) {
                        let id = self.id;
                        shared.control.request(Request::Fault(format!("vCPU {id} cannot be reset: {error}")));
                    }
                    shared.control.carried_out();
                    wait = Wait::ForRun;
                }
                Order::Quit => return,
            }
        }
    }

    fn reset(&mut self, entry: Entry) -> io::Result<()> {
        self.halted = false;
        self.vcpu.forget_interruptibility();
        let power_on =
            self.power_on.as_ref().ok_or_else(|| io::Error::other("its power-on state was not kept"))?;
        power_on.restore(self.vcpu.fd())?;
        self.enter(entry)
    }

    /// Runs the guest until it is interrupted or asks for something that ends its run.
    fn run(&mut self, shared: &Shared) -> Wait {
        loop {
            if self.id == 0
                && let Some(chips) = shared.irqchip.chips()
            {
                match offer_interrupt(&mut self.vcpu, chips) {
                    Ok(given) => self.halted &= !given,
                    Err(error) => {
                        return self.fault(shared, &format!("cannot interrupt the guest: {error}"));
                    }
                }
            }
            if self.halted && !self.is_awake(shared) {
                return Wait::ForInterrupt;
            }
            self.halted = false;
            let exit = match self.vcpu.run() {
                Ok(exit) => exit,
                Err(error) => return self.fault(shared, &format!("cannot run the guest: {error}")),
            };
            self.exits.count(&exit);
            let effects = match exit {
                Exit::PortWrite { port, size, data } => {
                    let before = shared.coalesced.carry_out(&shared.pio);
                    data.chunks(size.max(1))
                        .fold(before, |effects, value| effects | shared.pio.write(port.into(), value))
                }
                Exit::PortRead { port, size, data } => {
                    let before = shared.coalesced.carry_out(&shared.pio);
                    for value in data.chunks_mut(size.max(1)) {
                        shared.pio.read(port.into(), value);
                    }
                    before
                }
                Exit::MmioWrite { address, data } => shared.mmio.write(address, data),
                Exit::MmioRead { address, data } => {
                    shared.mmio.read(address, data);
                    Effects::empty()
                }
                Exit::Interrupted => return Wait::ForRun,
                Exit::Halt => {
                    self.halted = true;
                    Effects::empty()
                }
                Exit::InterruptWindow | Exit::TaskPriority => Effects::empty(),
                Exit::EndOfInterrupt { vector } => {
                    if let Some(chips) = shared.irqchip.chips() {
                        chips.end_of_interrupt(vector);
                    }
                    Effects::empty()
                }
                Exit::Shutdown => {
                    if TRIPLE_FAULTS.allow().is_some() {
                        tracing::warn!(vcpu = self.id, "triple fault, which counts as a reset");
                    }
                    Effects::RESET
                }
                Exit::SystemEvent(SYSTEM_SHUTDOWN) => Effects::SHUTDOWN,
                Exit::SystemEvent(SYSTEM_RESET) => Effects::RESET,
                Exit::SystemEvent(SYSTEM_CRASH) => Effects::PANIC,
                Exit::FailEntry { reason } => {
                    let text = format!("the processor refused to enter the guest (reason {reason:#x})");
                    return self.fault(shared, &text);
                }
                Exit::InternalError { suberror, data } => {
                    let text = format!("KVM cannot go on (internal error {suberror}, data {data:x?})");
                    return self.fault(shared, &text);
                }
                other => {
                    let text = format!("unexpected exit {other:?}");
                    return self.fault(shared, &text);
                }
            };
            if !effects.is_empty()
                && let Some(wait) = carry_out(effects, shared)
            {
                return wait;
            }
        }
    }

    /// Whether the guest leaves HLT: it does for every interrupt that it takes.
    fn is_awake(&mut self, shared: &Shared) -> bool {
        self.vcpu.interrupts_enabled() && is_asked(shared)
    }

    fn fault(&self, shared: &Shared, what: &str) -> Wait {
        let registers = regs::dump(self.vcpu.fd());
        shared.control.request(Request::Fault(format!("vCPU {}: {what}; {registers}", self.id)));
        Wait::ForNew
    }
}

/// Gives the first vCPU the interrupt that the PIC asks for, or has the kernel say when it takes one; whether it was given.
/// Where the guest uses its local APIC and not the PIC, that is never.
///
/// # Errors
/// What the kernel answered.
pub fn offer_interrupt(vcpu: &mut Vcpu, chips: &Chips) -> io::Result<bool> {
    let given = chips.is_asking() && vcpu.takes_interrupt();
    if given {
        vcpu.interrupt(chips.acknowledge())?;
    }
    vcpu.request_interrupt_window(chips.is_asking());
    Ok(given)
}

/// Whether the PIC in user space asks for the first vCPU.
fn is_asked(shared: &Shared) -> bool {
    shared.irqchip.chips().is_some_and(|chips| chips.is_asking())
}

/// Does what an access asked for; a [`Wait`] if the vCPU shall stop for it.
pub(super) fn carry_out(effects: Effects, shared: &Shared) -> Option<Wait> {
    if effects.contains(Effects::REMAP_BARS) {
        shared.root.remap();
    }
    // The worst of what was asked for at once counts.
    let request = if effects.contains(Effects::PANIC) {
        Request::Panic
    } else if effects.contains(Effects::DEBUG_EXIT) {
        Request::DebugExit
    } else if effects.contains(Effects::SHUTDOWN) {
        Request::PowerOff
    } else if effects.contains(Effects::RESET) {
        Request::Reset
    } else {
        return None;
    };
    shared.control.request(request);
    Some(Wait::ForNew)
}

/// Wires the local interrupt inputs as a PC's firmware does: LINT0 takes the PIC, LINT1 is the non-maskable interrupt
/// (Intel SDM vol. 3, 11.5.1).
fn set_local_interrupts(vcpu: &Vcpu) -> io::Result<()> {
    const LINT0: usize = 0x350;
    const LINT1: usize = 0x360;
    /// Delivery modes in bits 10:8.
    const EXTERNAL: u32 = 0b111 << 8;
    const NMI: u32 = 0b100 << 8;
    let mut lapic = vcpu.fd().get_lapic()?;
    for (offset, value) in [(LINT0, EXTERNAL), (LINT1, NMI)] {
        for (register, byte) in lapic.regs.iter_mut().skip(offset).zip(value.to_le_bytes()) {
            *register = i8::from_le_bytes([byte]);
        }
    }
    Ok(vcpu.fd().set_lapic(&lapic)?)
}
