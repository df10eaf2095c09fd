//! MSI: up to 32 vectors described in the capability itself (PCI 3.0, 6.8.1).
//!
//! The registers live in the function's [`ConfigSpace`]; after each write that touched the capability the function calls
//! [`Msi::update`], before each read of it [`Msi::refresh_pending`].

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use vmm_sys_util::eventfd::EventFd;

use crate::spec::pci::msi::{CONTROL, Layout, MAX_VECTORS, control};
use crate::spec::pci::{CapabilityId, msi};
use crate::vmm::Unsupported;
use crate::vmm::bus::AccessSize;
use crate::vmm::interrupt::{MsiMessage, MsiSink};
use crate::vmm::pci::capability::Capability;
use crate::vmm::pci::config_space::ConfigSpace;
use crate::vmm::pci::vector::{Vector, VectorUser};

struct State {
    /// Vectors that the guest enabled; 0 while MSI is off.
    enabled: usize,
    vectors: Vec<Vector>,
}

/// A function's MSI vectors.
pub struct Msi {
    sink: Arc<dyn MsiSink>,
    /// Read-only bits of the control register.
    control: u16,
    layout: Layout,
    /// Taken after the function's own lock and before interrupt routing.
    state: Mutex<State>,
    user: OnceLock<Box<dyn VectorUser>>,
}

impl fmt::Debug for Msi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Msi").field("control", &format_args!("{:#x}", self.control)).finish_non_exhaustive()
    }
}

impl Msi {
    /// Vectors as the read-only bits of `control` announce them: how many, address width, per-vector masking. Other bits
    /// are left aside.
    #[must_use]
    pub fn new(control: u16, sink: Arc<dyn MsiSink>) -> Self {
        let capable = control & (control::VECTORS_MASK << control::CAPABLE_SHIFT);
        let control = capable | (control & (control::ADDRESS_64 | control::PER_VECTOR_MASKING));
        let state = Mutex::new(State { enabled: 0, vectors: Vec::new() });
        Self { sink, control, layout: Layout::new(control), state, user: OnceLock::new() }
    }

    /// Sets the kernel producer that is to be connected when the guest enables MSI. The first one stays.
    pub fn set_user(&self, user: Box<dyn VectorUser>) {
        if self.user.set(user).is_err() {
            tracing::error!("an MSI capability was given a second vector user");
        }
    }

    /// Vectors that the function announces: a power of two up to 32.
    #[must_use]
    pub fn vectors(&self) -> usize {
        let log2 = (self.control >> control::CAPABLE_SHIFT) & control::VECTORS_MASK;
        (1 << log2).min(usize::from(MAX_VECTORS))
    }

    /// The capability, in its state after reset.
    #[must_use]
    pub fn capability(&self) -> Capability {
        let length = usize::from(self.layout.length);
        let mut registers = vec![0; length];
        let mut writable = vec![0; length];
        let put = |registers: &mut Vec<u8>, offset: u16, bytes: &[u8]| {
            for (register, byte) in registers.iter_mut().skip(usize::from(offset)).zip(bytes) {
                *register = *byte;
            }
        };
        put(&mut registers, CONTROL, &self.control.to_le_bytes());
        let enabled = control::VECTORS_MASK << control::ENABLED_SHIFT;
        put(&mut writable, CONTROL, &(control::ENABLE | enabled).to_le_bytes());
        put(&mut writable, msi::ADDRESS, &(!0b11_u32).to_le_bytes());
        put(&mut writable, self.layout.data, &[0xFF; 2]);
        if let Some(upper) = self.layout.upper_address {
            put(&mut writable, upper, &[0xFF; 4]);
        }
        if let Some(mask) = self.layout.mask {
            put(&mut writable, mask, &self.vector_bits().to_le_bytes());
        }
        Capability { id: CapabilityId::MSI, body: registers.split_off(2), writable: writable.split_off(2) }
    }

    /// Length of the capability in bytes.
    #[must_use]
    pub fn length(&self) -> u16 {
        self.layout.length
    }

    /// Takes over the registers of the capability at `offset` in `config` after the guest wrote to it.
    pub fn update(&self, config: &ConfigSpace, offset: u16) {
        let word = |at: u16| config.read(offset + at, AccessSize::Word) & 0xFFFF;
        let dword = |at: u16| config.read(offset + at, AccessSize::Dword);
        let register = word(CONTROL);
        let allotted = 1usize << ((register >> control::ENABLED_SHIFT) & u32::from(control::VECTORS_MASK));
        let on = register & u32::from(control::ENABLE) != 0;
        let enabled = if on { allotted.min(self.vectors()) } else { 0 };
        let address =
            (u64::from(self.layout.upper_address.map_or(0, dword)) << 32) | u64::from(dword(msi::ADDRESS));
        let data = word(self.layout.data);
        let masks = self.layout.mask.map_or(0, dword);

        let mut state = self.lock();
        let changed = state.enabled != enabled;
        if changed {
            self.let_go(&mut state);
            state.enabled = enabled;
            state.vectors.resize_with(enabled, Vector::default);
        }
        // PCI 3.0, 6.8.1.6: the function changes the low bits of the data to tell its vectors apart
        let low = u32::try_from(enabled.saturating_sub(1)).unwrap_or(0);
        let message = |index: u32| MsiMessage { address, data: (data & !low) | index };
        for (vector, index) in state.vectors.iter_mut().zip(0u32..) {
            if changed && self.user.get().is_some() && vector.make_route(&*self.sink).is_err() {
                tracing::warn!(vector = index, "no interrupt route is left for an MSI vector");
            }
            // The kernel is told of all messages at once.
            if enabled > 1 {
                vector.stage(message(index));
            }
        }
        for (vector, index) in state.vectors.iter_mut().zip(0u32..) {
            vector.update(message(index), masks & (1 << index) == 0, &*self.sink);
        }
        if changed
            && enabled > 0
            && let Some(user) = self.user.get()
        {
            let numbered = state.vectors.iter().zip(0u16..);
            let events: Vec<(u16, &EventFd)> =
                numbered.filter_map(|(vector, index)| Some((index, vector.event()?))).collect();
            user.connect(&events);
        }
    }

    /// Stores the pending bits in the capability at `offset` of `config`, where it has such a register.
    pub fn refresh_pending(&self, config: &mut ConfigSpace, offset: u16) {
        if let Some(register) = self.layout.pending {
            config.set(offset + register, &self.pending().to_le_bytes());
        }
    }

    /// The pending bits.
    #[must_use]
    pub fn pending(&self) -> u32 {
        let state = self.lock();
        state
            .vectors
            .iter()
            .zip(0u32..)
            .fold(0, |bits, (vector, i)| bits | (u32::from(vector.pending()) << i))
    }

    /// Whether the guest enabled MSI: the function must not use INTx then.
    #[must_use]
    pub fn enabled(&self) -> bool {
        self.lock().enabled > 0
    }

    /// Raises `vector` once. Nothing happens while MSI is disabled. A vector beyond those that the guest allotted is
    /// raised as the last of them.
    pub fn signal(&self, vector: u16) {
        let mut state = self.lock();
        let last = state.enabled.saturating_sub(1);
        if let Some(vector) = state.vectors.get_mut(usize::from(vector).min(last)) {
            vector.signal(&*self.sink);
        }
    }

    /// An eventfd each write to which raises `vector`, for a kernel producer. It works until the guest disables MSI or
    /// changes the number of its vectors.
    ///
    /// # Errors
    /// [`Unsupported`] if the vector is not enabled or the machine has no route left.
    pub fn event(&self, vector: u16) -> Result<EventFd, Unsupported> {
        let mut state = self.lock();
        let vector = state.vectors.get_mut(usize::from(vector)).ok_or(Unsupported)?;
        vector.make_route(&*self.sink)?;
        vector.event().and_then(|event| event.try_clone().ok()).ok_or(Unsupported)
    }

    /// Back to the state after power-on: disabled. The registers are the configuration space's to reset.
    pub fn reset(&self) {
        let mut state = self.lock();
        self.let_go(&mut state);
        state.enabled = 0;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn let_go(&self, state: &mut State) {
        if state.enabled > 0
            && let Some(user) = self.user.get()
        {
            user.disconnect();
        }
        state.vectors.clear();
    }

    /// A mask with one bit per vector.
    fn vector_bits(&self) -> u32 {
        u32::MAX >> (32 - u32::try_from(self.vectors()).unwrap_or(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vmm::pci::vector::testing::{Call, RecordingSink};

    const FOUR_MASKABLE: u16 = 2 << 1 | control::ADDRESS_64 | control::PER_VECTOR_MASKING;

    struct Function {
        msi: Msi,
        config: ConfigSpace,
        offset: u16,
        sink: RecordingSink,
    }

    impl Function {
        fn new(control: u16) -> Self {
            let sink = RecordingSink::default();
            let msi = Msi::new(control, Arc::new(sink.clone()));
            let mut config = ConfigSpace::from_image(&[]);
            let offset = config.add_capability(&msi.capability()).unwrap();
            Self { msi, config, offset, sink }
        }

        fn write(&mut self, register: u16, size: AccessSize, value: u32) {
            let _ = self.config.write(self.offset + register, size, value);
            self.msi.update(&self.config, self.offset);
        }
    }

    #[test]
    fn vectors_differ_in_the_low_bits_of_the_data() {
        let mut function = Function::new(FOUR_MASKABLE);
        function.write(msi::ADDRESS, AccessSize::Dword, 0xFEE0_0000);
        function.write(0x0C, AccessSize::Word, 0x4043);
        function.write(CONTROL, AccessSize::Word, 0x21);
        function.msi.signal(0);
        function.msi.signal(2);
        function.msi.signal(9);
        let address = 0xFEE0_0000;
        let expected = [0x4040, 0x4042, 0x4043].map(|data| Call::Signal(MsiMessage { address, data }));
        assert_eq!(function.sink.take(), expected);
    }

    #[test]
    fn a_masked_vector_pends_until_it_is_unmasked() {
        let mut function = Function::new(FOUR_MASKABLE);
        function.write(CONTROL, AccessSize::Word, 0x21);
        function.write(0x10, AccessSize::Dword, u32::MAX);
        function.msi.signal(1);
        function.msi.refresh_pending(&mut function.config, function.offset);
        assert_eq!(function.config.read(function.offset + 0x14, AccessSize::Dword), 0b10);
        assert_eq!(function.config.read(function.offset + 0x10, AccessSize::Dword), 0b1111);
        function.write(0x10, AccessSize::Dword, 0);
        assert_eq!(function.sink.take(), [Call::Signal(MsiMessage { address: 0, data: 1 })]);
        assert_eq!(function.msi.pending(), 0);
    }

    #[test]
    fn more_vectors_than_announced_are_cut_and_disabling_lets_go() {
        let mut function = Function::new(0);
        function.write(CONTROL, AccessSize::Word, 0x71);
        assert!(function.msi.enabled());
        assert!(function.msi.event(0).is_ok());
        assert!(function.msi.event(1).is_err());
        function.write(CONTROL, AccessSize::Word, 0);
        function.msi.signal(0);
        let zero = MsiMessage::default();
        assert_eq!(function.sink.take(), [Call::Unmask(0, zero), Call::Drop(0)]);
    }

    #[test]
    fn every_control_value_is_survived() {
        for shape in [0, 0xE, FOUR_MASKABLE, u16::MAX] {
            let mut function = Function::new(shape);
            for value in 0..=u16::MAX {
                function.write(CONTROL, AccessSize::Word, u32::from(value));
            }
            function.msi.signal(u16::MAX);
        }
    }
}
