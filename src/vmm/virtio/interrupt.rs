//! How a virtio function interrupts: MSI-X vectors once the driver enabled them, else its INTx line with the ISR status
//! register (VIRTIO 1.3, 4.1.4.5 and 4.1.5).

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::spec::virtio::pci::{NO_VECTOR, isr};
use crate::vmm::interrupt::InterruptLine;
use crate::vmm::pci::msix::MsixTable;

struct Line {
    line: InterruptLine,
    /// ISR status bits that the driver has not read yet.
    isr: u8,
    /// The command register forbids INTx.
    disabled: bool,
}

/// A virtio function's interrupts, shared between its registers and its workers.
pub struct VirtioInterrupt {
    msix: Arc<MsixTable>,
    config_vector: AtomicU16,
    queue_vectors: Vec<AtomicU16>,
    generation: AtomicU8,
    needs_reset: AtomicBool,
    /// Innermost lock of the function, so that level and ISR bits never disagree.
    line: Mutex<Line>,
}

impl fmt::Debug for VirtioInterrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VirtioInterrupt").field("msix", &self.msix).finish_non_exhaustive()
    }
}

impl VirtioInterrupt {
    /// Interrupts of a function with `queues` queues.
    #[must_use]
    pub fn new(msix: Arc<MsixTable>, line: InterruptLine, queues: usize) -> Arc<Self> {
        Arc::new(Self {
            msix,
            config_vector: AtomicU16::new(NO_VECTOR),
            queue_vectors: (0..queues).map(|_| AtomicU16::new(NO_VECTOR)).collect(),
            generation: AtomicU8::new(0),
            needs_reset: AtomicBool::new(false),
            line: Mutex::new(Line { line, isr: 0, disabled: false }),
        })
    }

    /// Tells the driver that queue `index` has used buffers.
    pub fn queue_used(&self, index: u16) {
        let vector = self.queue_vector(index);
        self.raise(vector, isr::QUEUE);
    }

    /// Tells the driver that the device-specific configuration changed.
    pub fn config_changed(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.raise(self.config_vector(), isr::CONFIG);
    }

    /// Marks the device as broken until its reset, and tells the driver (VIRTIO 1.3, 2.1.2). True the first time.
    pub fn fail(&self) -> bool {
        let first = !self.needs_reset.swap(true, Ordering::AcqRel);
        if first {
            self.raise(self.config_vector(), isr::CONFIG);
        }
        first
    }

    /// Whether the device is broken until its reset.
    #[must_use]
    pub fn needs_reset(&self) -> bool {
        self.needs_reset.load(Ordering::Acquire)
    }

    /// Counter of configuration changes.
    #[must_use]
    pub fn generation(&self) -> u8 {
        self.generation.load(Ordering::Acquire)
    }

    fn raise(&self, vector: u16, bit: u8) {
        if self.msix.enabled() {
            if vector != NO_VECTOR {
                self.msix.signal(vector);
            }
            return;
        }
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        line.isr |= bit;
        line.drive(self.msix.enabled());
    }

    /// Reads the ISR status register, which clears it and lets go of the line.
    pub fn read_isr(&self) -> u8 {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        let isr = std::mem::take(&mut line.isr);
        line.drive(self.msix.enabled());
        isr
    }

    /// Whether an INTx interrupt is pending inside the function (the status register's interrupt bit).
    #[must_use]
    pub fn intx_pending(&self) -> bool {
        self.line.lock().unwrap_or_else(PoisonError::into_inner).isr != 0
    }

    /// Follows the command register's INTx disable bit and the MSI-X enable bit.
    pub fn update_line(&self, intx_disabled: bool) {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        line.disabled = intx_disabled;
        line.drive(self.msix.enabled());
    }

    /// Vector of configuration changes.
    #[must_use]
    pub fn config_vector(&self) -> u16 {
        self.config_vector.load(Ordering::Acquire)
    }

    /// Vector of queue `index`; [`NO_VECTOR`] if there is no such queue.
    #[must_use]
    pub fn queue_vector(&self, index: u16) -> u16 {
        self.queue_vectors.get(usize::from(index)).map_or(NO_VECTOR, |vector| vector.load(Ordering::Acquire))
    }

    /// Sets the vector of configuration changes; a vector that does not exist becomes [`NO_VECTOR`].
    pub fn set_config_vector(&self, vector: u16) {
        self.config_vector.store(self.checked(vector), Ordering::Release);
    }

    /// Sets the vector of queue `index`, if there is such a queue; see [`Self::set_config_vector`].
    pub fn set_queue_vector(&self, index: u16, vector: u16) {
        if let Some(slot) = self.queue_vectors.get(usize::from(index)) {
            slot.store(self.checked(vector), Ordering::Release);
        }
    }

    fn checked(&self, vector: u16) -> u16 {
        if vector < self.msix.vectors() { vector } else { NO_VECTOR }
    }

    /// After a reset of the device: no vectors, nothing pending, not broken.
    pub fn reset(&self) {
        self.config_vector.store(NO_VECTOR, Ordering::Release);
        for vector in &self.queue_vectors {
            vector.store(NO_VECTOR, Ordering::Release);
        }
        self.needs_reset.store(false, Ordering::Release);
        let _ = self.read_isr();
    }
}

impl Line {
    fn drive(&self, msix_enabled: bool) {
        self.line.set_level(self.isr != 0 && !self.disabled && !msix_enabled);
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::spec::pci::msix::control;
    use crate::vmm::Unsupported;
    use crate::vmm::interrupt::{Connection, LineController, MsiMessage};
    use crate::vmm::pci::vector::testing::{Call, RecordingSink};

    #[derive(Default)]
    struct Levels(Mutex<Vec<bool>>);

    impl LineController for Levels {
        fn set_level(&self, _: u32, high: bool) -> io::Result<()> {
            self.0.lock().unwrap().push(high);
            Ok(())
        }
        fn connect(
            &self,
            _: u32,
            _: &vmm_sys_util::eventfd::EventFd,
            _: &vmm_sys_util::eventfd::EventFd,
        ) -> Result<Connection, Unsupported> {
            Err(Unsupported)
        }
    }

    fn interrupt() -> (Arc<VirtioInterrupt>, Arc<Levels>, Arc<MsixTable>, RecordingSink) {
        let sink = RecordingSink::default();
        let msix = MsixTable::new(3, Arc::new(sink.clone()));
        let levels = Arc::new(Levels::default());
        let line = InterruptLine::new(16, Arc::clone(&levels) as Arc<dyn LineController>);
        (VirtioInterrupt::new(Arc::clone(&msix), line, 2), levels, msix, sink)
    }

    #[test]
    fn the_line_follows_the_isr_bits() {
        let (interrupt, levels, ..) = interrupt();
        interrupt.queue_used(0);
        interrupt.config_changed();
        assert_eq!(interrupt.read_isr(), 3);
        assert_eq!(interrupt.read_isr(), 0);
        assert_eq!(*levels.0.lock().unwrap(), [true, false]);
    }

    #[test]
    fn a_disabled_line_stays_low_and_comes_back() {
        let (interrupt, levels, ..) = interrupt();
        interrupt.update_line(true);
        interrupt.queue_used(0);
        assert!(levels.0.lock().unwrap().is_empty());
        interrupt.update_line(false);
        assert_eq!(*levels.0.lock().unwrap(), [true]);
    }

    #[test]
    fn vectors_replace_the_line_and_bad_ones_read_back_as_none() {
        let (interrupt, levels, msix, sink) = interrupt();
        msix.set_control(control::ENABLE);
        let _ = crate::vmm::bus::BusDevice::write(&*msix, 2 * 16 + 12, crate::vmm::bus::AccessSize::Dword, 0);
        interrupt.set_queue_vector(1, 2);
        interrupt.set_queue_vector(0, 3);
        interrupt.set_queue_vector(9, 0);
        assert_eq!([0, 1, 9].map(|i| interrupt.queue_vector(i)), [NO_VECTOR, 2, NO_VECTOR]);
        interrupt.queue_used(1);
        interrupt.queue_used(0);
        assert_eq!(sink.take(), [Call::Signal(MsiMessage::default())]);
        assert!(levels.0.lock().unwrap().is_empty());
    }

    #[test]
    fn failure_is_announced_once_until_reset() {
        let (interrupt, ..) = interrupt();
        assert!(interrupt.fail());
        assert!(!interrupt.fail());
        assert_eq!(interrupt.read_isr(), isr::CONFIG);
        interrupt.reset();
        assert!(!interrupt.needs_reset());
    }
}
