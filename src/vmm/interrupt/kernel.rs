//! KVM's in-kernel interrupt controllers: two 8259 PICs, an I/O APIC with 24 inputs, a local APIC in each vCPU, and the
//! 8254 timer.

use std::fmt;
use std::io;
use std::sync::Arc;

use kvm_bindings::{
    KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_PIT_FLAGS_HPET_LEGACY,
    KVM_PIT_SPEAKER_DUMMY, kvm_irqchip, kvm_pit_config, kvm_pit_state2,
};
use kvm_ioctls::VmFd;
use vmm_sys_util::eventfd::EventFd;

use crate::sys::kvm;
use crate::vmm::Unsupported;
use crate::vmm::interrupt::Connection;
use crate::vmm::interrupt::irqchip::IOAPIC_INPUTS;
use crate::vmm::interrupt::pic;
use crate::vmm::interrupt::routes::{Inputs, Routing};

/// The controllers of one machine.
#[derive(Debug)]
pub(super) struct KernelChips {
    vm: Arc<VmFd>,
    pub(super) routing: Arc<Routing>,
}

/// Registers of all controllers and of the timer.
#[derive(Clone)]
pub(super) struct ChipState {
    chips: [kvm_irqchip; 3],
    timer: kvm_pit_state2,
}

impl fmt::Debug for ChipState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChipState")
    }
}

impl KernelChips {
    /// Makes the controllers, with `level_triggered` inputs of the PIC, and the timer (PIT, ISA interrupt 0) of `vm`, which
    /// must have no vCPU yet.
    pub(super) fn new(vm: Arc<VmFd>, level_triggered: pic::Inputs) -> io::Result<Self> {
        vm.create_irq_chip()?;
        kvm::set_level_triggered(&vm, level_triggered)?;
        // The dummy speaker port spares an exit where the guest reads port 61h.
        vm.create_pit2(kvm_pit_config { flags: KVM_PIT_SPEAKER_DUMMY, ..Default::default() })?;
        let routing = Routing::new(Arc::clone(&vm), Inputs::Kernel)?;
        Ok(Self { vm, routing })
    }

    /// The state now, to come back to at a reset.
    pub(super) fn state(&self) -> io::Result<ChipState> {
        let chip = |chip_id| {
            let mut chip = kvm_irqchip { chip_id, ..Default::default() };
            self.vm.get_irqchip(&mut chip).map(|()| chip)
        };
        Ok(ChipState {
            chips: [chip(KVM_IRQCHIP_PIC_MASTER)?, chip(KVM_IRQCHIP_PIC_SLAVE)?, chip(KVM_IRQCHIP_IOAPIC)?],
            timer: self.vm.get_pit2()?,
        })
    }

    /// Back to `state`. No vCPU may run.
    pub(super) fn restore(&self, state: &ChipState) -> io::Result<()> {
        for chip in &state.chips {
            self.vm.set_irqchip(chip)?;
        }
        Ok(self.vm.set_pit2(&state.timer)?)
    }

    /// Has the timer keep quiet while others stand in for it, or go on (Linux: Documentation/virt/kvm/api.rst,
    /// KVM_PIT_FLAGS_HPET_LEGACY).
    pub(super) fn silence_timer(&self, silent: bool) -> io::Result<()> {
        let mut timer = self.vm.get_pit2()?;
        timer.flags &= !KVM_PIT_FLAGS_HPET_LEGACY;
        if silent {
            timer.flags |= KVM_PIT_FLAGS_HPET_LEGACY;
        }
        Ok(self.vm.set_pit2(&timer)?)
    }

    pub(super) fn set_level(&self, gsi: u32, high: bool) -> io::Result<()> {
        if gsi >= IOAPIC_INPUTS {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(self.vm.set_irq_line(gsi, high)?)
    }

    pub(super) fn connect(
        &self,
        gsi: u32,
        trigger: &EventFd,
        resample: &EventFd,
    ) -> Result<Connection, Unsupported> {
        // A GSI that is no input must never reach KVM_IRQFD: kernels have crashed on it.
        if gsi >= IOAPIC_INPUTS {
            return Err(Unsupported);
        }
        let trigger = trigger.try_clone().map_err(|_| Unsupported)?;
        if let Err(error) = self.vm.register_irqfd_with_resample(&trigger, resample, gsi) {
            tracing::debug!(gsi, %error, "no resampling irqfd");
            return Err(Unsupported);
        }
        let vm = Arc::clone(&self.vm);
        Ok(Connection::new(move || {
            if let Err(error) = vm.unregister_irqfd(&trigger, gsi) {
                tracing::error!(gsi, %error, "interrupt line stays connected");
            }
        }))
    }
}
