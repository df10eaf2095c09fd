//! The interrupt controllers of a machine, wherever they are: devices and vCPUs meet one of three kinds by one handle.
//!
//! | mode | 8259 pair, 8254 | I/O APIC | local APICs |
//! |---|---|---|---|
//! | kernel | KVM | KVM | KVM |
//! | split | [`userspace`](super::userspace) | [`userspace`](super::userspace) | KVM |
//! | userspace | [`userspace`](super::userspace) | none | none |

use std::fmt;
use std::io;
use std::sync::Arc;

use kvm_ioctls::VmFd;
use vmm_sys_util::eventfd::EventFd;

use crate::sys::kvm;
use crate::vmm::Unsupported;
use crate::vmm::config::InterruptMode;
use crate::vmm::interrupt::kernel::{self, KernelChips};
use crate::vmm::interrupt::routes::{Inputs, Routing};
use crate::vmm::interrupt::userspace::Chips;
use crate::vmm::interrupt::{Connection, LineController, MsiMessage, MsiRoute, MsiSink, pirq};

/// Inputs of the I/O APIC (82093AA, 1.0); GSIs from here on are message routes.
pub const IOAPIC_INPUTS: u32 = 24;
/// The ISA timer's GSI.
pub(super) const TIMER_GSI: u32 = 0;
/// The I/O APIC input that the ISA timer is wired to on a PC (ACPI 6.5, 5.2.12.5: a source override).
pub const TIMER_INPUT: u32 = 2;

/// A handle to the controllers of one machine. Clones share them.
#[derive(Debug, Clone)]
pub struct Irqchip(Arc<Kind>);

#[derive(Debug)]
enum Kind {
    Kernel(KernelChips),
    Split { routing: Arc<Routing>, chips: Arc<Chips> },
    Userspace { chips: Arc<Chips> },
}

impl Irqchip {
    /// The controllers of `vm`, which must have no vCPU yet; in kernel mode the timer, too. What PCI devices share of the PIC's
    /// inputs is level-triggered, as firmware leaves it.
    pub(crate) fn new(vm: Arc<VmFd>, mode: InterruptMode) -> io::Result<Self> {
        let level = pirq::PIC_INPUTS.iter().fold(0, |set, input| set | 1 << input);
        let kind = match mode {
            InterruptMode::Kernel => Kind::Kernel(KernelChips::new(vm, level)?),
            InterruptMode::Split => {
                kvm::split_irqchip(&vm, IOAPIC_INPUTS)?;
                let routing = Routing::new(vm, Inputs::Userspace)?;
                let chips = Chips::split(level, Arc::clone(&routing) as _);
                Kind::Split { routing, chips }
            }
            InterruptMode::Userspace => Kind::Userspace { chips: Chips::pair(level) },
        };
        Ok(Self(Arc::new(kind)))
    }

    /// Which kind they are.
    #[must_use]
    pub fn mode(&self) -> InterruptMode {
        match &*self.0 {
            Kind::Kernel(_) => InterruptMode::Kernel,
            Kind::Split { .. } => InterruptMode::Split,
            Kind::Userspace { .. } => InterruptMode::Userspace,
        }
    }

    /// The chips in user space, if there are any: they have registers, and interrupt the first vCPU.
    #[must_use]
    pub fn chips(&self) -> Option<&Arc<Chips>> {
        match &*self.0 {
            Kind::Kernel(_) => None,
            Kind::Split { chips, .. } | Kind::Userspace { chips } => Some(chips),
        }
    }

    /// Has the kernel's timer keep quiet, or go on. Nothing where the timer is in user space: it is the machine's then.
    pub fn silence_timer(&self, silent: bool) {
        if let Kind::Kernel(chips) = &*self.0
            && let Err(error) = chips.silence_timer(silent)
        {
            tracing::error!(%error, "KVM's timer");
        }
    }

    /// What the kernel holds of them now, to come back to at a reset.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn state(&self) -> io::Result<ChipState> {
        let state = match &*self.0 {
            Kind::Kernel(chips) => Some(chips.state()?),
            Kind::Split { .. } | Kind::Userspace { .. } => None,
        };
        Ok(ChipState(state))
    }

    /// Back to `state`, and the chips in user space to power-on. No vCPU may run.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn restore(&self, state: &ChipState) -> io::Result<()> {
        match (&*self.0, &state.0) {
            (Kind::Kernel(chips), Some(state)) => chips.restore(state),
            (Kind::Kernel(_), None) => Err(io::ErrorKind::InvalidInput.into()),
            (Kind::Split { chips, .. } | Kind::Userspace { chips }, _) => {
                chips.reset();
                Ok(())
            }
        }
    }
}

/// What the kernel holds of the controllers.
#[derive(Clone)]
pub struct ChipState(Option<kernel::ChipState>);

impl fmt::Debug for ChipState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChipState")
    }
}

impl LineController for Irqchip {
    fn set_level(&self, gsi: u32, high: bool) -> io::Result<()> {
        match &*self.0 {
            Kind::Kernel(chips) => chips.set_level(gsi, high),
            Kind::Split { chips, .. } | Kind::Userspace { chips } => chips.set_level(gsi, high),
        }
    }

    fn connect(&self, gsi: u32, trigger: &EventFd, resample: &EventFd) -> Result<Connection, Unsupported> {
        match &*self.0 {
            Kind::Kernel(chips) => chips.connect(gsi, trigger, resample),
            Kind::Split { chips, .. } | Kind::Userspace { chips } => chips.connect(gsi, trigger, resample),
        }
    }
}

impl MsiSink for Irqchip {
    fn signal(&self, message: MsiMessage) -> io::Result<()> {
        let routing = match &*self.0 {
            Kind::Kernel(KernelChips { routing, .. }) | Kind::Split { routing, .. } => routing,
            Kind::Userspace { .. } => return Err(io::ErrorKind::Unsupported.into()),
        };
        // Whether a local APIC took it is the guest's business.
        routing.signal(message).map(drop)
    }

    fn route(&self) -> Result<Box<dyn MsiRoute>, Unsupported> {
        match &*self.0 {
            Kind::Kernel(KernelChips { routing, .. }) | Kind::Split { routing, .. } => routing.route(),
            Kind::Userspace { .. } => Err(Unsupported),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vmm::kvm::Vm;

    const MODES: [InterruptMode; 3] = [InterruptMode::Kernel, InterruptMode::Split, InterruptMode::Userspace];

    /// A machine, or none (with the reason printed) where this host has no usable KVM.
    fn machine(mode: InterruptMode) -> Option<Arc<Vm>> {
        Vm::new(mode).inspect_err(|error| eprintln!("SKIP: {error}")).ok()
    }

    #[test]
    fn only_inputs_of_the_controller_can_be_driven_or_connected() {
        let (trigger, resample) = (EventFd::new(0).unwrap(), EventFd::new(0).unwrap());
        for mode in MODES {
            let Some(vm) = machine(mode) else { return };
            for gsi in [IOAPIC_INPUTS, 4096, u32::MAX] {
                assert!(vm.irqchip().set_level(gsi, true).is_err());
                assert!(vm.irqchip().connect(gsi, &trigger, &resample).is_err());
            }
            vm.irqchip().set_level(10, true).unwrap();
            let connection = vm.irqchip().connect(10, &trigger, &resample).unwrap();
            drop(connection);
            drop(vm.irqchip().connect(10, &trigger, &resample).unwrap());
        }
    }

    #[test]
    fn a_connected_eventfd_has_one_line_in_the_kernel() {
        let (trigger, resample) = (EventFd::new(0).unwrap(), EventFd::new(0).unwrap());
        let Some(vm) = machine(InterruptMode::Kernel) else { return };
        let _connection = vm.irqchip().connect(16, &trigger, &resample).unwrap();
        assert!(vm.irqchip().connect(16, &trigger, &resample).is_err());
    }

    #[test]
    fn messages_need_a_local_apic() {
        for mode in MODES {
            let Some(vm) = machine(mode) else { return };
            let message = MsiMessage { address: 0xFEE0_0000, data: 0x41 };
            let able = mode != InterruptMode::Userspace;
            assert_eq!(vm.irqchip().route().is_ok(), able, "{mode:?}");
            // No vCPU takes it; that is another answer.
            let refused = vm.irqchip().signal(message).err().map(|error| error.kind());
            assert_eq!(refused != Some(io::ErrorKind::Unsupported), able, "{mode:?}");
        }
    }
}
