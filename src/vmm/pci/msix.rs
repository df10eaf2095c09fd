//! MSI-X: the vector table and the pending bit array of a function (PCI 3.0, 6.8.2).
//!
//! [`MsixTable`] is the table as a [`BusDevice`]; [`MsixTable::pba`] is the pending bit array. Both answer every offset in
//! every size. The enable and function mask bits live in the capability, in the function's configuration space: the
//! function hands the control register over with [`MsixTable::set_control`] after each write to it.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use vmm_sys_util::eventfd::EventFd;

use crate::spec::pci::{CapabilityId, msix};
use crate::vmm::Unsupported;
use crate::vmm::bus::{AccessSize, BusDevice, Effects, IoError};
use crate::vmm::interrupt::{MsiMessage, MsiSink};
use crate::vmm::pci::capability::Capability;
use crate::vmm::pci::vector::{Vector, VectorUser};

/// Where the table and the pending bit array lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MsixPlace {
    /// BAR of the table, 0 to 5.
    pub table_bar: u8,
    /// First byte of the table in its BAR, a multiple of 8.
    pub table_offset: u32,
    /// BAR of the pending bit array, 0 to 5.
    pub pba_bar: u8,
    /// First byte of the pending bit array in its BAR, a multiple of 8.
    pub pba_offset: u32,
}

/// One entry: its registers as the guest wrote them, and the vector behind it.
struct Entry {
    registers: [u8; msix::entry::SIZE],
    vector: Vector,
    connected: bool,
}

impl Entry {
    fn new() -> Self {
        let mut registers = [0; msix::entry::SIZE];
        if let Some(control) = registers.get_mut(msix::entry::CONTROL) {
            *control = msix::entry::MASKED;
        }
        Self { registers, vector: Vector::default(), connected: false }
    }

    fn dword(&self, offset: usize) -> u32 {
        let bytes = self.registers.get(offset..).and_then(<[u8]>::first_chunk);
        u32::from_le_bytes(bytes.copied().unwrap_or_default())
    }

    fn message(&self) -> MsiMessage {
        let high = u64::from(self.dword(msix::entry::UPPER_ADDRESS)) << 32;
        MsiMessage {
            address: high | u64::from(self.dword(msix::entry::ADDRESS)),
            data: self.dword(msix::entry::DATA),
        }
    }

    fn masked(&self) -> bool {
        self.dword(msix::entry::CONTROL) & u32::from(msix::entry::MASKED) != 0
    }

    /// Which bits of register byte `offset` the guest can write; reserved bits of the vector control read as zero.
    fn writable(offset: usize) -> u8 {
        match offset {
            msix::entry::CONTROL => msix::entry::MASKED,
            offset if offset > msix::entry::CONTROL => 0,
            _ => 0xFF,
        }
    }
}

struct State {
    enabled: bool,
    function_masked: bool,
    entries: Vec<Entry>,
}

/// A function's MSI-X vectors.
pub struct MsixTable {
    sink: Arc<dyn MsiSink>,
    vectors: u16,
    /// Taken after the function's own lock and before interrupt routing.
    state: Mutex<State>,
    user: OnceLock<Box<dyn VectorUser>>,
}

impl fmt::Debug for MsixTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MsixTable").field("vectors", &self.vectors).finish_non_exhaustive()
    }
}

impl MsixTable {
    /// A table of `vectors` vectors (1 to [`msix::MAX_VECTORS`]; other numbers are cut to that range), all masked.
    #[must_use]
    pub fn new(vectors: u16, sink: Arc<dyn MsiSink>) -> Arc<Self> {
        let vectors = vectors.clamp(1, msix::MAX_VECTORS);
        let entries = (0..vectors).map(|_| Entry::new()).collect();
        let state = Mutex::new(State { enabled: false, function_masked: false, entries });
        Arc::new(Self { sink, vectors, state, user: OnceLock::new() })
    }

    /// Sets the kernel producer that is to be connected to vectors as the guest unmasks them. The first one stays.
    pub fn set_user(&self, user: Box<dyn VectorUser>) {
        if self.user.set(user).is_err() {
            tracing::error!("an MSI-X table was given a second vector user");
        }
    }

    /// Number of vectors.
    #[must_use]
    pub fn vectors(&self) -> u16 {
        self.vectors
    }

    /// The pending bit array as a device, [`msix::pba_size`] bytes long.
    #[must_use]
    pub fn pba(self: &Arc<Self>) -> Arc<PendingBits> {
        Arc::new(PendingBits(Arc::clone(self)))
    }

    /// The capability that announces this table at `place`.
    #[must_use]
    pub fn capability(&self, place: MsixPlace) -> Capability {
        let mut body = (self.vectors - 1).to_le_bytes().to_vec();
        let pointer = |offset: u32, bar: u8| (offset & !msix::BAR_MASK) | (u32::from(bar) & msix::BAR_MASK);
        body.extend(pointer(place.table_offset, place.table_bar).to_le_bytes());
        body.extend(pointer(place.pba_offset, place.pba_bar).to_le_bytes());
        let writable = (msix::control::ENABLE | msix::control::FUNCTION_MASK).to_le_bytes().to_vec();
        Capability { id: CapabilityId::MSI_X, body, writable }
    }

    /// Takes over the capability's control register after the guest wrote it.
    pub fn set_control(&self, control: u16) {
        let mut state = self.lock();
        let enabled = control & msix::control::ENABLE != 0;
        let was_enabled = std::mem::replace(&mut state.enabled, enabled);
        state.function_masked = control & msix::control::FUNCTION_MASK != 0;
        if was_enabled && !enabled {
            self.let_go(&mut state);
        }
        self.refresh(&mut state, 0..usize::from(self.vectors));
    }

    /// Whether the guest enabled MSI-X: the function must not use INTx then.
    #[must_use]
    pub fn enabled(&self) -> bool {
        self.lock().enabled
    }

    /// Raises `vector` once. Nothing happens while MSI-X is disabled or if there is no such vector.
    pub fn signal(&self, vector: u16) {
        let mut state = self.lock();
        if state.enabled
            && let Some(entry) = state.entries.get_mut(usize::from(vector))
        {
            entry.vector.signal(&*self.sink);
        }
    }

    /// An eventfd each write to which raises `vector`, for a kernel producer. It works until MSI-X is disabled.
    ///
    /// # Errors
    /// [`Unsupported`] if there is no such vector, MSI-X is disabled, or the machine has no route left.
    pub fn event(&self, vector: u16) -> Result<EventFd, Unsupported> {
        let mut state = self.lock();
        if !state.enabled {
            return Err(Unsupported);
        }
        let entry = state.entries.get_mut(usize::from(vector)).ok_or(Unsupported)?;
        entry.vector.make_route(&*self.sink)?;
        entry.vector.event().and_then(|event| event.try_clone().ok()).ok_or(Unsupported)
    }

    /// Back to the state after power-on: disabled, all vectors masked.
    pub fn reset(&self) {
        let mut state = self.lock();
        if state.enabled {
            self.let_go(&mut state);
        }
        state.enabled = false;
        state.function_masked = false;
        state.entries.fill_with(Entry::new);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bytes of the table that an access touches.
    fn table_bytes(&self, offset: u64, size: AccessSize) -> Result<Range<usize>, IoError> {
        let start = usize::try_from(offset).map_err(|_| IoError::InvalidRegister)?;
        let end = start.checked_add(size.bytes()).ok_or(IoError::InvalidRegister)?;
        let length = usize::from(self.vectors) * msix::entry::SIZE;
        if end <= length { Ok(start..end) } else { Err(IoError::InvalidRegister) }
    }

    /// Disconnects the user, forgets what is pending and gives the routes back.
    fn let_go(&self, state: &mut State) {
        if let Some(user) = self.user.get() {
            user.disconnect();
        }
        for entry in &mut state.entries {
            entry.vector = Vector::default();
            entry.connected = false;
        }
    }

    /// Brings the vectors in `range` in line with their registers, and connects the user to those that opened.
    fn refresh(&self, state: &mut State, range: Range<usize>) {
        let State { enabled, function_masked, entries } = state;
        let able = *enabled && !*function_masked;
        let first = range.start;
        let mut opened = Vec::new();
        let entries_in_range = entries.get_mut(range).unwrap_or_default();
        for (index, entry) in entries_in_range.iter_mut().enumerate() {
            let open = able && !entry.masked();
            if open && !entry.connected && self.user.get().is_some() {
                if entry.vector.make_route(&*self.sink).is_err() {
                    tracing::warn!(vector = first + index, "no interrupt route is left for an MSI-X vector");
                }
                entry.connected = true;
                opened.push(first + index);
            }
        }
        if let [_, _, ..] = entries_in_range {
            // The whole function was unmasked: the kernel is told of all messages at once.
            for entry in entries_in_range.iter().filter(|entry| able && !entry.masked()) {
                entry.vector.stage(entry.message());
            }
        }
        for entry in entries_in_range {
            let open = able && !entry.masked();
            entry.vector.update(entry.message(), open, &*self.sink);
        }
        if opened.is_empty() {
            return;
        }
        let event = |index: usize| {
            let event = entries.get(index)?.vector.event()?;
            Some((u16::try_from(index).ok()?, event))
        };
        let events: Vec<(u16, &EventFd)> = opened.into_iter().filter_map(event).collect();
        if let Some(user) = self.user.get() {
            user.connect(&events);
        }
    }
}

impl BusDevice for MsixTable {
    fn read(&self, offset: u64, size: AccessSize) -> Result<u64, IoError> {
        let state = self.lock();
        let mut value = [0; 8];
        for (byte, at) in value.iter_mut().zip(self.table_bytes(offset, size)?) {
            let (index, register) = place(at);
            let entry = state.entries.get(index).ok_or(IoError::InvalidRegister)?;
            *byte = entry.registers.get(register).copied().unwrap_or(0);
        }
        Ok(u64::from_le_bytes(value))
    }

    fn write(&self, offset: u64, size: AccessSize, value: u64) -> Result<Effects, IoError> {
        let mut state = self.lock();
        let bytes = self.table_bytes(offset, size)?;
        for (byte, at) in value.to_le_bytes().into_iter().zip(bytes.clone()) {
            let (index, register) = place(at);
            let entry = state.entries.get_mut(index).ok_or(IoError::InvalidRegister)?;
            let writable = Entry::writable(register);
            if let Some(stored) = entry.registers.get_mut(register) {
                *stored = (*stored & !writable) | (byte & writable);
            }
        }
        self.refresh(&mut state, place(bytes.start).0..bytes.end.div_ceil(msix::entry::SIZE));
        Ok(Effects::empty())
    }
}

/// Entry and register byte of table byte `offset`.
fn place(offset: usize) -> (usize, usize) {
    (offset / msix::entry::SIZE, offset % msix::entry::SIZE)
}

/// The pending bit array of an [`MsixTable`]; read-only (PCI 3.0, 6.8.2.10).
#[derive(Debug)]
pub struct PendingBits(Arc<MsixTable>);

impl BusDevice for PendingBits {
    fn read(&self, offset: u64, size: AccessSize) -> Result<u64, IoError> {
        let state = self.0.lock();
        let mut value = 0;
        let first = offset.checked_mul(8).ok_or(IoError::InvalidRegister)?;
        for bit in 0..8 * size.bytes() as u64 {
            let index = first.checked_add(bit).and_then(|index| usize::try_from(index).ok());
            let entry = index.and_then(|index| state.entries.get(index));
            value |= u64::from(state.enabled && entry.is_some_and(|entry| entry.vector.pending())) << bit;
        }
        Ok(value)
    }

    fn write(&self, _: u64, _: AccessSize, _: u64) -> Result<Effects, IoError> {
        Err(IoError::InvalidRegister)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vmm::pci::vector::testing::{Call, RecordingSink};

    const ENABLE: u16 = msix::control::ENABLE;

    fn table(vectors: u16) -> (Arc<MsixTable>, RecordingSink) {
        let sink = RecordingSink::default();
        (MsixTable::new(vectors, Arc::new(sink.clone())), sink)
    }

    fn program(table: &MsixTable, vector: u64, data: u32) -> MsiMessage {
        let base = vector * 16;
        for (offset, value) in [(0, 0xFEE0_1000), (4, 1), (8, u64::from(data))] {
            let _ = table.write(base + offset, AccessSize::Dword, value).unwrap();
        }
        MsiMessage { address: 0x1_FEE0_1000, data }
    }

    fn mask(table: &MsixTable, vector: u64, masked: bool) {
        let _ = table.write(vector * 16 + 12, AccessSize::Dword, u64::from(masked)).unwrap();
    }

    #[test]
    fn a_masked_vector_pends_and_is_replayed_once() {
        let (table, sink) = table(3);
        let pba = table.pba();
        table.set_control(ENABLE);
        let message = program(&table, 1, 0x41);
        table.signal(1);
        table.signal(1);
        assert_eq!(sink.take(), []);
        assert_eq!(pba.read(0, AccessSize::Qword), Ok(0b10));
        mask(&table, 1, false);
        assert_eq!(sink.take(), [Call::Signal(message)]);
        assert_eq!(pba.read(0, AccessSize::Byte), Ok(0));
        table.signal(1);
        assert_eq!(sink.take(), [Call::Signal(message)]);
    }

    #[test]
    fn the_function_mask_holds_all_vectors_back() {
        let (table, sink) = table(2);
        table.set_control(ENABLE | msix::control::FUNCTION_MASK);
        let message = program(&table, 0, 7);
        mask(&table, 0, false);
        table.signal(0);
        assert_eq!(sink.take(), []);
        table.set_control(ENABLE);
        assert_eq!(sink.take(), [Call::Signal(message)]);
    }

    #[test]
    fn nothing_is_sent_or_kept_while_disabled() {
        let (table, sink) = table(1);
        mask(&table, 0, false);
        table.signal(0);
        table.set_control(ENABLE);
        table.signal(5);
        assert_eq!(sink.take(), []);
        assert_eq!(table.event(1).err(), Some(Unsupported));
    }

    #[test]
    fn a_route_follows_mask_message_and_disable() {
        let (table, sink) = table(2);
        table.set_control(ENABLE);
        let message = program(&table, 1, 1);
        let event = table.event(1).unwrap();
        mask(&table, 1, false);
        let moved = program(&table, 1, 2);
        mask(&table, 1, true);
        event.write(1).unwrap();
        assert_eq!(table.pba().read(0, AccessSize::Dword), Ok(0b10));
        table.set_control(0);
        assert_eq!(
            sink.take(),
            [Call::Unmask(0, message), Call::Unmask(0, moved), Call::Mask(0), Call::Drop(0)]
        );
    }

    #[derive(Clone, Default)]
    struct User(Arc<Mutex<Vec<Option<Vec<u16>>>>>);

    impl VectorUser for User {
        fn connect(&self, vectors: &[(u16, &EventFd)]) {
            self.0.lock().unwrap().push(Some(vectors.iter().map(|(vector, _)| *vector).collect()));
        }
        fn disconnect(&self) {
            self.0.lock().unwrap().push(None);
        }
    }

    #[test]
    fn a_user_is_connected_once_per_vector_and_in_batches() {
        let (table, _) = table(4);
        let user = User::default();
        table.set_user(Box::new(user.clone()));
        mask(&table, 0, false);
        mask(&table, 2, false);
        table.set_control(ENABLE);
        mask(&table, 3, false);
        mask(&table, 3, true);
        mask(&table, 3, false);
        table.set_control(0);
        table.set_control(ENABLE);
        table.reset();
        let batches = user.0.lock().unwrap().clone();
        assert_eq!(batches, [Some(vec![0, 2]), Some(vec![3]), None, Some(vec![0, 2, 3]), None]);
    }

    #[test]
    fn messages_of_vectors_that_open_together_are_staged_before_the_first_opens() {
        let (table, sink) = table(3);
        table.set_user(Box::new(User::default()));
        table.set_control(ENABLE | msix::control::FUNCTION_MASK);
        let messages = [0, 2].map(|vector| {
            mask(&table, vector, false);
            program(&table, vector, 0x40)
        });
        sink.take();
        table.set_control(ENABLE);
        let [first, second] = messages;
        assert_eq!(
            sink.take(),
            [Call::Stage(0, first), Call::Stage(1, second), Call::Unmask(0, first), Call::Unmask(1, second)]
        );
        mask(&table, 2, true);
        mask(&table, 2, false);
        assert_eq!(sink.take(), [Call::Mask(1), Call::Unmask(1, second)], "one alone needs no stage");
    }

    #[test]
    fn every_offset_and_size_is_answered() {
        let (table, _) = table(2048);
        let sizes = [AccessSize::Byte, AccessSize::Word, AccessSize::Dword, AccessSize::Qword];
        table.set_control(ENABLE);
        let offsets = (0..64).chain(2047 * 16 - 9..2048 * 16 + 20).chain([1 << 40, u64::MAX - 7, u64::MAX]);
        for offset in offsets {
            for size in sizes {
                for value in [0, 1, 0x8000_0000, u64::MAX] {
                    let _ = table.write(offset, size, value & size.ones());
                    let _ = table.read(offset, size);
                    let _ = table.pba().read(offset, size);
                    assert!(table.pba().write(offset, size, value).is_err());
                }
            }
        }
        let _ = table.write(12, AccessSize::Dword, 0xFFFF_FFFF).unwrap();
        assert_eq!(table.read(12, AccessSize::Dword), Ok(1));
        assert!(table.read(2048 * 16, AccessSize::Byte).is_err());
    }
}
