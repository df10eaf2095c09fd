//! The virtio PCI transport, modern only (VIRTIO 1.3, 4.1): a function with one memory BAR.
//!
//! [`Transport`](transport::Transport) holds the registers and their rules; this file is the function around it: identity,
//! capabilities, BAR layout, and the window through which firmware reaches the BAR from configuration space.

mod regions;
mod transport;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::spec::pci::{CapabilityId, ClassCode, Command, ROM_BAR, Status, header, msix};
use crate::spec::virtio::{DeviceType, pci as spec};
use crate::vmm::Lifecycle;
use crate::vmm::bus::{AccessSize, BusDevice, Effects};
use crate::vmm::pci::capability::Capability;
use crate::vmm::pci::config_space::{ConfigSpace, ConfigSpaceError, Identity, touches};
use crate::vmm::pci::msix::{MsixPlace, MsixTable};
use crate::vmm::pci::{Backing, Bar, BarKind, FunctionContext, PciFunction, Segment, express};
use crate::vmm::virtio::VirtioDevice;
use crate::vmm::virtio::interrupt::VirtioInterrupt;
use crate::vmm::virtio::pci::regions::{CommonConfig, DeviceConfig, Doorbells, IsrStatus};
use crate::vmm::virtio::pci::transport::Transport;

/// Layout of the BAR, one page for each structure.
mod layout {
    pub(super) const COMMON: u32 = 0x0000;
    pub(super) const ISR: u32 = 0x1000;
    pub(super) const DEVICE: u32 = 0x2000;
    pub(super) const NOTIFY: u32 = 0x3000;
    pub(super) const MSIX_TABLE: u32 = 0x4000;
    pub(super) const MSIX_PBA: u32 = 0x5000;
    pub(super) const SIZE: u64 = 0x8000;
    pub(super) const PAGE: u32 = 0x1000;
    /// Distance of two doorbells.
    pub(super) const NOTIFY_MULTIPLIER: u32 = 4;
}

/// INTA#.
const PIN_A: u8 = 1;

/// Why a virtio device cannot become a PCI function.
#[derive(Debug, thiserror::Error)]
pub enum VirtioPciError {
    /// Its registers had no room: a defect of the layout here.
    #[error("cannot lay out its registers")]
    Layout(#[from] ConfigSpaceError),
    /// The host has no more eventfds for its queues.
    #[error("cannot make eventfds for its queues")]
    Doorbells(#[source] std::io::Error),
}

/// A virtio device on the PCI bus.
pub struct VirtioPci {
    transport: Arc<Transport>,
    interrupt: Arc<VirtioInterrupt>,
    msix: Arc<MsixTable>,
    segments: Vec<Segment>,
    rom: Option<Bar>,
    msix_capability: u16,
    access_capability: u16,
    /// Outermost lock of the function; the transport and the MSI-X table are called under it.
    config: Mutex<ConfigSpace>,
}

impl fmt::Debug for VirtioPci {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VirtioPci").field("label", &self.transport.label()).finish_non_exhaustive()
    }
}

impl VirtioPci {
    /// A function for `device`. Where the machine has no message routes at all, it has no MSI-X capability either.
    ///
    /// # Errors
    /// [`VirtioPciError`].
    pub fn new(device: Arc<dyn VirtioDevice>, context: FunctionContext) -> Result<Self, VirtioPciError> {
        let FunctionContext { memory, msi, intx, rom } = context;
        let rom = rom.of_file();
        let queues = u16::try_from(device.queue_max_sizes().len()).unwrap_or(u16::MAX);
        let routed = msi.route().is_ok();
        let msix = MsixTable::new(queues.saturating_add(1), msi);
        let interrupt = VirtioInterrupt::new(Arc::clone(&msix), intx, usize::from(queues));
        let mut config = ConfigSpace::endpoint(identity(device.device_type()));
        config.define(header::INTERRUPT_PIN, &[PIN_A]);
        config.add_bar(0, BarKind::Memory32 { prefetchable: false }, layout::SIZE)?;
        if let Some(rom) = &rom {
            config.add_rom(rom.size)?;
        }
        let mut msix_capability = 0;
        if routed {
            msix_capability = config.add_capability(&msix.capability(MsixPlace {
                table_bar: 0,
                table_offset: layout::MSIX_TABLE,
                pba_bar: 0,
                pba_offset: layout::MSIX_PBA,
            }))?;
        }
        config.add_capability(&express::endpoint())?;
        let doorbells = u32::from(queues) * layout::NOTIFY_MULTIPLIER;
        let common = u32::try_from(spec::common::LENGTH).unwrap_or(layout::PAGE);
        for (kind, offset, length) in [
            (spec::capability::COMMON, layout::COMMON, common),
            (spec::capability::ISR, layout::ISR, 1),
            (spec::capability::DEVICE, layout::DEVICE, layout::PAGE),
        ] {
            config.add_capability(&structure(kind, offset, length, &[]))?;
        }
        let multiplier = layout::NOTIFY_MULTIPLIER.to_le_bytes();
        config.add_capability(&structure(
            spec::capability::NOTIFY,
            layout::NOTIFY,
            doorbells,
            &multiplier,
        ))?;
        let mut access = structure(spec::capability::PCI_ACCESS, 0, 0, &[0; 4]);
        // bar, offset, length and data are the driver's; the two bytes of the list header are not in the body
        access.writable = vec![0, 0, 0xFF, 0, 0, 0];
        access.writable.resize(access.body.len(), 0xFF);
        let access_capability = config.add_capability(&access)?;

        let transport =
            Transport::new(device, memory, Arc::clone(&interrupt)).map_err(VirtioPciError::Doorbells)?;
        let segments = segments(&transport, &msix);
        let config = Mutex::new(config);
        Ok(Self { transport, interrupt, msix, segments, rom, msix_capability, access_capability, config })
    }

    fn lock(&self) -> MutexGuard<'_, ConfigSpace> {
        self.config.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the window of configuration space points: the device there, the offset in it and the width (4.1.4.9).
    fn window(&self, config: &ConfigSpace) -> Option<(&Arc<dyn BusDevice>, u64, AccessSize)> {
        let at = self.access_capability;
        let [bar, ..] = config.read(at + spec::capability::BAR, AccessSize::Byte).to_le_bytes();
        let offset = u64::from(config.read(at + spec::capability::OFFSET, AccessSize::Dword));
        let length = config.read(at + spec::capability::LENGTH, AccessSize::Dword);
        let size = AccessSize::from_bytes(usize::try_from(length).ok()?)?;
        if bar != 0 || size == AccessSize::Qword || !offset.is_multiple_of(u64::from(length)) {
            return None;
        }
        self.segments.iter().find_map(|segment| match &segment.backing {
            Backing::Trap(device) if (segment.offset..segment.offset + segment.size).contains(&offset) => {
                Some((device, offset - segment.offset, size))
            }
            _ => None,
        })
    }

    fn data_register(&self) -> u16 {
        self.access_capability + spec::capability::DATA
    }
}

fn identity(device_type: DeviceType) -> Identity {
    let class = match device_type {
        DeviceType::NET => ClassCode { base: 0x02, sub: 0x00, prog_if: 0 },
        DeviceType::BLOCK => ClassCode { base: 0x01, sub: 0x80, prog_if: 0 },
        DeviceType::CONSOLE => ClassCode { base: 0x07, sub: 0x80, prog_if: 0 },
        _ => ClassCode { base: 0xFF, sub: 0x00, prog_if: 0 },
    };
    let device_id = spec::DEVICE_ID_BASE.saturating_add(device_type.0);
    Identity {
        vendor_id: spec::VENDOR_ID,
        device_id,
        revision: spec::REVISION,
        class,
        subsystem_vendor_id: spec::VENDOR_ID,
        subsystem_id: device_id,
    }
}

/// A vendor capability that says where a structure lies in BAR 0 (4.1.4).
fn structure(kind: u8, offset: u32, length: u32, more: &[u8]) -> Capability {
    let total = u8::try_from(16 + more.len()).unwrap_or(u8::MAX);
    let mut body = vec![total, kind, 0, 0, 0, 0];
    body.extend(offset.to_le_bytes());
    body.extend(length.to_le_bytes());
    body.extend(more);
    Capability { id: CapabilityId::VENDOR, body, writable: Vec::new() }
}

fn segments(transport: &Arc<Transport>, msix: &Arc<MsixTable>) -> Vec<Segment> {
    let trap = |offset: u32, size: u64, device: Arc<dyn BusDevice>| Segment {
        offset: u64::from(offset),
        size,
        backing: Backing::Trap(device),
    };
    let page = u64::from(layout::PAGE);
    let doorbells = Doorbells(Arc::clone(transport));
    let mut segments = vec![
        trap(layout::COMMON, page, Arc::new(CommonConfig(Arc::clone(transport)))),
        trap(layout::ISR, page, Arc::new(IsrStatus(Arc::clone(transport)))),
        trap(layout::DEVICE, page, Arc::new(DeviceConfig(Arc::clone(transport)))),
        trap(layout::NOTIFY, page, Arc::new(doorbells)),
        trap(layout::MSIX_TABLE, msix::table_size(msix.vectors()), Arc::clone(msix) as Arc<dyn BusDevice>),
        trap(layout::MSIX_PBA, msix::pba_size(msix.vectors()), msix.pba()),
    ];
    segments.extend(transport.kicks().iter().zip(0u64..).map(|(kick, index)| Segment {
        offset: u64::from(layout::NOTIFY) + index * u64::from(layout::NOTIFY_MULTIPLIER),
        size: u64::from(layout::NOTIFY_MULTIPLIER),
        backing: Backing::Notify(Arc::clone(kick)),
    }));
    segments
}

impl PciFunction for VirtioPci {
    fn label(&self) -> &str {
        self.transport.label()
    }

    fn config_read(&self, offset: u16, size: AccessSize) -> u32 {
        let mut config = self.lock();
        if touches(offset, size, self.data_register(), 4)
            && let Some((device, at, width)) = self.window(&config)
        {
            let value = device.read(at, width).unwrap_or_else(|_| width.ones()).to_le_bytes();
            config.set(self.data_register(), value.get(..width.bytes()).unwrap_or_default());
        }
        if touches(offset, size, header::STATUS, 1) {
            let [mut status, ..] = config.read(header::STATUS, AccessSize::Byte).to_le_bytes();
            let [pending, _] = Status::INTERRUPT.bits().to_le_bytes();
            status &= !pending;
            if self.interrupt.intx_pending() {
                status |= pending;
            }
            config.set(header::STATUS, &[status]);
        }
        config.read(offset, size)
    }

    fn config_write(&self, offset: u16, size: AccessSize, value: u32) -> Effects {
        let mut config = self.lock();
        let mut effects = config.write(offset, size, value);
        let control = self.msix_capability + msix::CONTROL;
        if self.msix_capability != 0 && touches(offset, size, control, 2) {
            let [low, high, ..] = config.read(control, AccessSize::Word).to_le_bytes();
            self.msix.set_control(u16::from_le_bytes([low, high]));
            self.interrupt.update_line(config.command().contains(Command::INTX_DISABLE));
        }
        if touches(offset, size, header::COMMAND, 2) {
            self.interrupt.update_line(config.command().contains(Command::INTX_DISABLE));
        }
        if touches(offset, size, self.data_register(), 4)
            && let Some((device, at, width)) = self.window(&config)
        {
            let data = u64::from(config.read(self.data_register(), AccessSize::Dword)) & width.ones();
            effects |= device.write(at, width, data).unwrap_or_default();
        }
        effects
    }

    fn bar(&self, index: usize) -> Option<Bar> {
        if index == ROM_BAR {
            return self.rom.clone();
        }
        let (kind, size) = self.lock().bar_shape(index)?;
        Some(Bar { kind, size, segments: self.segments.clone() })
    }

    fn bar_address(&self, index: usize) -> u64 {
        self.lock().bar_address(index)
    }
}

impl Lifecycle for VirtioPci {
    fn reset(&self) {
        self.transport.reset();
        self.msix.reset();
        let mut config = self.lock();
        config.reset();
        self.interrupt.update_line(false);
    }

    fn pause(&self) {
        self.transport.pause();
    }

    fn resume(&self) {
        self.transport.resume();
    }
}

#[cfg(test)]
mod tests;
