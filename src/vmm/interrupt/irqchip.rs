//! KVM's in-kernel interrupt controllers: two 8259 PICs, an I/O APIC with 24 inputs, a local APIC in each vCPU.
//!
//! GSIs 0 to 23 are the inputs of PIC and I/O APIC; those above are routes that carry one message each. The kernel
//! takes its routing table as a whole, so the table is kept here and sent when an entry changed.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use kvm_bindings::{
    KVM_IRQ_ROUTING_IRQCHIP, KVM_IRQ_ROUTING_MSI, KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER,
    KVM_IRQCHIP_PIC_SLAVE, KVM_PIT_SPEAKER_DUMMY, KvmIrqRouting, kvm_irq_routing_entry,
    kvm_irq_routing_entry__bindgen_ty_1, kvm_irq_routing_irqchip, kvm_irq_routing_msi,
    kvm_irq_routing_msi__bindgen_ty_1, kvm_irqchip, kvm_msi, kvm_pit_config, kvm_pit_state2,
};
use kvm_ioctls::{Cap, VmFd};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::sys::event::is_signalled;
use crate::vmm::Unsupported;
use crate::vmm::interrupt::{Connection, LineController, MsiMessage, MsiRoute, MsiSink};

/// Inputs of the I/O APIC (82093AA, 1.0); GSIs from here on are message routes.
pub const IOAPIC_INPUTS: u32 = 24;
/// Inputs of the two PICs.
const PIC_INPUTS: u32 = 16;
/// The ISA timer's GSI, and the I/O APIC input that it is wired to on a PC (ACPI 6.5, 5.2.12.5: a source override).
const TIMER_GSI: u32 = 0;
const TIMER_INPUT: u32 = 2;

/// A handle to the controllers of one machine. Clones share them.
#[derive(Debug, Clone)]
pub struct Irqchip(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    vm: Arc<VmFd>,
    /// First GSI beyond what the kernel takes.
    limit: u32,
    /// Order: after a route's own state; the kernel is called under it, so that tables arrive in order.
    routes: Mutex<Routes>,
}

/// Message routes: every GSI that was given out, with its message while unmasked.
#[derive(Debug, Default)]
struct Routes(BTreeMap<u32, Option<MsiMessage>>);

impl Routes {
    fn allocate(&mut self, limit: u32) -> Option<u32> {
        let gsi = (IOAPIC_INPUTS..limit).find(|gsi| !self.0.contains_key(gsi))?;
        self.0.insert(gsi, None);
        Some(gsi)
    }

    /// The whole table: fixed inputs, then messages.
    fn table(&self) -> Vec<kvm_irq_routing_entry> {
        let messages = self.0.iter().filter_map(|(gsi, message)| Some(message_entry(*gsi, (*message)?)));
        fixed_entries().chain(messages).collect()
    }
}

/// The wiring of a PC: GSIs 0 to 15 reach the PICs, all but the timer's reach the I/O APIC input of the same number; the
/// timer reaches input 2, to which nothing else is wired.
fn fixed_entries() -> impl Iterator<Item = kvm_irq_routing_entry> {
    let pic = (0..PIC_INPUTS).map(|gsi| {
        let half = PIC_INPUTS / 2;
        let chip = if gsi < half { KVM_IRQCHIP_PIC_MASTER } else { KVM_IRQCHIP_PIC_SLAVE };
        input_entry(gsi, chip, gsi % half)
    });
    let ioapic = (0..IOAPIC_INPUTS).filter(|gsi| *gsi != TIMER_INPUT).map(|gsi| {
        let input = if gsi == TIMER_GSI { TIMER_INPUT } else { gsi };
        input_entry(gsi, KVM_IRQCHIP_IOAPIC, input)
    });
    pic.chain(ioapic)
}

fn input_entry(gsi: u32, irqchip: u32, pin: u32) -> kvm_irq_routing_entry {
    kvm_irq_routing_entry {
        gsi,
        type_: KVM_IRQ_ROUTING_IRQCHIP,
        u: kvm_irq_routing_entry__bindgen_ty_1 { irqchip: kvm_irq_routing_irqchip { irqchip, pin } },
        ..Default::default()
    }
}

fn message_entry(gsi: u32, message: MsiMessage) -> kvm_irq_routing_entry {
    let (address_lo, address_hi) = halves(message.address);
    let msi = kvm_irq_routing_msi {
        address_lo,
        address_hi,
        data: message.data,
        __bindgen_anon_1: kvm_irq_routing_msi__bindgen_ty_1 { devid: 0 },
    };
    kvm_irq_routing_entry {
        gsi,
        type_: KVM_IRQ_ROUTING_MSI,
        u: kvm_irq_routing_entry__bindgen_ty_1 { msi },
        ..Default::default()
    }
}

fn halves(address: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = address.to_le_bytes();
    (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]))
}

impl Irqchip {
    /// Makes the controllers and the timer (PIT, ISA interrupt 0) of `vm`, which must have no vCPU yet.
    pub(crate) fn new(vm: Arc<VmFd>) -> io::Result<Self> {
        vm.create_irq_chip()?;
        // The dummy speaker port spares an exit where the guest reads port 61h.
        vm.create_pit2(kvm_pit_config { flags: KVM_PIT_SPEAKER_DUMMY, ..Default::default() })?;
        let limit = u32::try_from(vm.check_extension_int(Cap::IrqRouting)).unwrap_or(0);
        let chip = Self(Arc::new(Shared { vm, limit, routes: Mutex::default() }));
        chip.0.send(&Routes::default())?;
        Ok(chip)
    }
}

/// Registers of all controllers and of the timer.
#[derive(Clone)]
pub struct ChipState {
    chips: [kvm_irqchip; 3],
    timer: kvm_pit_state2,
}

impl fmt::Debug for ChipState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChipState")
    }
}

impl Irqchip {
    /// The state now, to come back to at a reset.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn state(&self) -> io::Result<ChipState> {
        let chip = |chip_id| {
            let mut chip = kvm_irqchip { chip_id, ..Default::default() };
            self.0.vm.get_irqchip(&mut chip).map(|()| chip)
        };
        Ok(ChipState {
            chips: [chip(KVM_IRQCHIP_PIC_MASTER)?, chip(KVM_IRQCHIP_PIC_SLAVE)?, chip(KVM_IRQCHIP_IOAPIC)?],
            timer: self.0.vm.get_pit2()?,
        })
    }

    /// Back to `state`. No vCPU may run.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn restore(&self, state: &ChipState) -> io::Result<()> {
        for chip in &state.chips {
            self.0.vm.set_irqchip(chip)?;
        }
        Ok(self.0.vm.set_pit2(&state.timer)?)
    }
}

impl Shared {
    fn send(&self, routes: &Routes) -> io::Result<()> {
        let table = KvmIrqRouting::from_entries(&routes.table())
            .map_err(|_| io::Error::from_raw_os_error(libc::ENOSPC))?;
        Ok(self.vm.set_gsi_routing(&table)?)
    }

    /// Sets or clears the message of `gsi`; tells the kernel only of a change that it can see.
    fn set_message(&self, gsi: u32, message: MsiMessage) -> io::Result<()> {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        let before = routes.0.insert(gsi, Some(message)).flatten();
        if before == Some(message) {
            return Ok(());
        }
        self.send(&routes).inspect_err(|_| {
            routes.0.insert(gsi, before);
        })
    }

    fn free(&self, gsi: u32) {
        // The stale entry leaves the kernel's table with the next change; nothing triggers it meanwhile.
        self.routes.lock().unwrap_or_else(PoisonError::into_inner).0.remove(&gsi);
    }
}

impl LineController for Irqchip {
    fn set_level(&self, gsi: u32, high: bool) -> io::Result<()> {
        if gsi >= IOAPIC_INPUTS {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(self.0.vm.set_irq_line(gsi, high)?)
    }

    fn connect(&self, gsi: u32, trigger: &EventFd, resample: &EventFd) -> Result<Connection, Unsupported> {
        // A GSI that is no input must never reach KVM_IRQFD: kernels have crashed on it.
        if gsi >= IOAPIC_INPUTS {
            return Err(Unsupported);
        }
        let trigger = trigger.try_clone().map_err(|_| Unsupported)?;
        if let Err(error) = self.0.vm.register_irqfd_with_resample(&trigger, resample, gsi) {
            tracing::debug!(gsi, %error, "no resampling irqfd");
            return Err(Unsupported);
        }
        let vm = Arc::clone(&self.0.vm);
        Ok(Connection::new(move || {
            if let Err(error) = vm.unregister_irqfd(&trigger, gsi) {
                tracing::error!(gsi, %error, "interrupt line stays connected");
            }
        }))
    }
}

impl MsiSink for Irqchip {
    fn signal(&self, message: MsiMessage) -> io::Result<()> {
        let (address_lo, address_hi) = halves(message.address);
        let msi = kvm_msi { address_lo, address_hi, data: message.data, ..Default::default() };
        // The count of local APICs that took it; none is no error.
        self.0.vm.signal_msi(msi)?;
        Ok(())
    }

    fn route(&self) -> Result<Box<dyn MsiRoute>, Unsupported> {
        let event = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).map_err(|_| Unsupported)?;
        let mut routes = self.0.routes.lock().unwrap_or_else(PoisonError::into_inner);
        let gsi = routes.allocate(self.0.limit).ok_or(Unsupported)?;
        drop(routes);
        Ok(Box::new(IrqfdRoute { chip: Arc::clone(&self.0), gsi, event, attached: Mutex::new(false) }))
    }
}

/// A message route: a GSI of its own and the irqfd that triggers it. Masked means that the irqfd is taken away, so that
/// writes stay in the eventfd.
#[derive(Debug)]
struct IrqfdRoute {
    chip: Arc<Shared>,
    gsi: u32,
    event: EventFd,
    /// Whether the irqfd is registered. Order: before [`Shared::routes`].
    attached: Mutex<bool>,
}

impl IrqfdRoute {
    fn detach(&self, attached: &mut bool) {
        if std::mem::take(attached)
            && let Err(error) = self.chip.vm.unregister_irqfd(&self.event, self.gsi)
        {
            tracing::error!(gsi = self.gsi, %error, "interrupt route stays connected");
        }
    }

    fn attach(&self, message: MsiMessage, attached: &mut bool) -> io::Result<()> {
        self.chip.set_message(self.gsi, message)?;
        if !*attached {
            // What was collected is taken out and written again, so that exactly one delivery follows and the count is
            // empty when the route is masked the next time.
            let collected = self.event.read().is_ok();
            self.chip.vm.register_irqfd(&self.event, self.gsi)?;
            *attached = true;
            if collected {
                self.event.write(1)?;
            }
        }
        Ok(())
    }
}

impl MsiRoute for IrqfdRoute {
    fn event(&self) -> &EventFd {
        &self.event
    }

    fn unmask(&self, message: MsiMessage) -> io::Result<()> {
        let mut attached = self.attached.lock().unwrap_or_else(PoisonError::into_inner);
        self.attach(message, &mut attached).inspect_err(|_| self.detach(&mut attached))
    }

    fn mask(&self) {
        self.detach(&mut self.attached.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn pending(&self) -> bool {
        if *self.attached.lock().unwrap_or_else(PoisonError::into_inner) {
            return false;
        }
        is_signalled(&self.event)
    }
}

impl Drop for IrqfdRoute {
    fn drop(&mut self) {
        self.mask();
        self.chip.free(self.gsi);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timer_reaches_input_two_and_nothing_else_does() {
        // (gsi, chip, pin) of the fixed part; `irqchip` is the member that `type_` says.
        let entries: Vec<_> = fixed_entries().map(|entry| (entry.gsi, entry.type_)).collect();
        assert_eq!(entries.len(), 16 + 23);
        assert!(entries.iter().all(|(gsi, kind)| *gsi < IOAPIC_INPUTS && *kind == KVM_IRQ_ROUTING_IRQCHIP));
        assert_eq!(entries.iter().filter(|(gsi, _)| *gsi == TIMER_INPUT).count(), 1, "PIC only");
    }

    #[test]
    fn routes_begin_behind_the_inputs_are_reused_and_run_out() {
        let mut routes = Routes::default();
        assert_eq!(
            (routes.allocate(26), routes.allocate(26), routes.allocate(26)),
            (Some(24), Some(25), None)
        );
        routes.0.remove(&24);
        assert_eq!(routes.allocate(26), Some(24));
        assert_eq!(routes.table().len(), 39, "masked routes are not in the table");
        routes.0.insert(25, Some(MsiMessage { address: 0xFEE0_0000, data: 0x41 }));
        assert_eq!(
            routes.table().last().map(|entry| (entry.gsi, entry.type_)),
            Some((25, KVM_IRQ_ROUTING_MSI))
        );
    }

    /// A machine, or none (with the reason printed) where this host has no usable KVM.
    fn machine() -> Option<Arc<crate::vmm::kvm::Vm>> {
        crate::vmm::kvm::Vm::new().inspect_err(|error| eprintln!("SKIP: {error}")).ok()
    }

    #[test]
    fn a_masked_route_collects_and_an_unmasked_one_delivers() {
        let Some(vm) = machine() else { return };
        let route = vm.irqchip().route().unwrap();
        let message = MsiMessage { address: 0xFEE0_0000, data: 0x41 };
        route.event().write(1).unwrap();
        assert!(route.pending());
        route.unmask(message).unwrap();
        assert!(!route.pending(), "the kernel took it");
        route.unmask(MsiMessage { data: 0x42, ..message }).unwrap();
        route.mask();
        route.mask();
        assert!(!route.pending(), "nothing came while masked");
        route.event().write(1).unwrap();
        assert!(route.pending());
    }

    #[test]
    fn routes_end_at_the_kernels_limit_and_come_back() {
        let Some(vm) = machine() else { return };
        let mut routes = Vec::new();
        while routes.len() < 64 {
            routes.push(vm.irqchip().route().unwrap());
        }
        drop(routes);
        assert!(vm.irqchip().0.routes.lock().unwrap().0.is_empty());
    }

    #[test]
    fn only_inputs_of_the_controller_can_be_driven_or_connected() {
        let Some(vm) = machine() else { return };
        let (trigger, resample) = (EventFd::new(0).unwrap(), EventFd::new(0).unwrap());
        for gsi in [IOAPIC_INPUTS, 4096, u32::MAX] {
            assert!(vm.irqchip().set_level(gsi, true).is_err());
            assert!(vm.irqchip().connect(gsi, &trigger, &resample).is_err());
        }
        vm.irqchip().set_level(16, true).unwrap();
        let connection = vm.irqchip().connect(16, &trigger, &resample).unwrap();
        assert!(vm.irqchip().connect(16, &trigger, &resample).is_err(), "one eventfd, one line");
        drop(connection);
        drop(vm.irqchip().connect(16, &trigger, &resample).unwrap());
    }
}
