//! The structures in the BAR as bus devices: which register an offset and a width mean. The rules behind them are
//! [`Transport`]'s.
//!
//! Registers take accesses of their own width only (VIRTIO 1.3, 4.1.3.1); 64-bit ones also as two halves.

use std::sync::Arc;

use crate::spec::virtio::pci::{NO_VECTOR, common};
use crate::vmm::bus::{AccessSize, BusDevice, Effects, IoError};
use crate::vmm::virtio::pci::layout;
use crate::vmm::virtio::pci::transport::{QueueRegisters, Transport};

/// The common configuration structure.
pub(super) struct CommonConfig(pub(super) Arc<Transport>);

/// A ring address in the queue's registers.
fn address(queue: &mut QueueRegisters, offset: u64) -> Option<(&mut u64, u64)> {
    let field = match offset & !7 {
        common::QUEUE_DESC => &mut queue.descriptors,
        common::QUEUE_DRIVER => &mut queue.available,
        common::QUEUE_DEVICE => &mut queue.used,
        _ => return None,
    };
    Some((field, offset & 7))
}

impl BusDevice for CommonConfig {
    fn read(&self, offset: u64, size: AccessSize) -> Result<u64, IoError> {
        use AccessSize::{Byte, Dword, Qword, Word};
        let mut state = self.0.lock();
        let index = state.queue_select;
        let value = match (offset, size) {
            (common::DEVICE_FEATURE_SELECT, Dword) => u64::from(state.device_feature_select),
            (common::DEVICE_FEATURE, Dword) => half(self.0.offered(), state.device_feature_select),
            (common::DRIVER_FEATURE_SELECT, Dword) => u64::from(state.driver_feature_select),
            (common::DRIVER_FEATURE, Dword) => half(state.driver_features, state.driver_feature_select),
            (common::CONFIG_MSIX_VECTOR, Word) => u64::from(self.0.interrupt().config_vector()),
            (common::NUM_QUEUES, Word) => state.queues.len() as u64,
            (common::DEVICE_STATUS, Byte) => u64::from(self.0.status(&mut state).bits()),
            (common::CONFIG_GENERATION, Byte) => u64::from(self.0.interrupt().generation()),
            (common::QUEUE_SELECT, Word) => u64::from(index),
            (common::QUEUE_MSIX_VECTOR, Word) => {
                let exists = usize::from(index) < state.queues.len();
                u64::from(if exists { self.0.interrupt().queue_vector(index) } else { NO_VECTOR })
            }
            (_, Qword | Dword | Word) => {
                // A queue that does not exist has size 0 and reads as zeros (4.1.4.3.1)
                let mut absent = QueueRegisters::default();
                let exists = usize::from(index) < state.queues.len();
                let queue = state.queues.get_mut(usize::from(index)).unwrap_or(&mut absent);
                match (offset, size) {
                    (common::QUEUE_SIZE, Word) => u64::from(queue.size),
                    (common::QUEUE_ENABLE, Word) => u64::from(queue.enabled),
                    (common::QUEUE_NOTIFY_OFF, Word) => {
                        if exists {
                            u64::from(index)
                        } else {
                            0
                        }
                    }
                    (common::QUEUE_DESC..common::LENGTH, _) => {
                        match (address(queue, offset).ok_or(IoError::InvalidRegister)?, size) {
                            ((field, 0), Qword) => *field,
                            ((field, 0), Dword) => *field & u64::from(u32::MAX),
                            ((field, 4), Dword) => *field >> 32,
                            _ => return Err(IoError::InvalidAccessSize),
                        }
                    }
                    _ => return Err(IoError::InvalidAccessSize),
                }
            }
            _ => return Err(IoError::InvalidAccessSize),
        };
        Ok(value)
    }

    fn write(&self, offset: u64, size: AccessSize, value: u64) -> Result<Effects, IoError> {
        use AccessSize::{Byte, Dword, Qword, Word};
        let mut state = self.0.lock();
        if !self.0.settle(&mut state) {
            return Ok(Effects::empty());
        }
        let [a, b, c, d, ..] = value.to_le_bytes();
        let (byte, word, dword) = (a, u16::from_le_bytes([a, b]), u32::from_le_bytes([a, b, c, d]));
        match (offset, size) {
            (common::DEVICE_FEATURE_SELECT, Dword) => state.device_feature_select = dword,
            (common::DRIVER_FEATURE_SELECT, Dword) => state.driver_feature_select = dword,
            (common::DRIVER_FEATURE, Dword) => state.accept_features(dword),
            (common::CONFIG_MSIX_VECTOR, Word) => self.0.interrupt().set_config_vector(word),
            (common::DEVICE_STATUS, Byte) => self.0.write_status(&mut state, byte),
            (common::QUEUE_SELECT, Word) => state.queue_select = word,
            (common::QUEUE_MSIX_VECTOR, Word) => {
                self.0.interrupt().set_queue_vector(state.queue_select, word);
            }
            (common::QUEUE_ENABLE, Word) if word == 1 => state.enable_queue(),
            (common::QUEUE_SIZE, Word) => {
                if let Some(queue) = state.open_queue() {
                    queue.resize(word);
                }
            }
            (common::QUEUE_DESC..common::LENGTH, Dword | Qword) => {
                let Some(queue) = state.open_queue() else { return Ok(Effects::empty()) };
                match (address(queue, offset).ok_or(IoError::InvalidRegister)?, size) {
                    ((field, 0), Qword) => *field = value,
                    ((field, 0), Dword) => *field = (*field & !u64::from(u32::MAX)) | u64::from(dword),
                    ((field, 4), Dword) => {
                        *field = (*field & u64::from(u32::MAX)) | (u64::from(dword) << 32);
                    }
                    _ => return Err(IoError::InvalidAccessSize),
                }
            }
            _ => return Err(IoError::InvalidRegister),
        }
        Ok(Effects::empty())
    }
}

/// Feature bits 0 to 31 or 32 to 63; there are no others.
fn half(features: u64, select: u32) -> u64 {
    match select {
        0 => features & u64::from(u32::MAX),
        1 => features >> 32,
        _ => 0,
    }
}

/// The ISR status register, read to clear.
pub(super) struct IsrStatus(pub(super) Arc<Transport>);

impl BusDevice for IsrStatus {
    fn read(&self, offset: u64, _: AccessSize) -> Result<u64, IoError> {
        if offset == 0 { Ok(u64::from(self.0.interrupt().read_isr())) } else { Ok(0) }
    }

    fn write(&self, _: u64, _: AccessSize, _: u64) -> Result<Effects, IoError> {
        Err(IoError::InvalidRegister)
    }
}

/// The device-specific configuration.
pub(super) struct DeviceConfig(pub(super) Arc<Transport>);

impl BusDevice for DeviceConfig {
    fn read(&self, offset: u64, size: AccessSize) -> Result<u64, IoError> {
        let offset = usize::try_from(offset).map_err(|_| IoError::InvalidRegister)?;
        let mut value = [0; 8];
        let data = value.get_mut(..size.bytes()).unwrap_or_default();
        self.0.device().read_config(offset, data);
        Ok(u64::from_le_bytes(value))
    }

    fn write(&self, offset: u64, size: AccessSize, value: u64) -> Result<Effects, IoError> {
        let offset = usize::try_from(offset).map_err(|_| IoError::InvalidRegister)?;
        let value = value.to_le_bytes();
        self.0.device().write_config(offset, value.get(..size.bytes()).unwrap_or_default());
        Ok(Effects::empty())
    }
}

/// The doorbells, one for each queue. With KVM an ioeventfd takes the writes before they get here.
pub(super) struct Doorbells(pub(super) Arc<Transport>);

impl BusDevice for Doorbells {
    fn read(&self, _: u64, _: AccessSize) -> Result<u64, IoError> {
        Err(IoError::InvalidRegister)
    }

    fn write(&self, offset: u64, _: AccessSize, _: u64) -> Result<Effects, IoError> {
        let multiplier = u64::from(layout::NOTIFY_MULTIPLIER);
        if !offset.is_multiple_of(multiplier) {
            return Err(IoError::Unaligned);
        }
        let index = usize::try_from(offset / multiplier).map_err(|_| IoError::InvalidRegister)?;
        let kick = self.0.kicks().get(index).ok_or(IoError::InvalidRegister)?;
        // Full means that 2^64 kicks wait already: one more changes nothing.
        let _ = kick.write(1);
        Ok(Effects::empty())
    }
}
