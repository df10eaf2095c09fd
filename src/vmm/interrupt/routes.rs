//! Message routes of a machine in the kernel: which GSI carries which message, and the eventfds that trigger them.
//!
//! GSIs 0 to 23 belong to the inputs of PIC and I/O APIC; those above are routes that carry one message each. The kernel
//! takes its routing table as a whole, so the table is kept here and sent when an entry changed that it can see.
//! Linux: Documentation/virt/kvm/api.rst, KVM_SET_GSI_ROUTING and KVM_IRQFD.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kvm_bindings::{
    KVM_IRQ_ROUTING_IRQCHIP, KVM_IRQ_ROUTING_MSI, KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER,
    KVM_IRQCHIP_PIC_SLAVE, KvmIrqRouting, kvm_irq_routing_entry, kvm_irq_routing_entry__bindgen_ty_1,
    kvm_irq_routing_irqchip, kvm_irq_routing_msi, kvm_irq_routing_msi__bindgen_ty_1, kvm_msi,
};
use kvm_ioctls::{Cap, VmFd};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::sys::event::is_signalled;
use crate::vmm::Unsupported;
use crate::vmm::interrupt::irqchip::{IOAPIC_INPUTS, TIMER_GSI, TIMER_INPUT};
use crate::vmm::interrupt::pic;
use crate::vmm::interrupt::{MsiMessage, MsiRoute};

/// Where the chips are whose inputs the low GSIs belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Inputs {
    /// In the kernel, wired as in a PC.
    Kernel,
    /// In user space. The kernel only has to know which messages come from level-triggered inputs, so that it tells of
    /// their ends (Linux: Documentation/virt/kvm/api.rst, KVM_CAP_SPLIT_IRQCHIP).
    Userspace,
}

/// The routing table of one machine.
#[derive(Debug)]
pub(super) struct Routing {
    vm: Arc<VmFd>,
    inputs: Inputs,
    /// First GSI beyond what the kernel takes.
    limit: u32,
    /// Order: after a route's own state; the kernel is called under it, so that tables arrive in order.
    routes: Mutex<Routes>,
}

/// Every GSI that was given out, with its message while it has one.
#[derive(Debug, Default)]
struct Routes {
    messages: BTreeMap<u32, Option<MsiMessage>>,
    /// The kernel does not know of a change yet.
    stale: bool,
}

impl Routes {
    fn allocate(&mut self, limit: u32) -> Option<u32> {
        let gsi = (IOAPIC_INPUTS..limit).find(|gsi| !self.messages.contains_key(gsi))?;
        self.messages.insert(gsi, None);
        Some(gsi)
    }

    /// The whole table: fixed inputs, then messages.
    fn table(&self, inputs: Inputs) -> Vec<kvm_irq_routing_entry> {
        let fixed = (inputs == Inputs::Kernel).then(fixed_entries).into_iter().flatten();
        let messages =
            self.messages.iter().filter_map(|(gsi, message)| Some(message_entry(*gsi, (*message)?)));
        fixed.chain(messages).collect()
    }
}

/// The wiring of a PC: GSIs 0 to 15 reach the PICs, all but the timer's reach the I/O APIC input of the same number; the
/// timer reaches input 2, to which nothing else is wired.
fn fixed_entries() -> impl Iterator<Item = kvm_irq_routing_entry> {
    let inputs = u32::from(pic::INPUTS);
    let pic = (0..inputs).map(move |gsi| {
        let half = inputs / 2;
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

impl Routing {
    /// The table of `vm` without any message, sent.
    pub(super) fn new(vm: Arc<VmFd>, inputs: Inputs) -> io::Result<Arc<Self>> {
        let limit = u32::try_from(vm.check_extension_int(Cap::IrqRouting)).unwrap_or(0);
        let routing = Self { vm, inputs, limit, routes: Mutex::default() };
        routing.send(&mut routing.lock())?;
        Ok(Arc::new(routing))
    }

    fn lock(&self) -> MutexGuard<'_, Routes> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, routes: &mut Routes) -> io::Result<()> {
        let table = KvmIrqRouting::from_entries(&routes.table(self.inputs))
            .map_err(|_| io::Error::from_raw_os_error(libc::ENOSPC))?;
        self.vm.set_gsi_routing(&table)?;
        routes.stale = false;
        Ok(())
    }

    /// Sets the message of `gsi` without telling the kernel yet.
    fn stage(&self, gsi: u32, message: Option<MsiMessage>) {
        let mut routes = self.lock();
        let before = routes.messages.insert(gsi, message).flatten();
        routes.stale |= before != message;
    }

    /// Sets the message of `gsi` and tells the kernel of all that it does not know.
    fn set_message(&self, gsi: u32, message: MsiMessage) -> io::Result<()> {
        let mut routes = self.lock();
        let before = routes.messages.insert(gsi, Some(message)).flatten();
        if before == Some(message) && !routes.stale {
            return Ok(());
        }
        self.send(&mut routes).inspect_err(|_| {
            routes.messages.insert(gsi, before);
        })
    }

    /// Says what input `gsi` of chips in user space sends while it is level-triggered: the kernel tells of its end then.
    pub(super) fn set_input(&self, gsi: u32, message: Option<MsiMessage>) -> io::Result<()> {
        self.stage(gsi, message);
        let mut routes = self.lock();
        if routes.stale { self.send(&mut routes) } else { Ok(()) }
    }

    fn free(&self, gsi: u32) {
        // The stale entry leaves the kernel's table with the next change; nothing triggers it meanwhile.
        self.lock().messages.remove(&gsi);
    }

    /// Delivers `message` once; whether a local APIC took it.
    pub(super) fn signal(&self, message: MsiMessage) -> io::Result<bool> {
        let (address_lo, address_hi) = halves(message.address);
        let msi = kvm_msi { address_lo, address_hi, data: message.data, ..Default::default() };
        Ok(self.vm.signal_msi(msi)? > 0)
    }

    /// A new route, masked.
    pub(super) fn route(self: &Arc<Self>) -> Result<Box<dyn MsiRoute>, Unsupported> {
        let event = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).map_err(|_| Unsupported)?;
        let gsi = self.lock().allocate(self.limit).ok_or(Unsupported)?;
        Ok(Box::new(IrqfdRoute { routing: Arc::clone(self), gsi, event, attached: Mutex::new(false) }))
    }
}

/// A message route: a GSI of its own and the irqfd that triggers it. Masked means that the irqfd is taken away, so that
/// writes stay in the eventfd.
#[derive(Debug)]
struct IrqfdRoute {
    routing: Arc<Routing>,
    gsi: u32,
    event: EventFd,
    /// Whether the irqfd is registered. Order: before [`Routing::routes`].
    attached: Mutex<bool>,
}

impl IrqfdRoute {
    fn detach(&self, attached: &mut bool) {
        if std::mem::take(attached)
            && let Err(error) = self.routing.vm.unregister_irqfd(&self.event, self.gsi)
        {
            tracing::error!(gsi = self.gsi, %error, "interrupt route stays connected");
        }
    }

    fn attach(&self, message: MsiMessage, attached: &mut bool) -> io::Result<()> {
        self.routing.set_message(self.gsi, message)?;
        if !*attached {
            // What was collected is taken out and written again, so that exactly one delivery follows and the count is
            // empty when the route is masked the next time.
            let collected = self.event.read().is_ok();
            self.routing.vm.register_irqfd(&self.event, self.gsi)?;
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

    fn stage(&self, message: MsiMessage) {
        self.routing.stage(self.gsi, Some(message));
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
        self.routing.free(self.gsi);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vmm::config::InterruptMode;
    use crate::vmm::interrupt::MsiSink;
    use crate::vmm::kvm::Vm;

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
        routes.messages.remove(&24);
        assert_eq!(routes.allocate(26), Some(24));
        assert_eq!(routes.table(Inputs::Kernel).len(), 39, "masked routes are not in the table");
        routes.messages.insert(25, Some(MsiMessage { address: 0xFEE0_0000, data: 0x41 }));
        let last = |inputs| routes.table(inputs).last().map(|entry| (entry.gsi, entry.type_));
        assert_eq!(last(Inputs::Kernel), Some((25, KVM_IRQ_ROUTING_MSI)));
        assert_eq!(routes.table(Inputs::Userspace).len(), 1);
    }

    /// Machines in the modes that have message routes, or none (with the reason printed) where this host has no usable KVM.
    fn machines() -> Vec<Arc<Vm>> {
        let machine = |mode| Vm::new(mode).inspect_err(|error| eprintln!("SKIP: {error}")).ok();
        [InterruptMode::Kernel, InterruptMode::Split].into_iter().filter_map(machine).collect()
    }

    #[test]
    fn a_masked_route_collects_and_an_unmasked_one_delivers() {
        for vm in machines() {
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
    }

    #[test]
    fn staged_messages_go_to_the_kernel_together() {
        for vm in machines() {
            let routing = Routing::new(vm.descriptor(), Inputs::Userspace).unwrap();
            let routes: Vec<_> = (0..3).map(|_| routing.route().unwrap()).collect();
            for (route, data) in routes.iter().zip(0x41..) {
                route.stage(MsiMessage { address: 0xFEE0_0000, data });
            }
            assert!(routing.lock().stale);
            routes[0].unmask(MsiMessage { address: 0xFEE0_0000, data: 0x41 }).unwrap();
            assert!(!routing.lock().stale, "all three at once");
            routes[1].unmask(MsiMessage { address: 0xFEE0_0000, data: 0x42 }).unwrap();
        }
    }

    #[test]
    fn routes_end_at_the_kernels_limit_and_come_back() {
        for vm in machines() {
            let routing = Routing::new(vm.descriptor(), Inputs::Userspace).unwrap();
            let routes: Vec<_> = (0..64).map(|_| routing.route().unwrap()).collect();
            drop(routes);
            assert!(routing.lock().messages.is_empty());
        }
    }
}
