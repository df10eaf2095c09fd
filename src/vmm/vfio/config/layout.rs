//! Decides who answers which byte of a function's configuration space.
//!
//! The header is ours but for the status register. Of the capabilities those listed in [`Layout::conventional`] and
//! [`Layout::extended`] are kept, each register by its meaning; all others are unlinked from their list and read as zero:
//! they need the port above (ARI, DPC, L1 substates), an IOMMU of the guest (ATS, PRI, PASID), would change what the host
//! has set up (SR-IOV, resizable BAR, ACS), or are not known. Registers below 0x100 that no capability claims belong to the
//! device, because drivers use them.

use std::ops::Range;

use crate::spec::pci::{
    BAR_COUNT, CONFIG_SPACE_SIZE, CapabilityId, Command, EXTENDED_CONFIG_SPACE_SIZE, bar, header, msi, msix,
};
use crate::spec::pcie::{
    EXTENDED_START, ExtendedCapabilityId, ExtendedHeader, SERIAL_NUMBER_SIZE, advanced_features, express,
    link, power, vpd,
};
use crate::vmm::pci::BarKind;
use crate::vmm::pci::capability::{capabilities, extended_capabilities};
use crate::vmm::pci::config_space::{ConfigSpace, ConfigSpaceError};
use crate::vmm::pci::msix::MsixPlace;
use crate::vmm::vfio::config::{Byte, MsixFacts, Places, VirtualConfig};

/// Bytes of the Serial ATA capability (SATA 3.4, 10.14.1).
const SATA_SIZE: u16 = 8;

/// What the machine and the host offer to this function.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::vmm::vfio) struct Limits {
    /// MSI vectors that VFIO can deliver; 0 hides the capability.
    pub msi_vectors: u32,
    /// MSI-X vectors that VFIO can deliver; 0 hides the capability.
    pub msix_vectors: u32,
    /// INTx can be delivered.
    pub intx: bool,
    /// The function can be reset, so function level reset may be offered.
    pub reset: bool,
}

/// A BAR of the device: its register's flags and the size of its region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::vmm::vfio) struct BarRegister {
    /// 0 to 5.
    pub index: usize,
    /// Space and width.
    pub kind: BarKind,
    /// Size in bytes.
    pub size: u64,
}

impl BarRegister {
    /// BAR `index` of `image`, whose region has `size` bytes; `None` for size 0.
    pub(in crate::vmm::vfio) fn new(image: &[u8], index: usize, size: u64) -> Option<Self> {
        let offset = usize::from(header::BAR0) + 4 * index;
        let register = image.get(offset..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))?;
        let prefetchable = register & bar::PREFETCHABLE != 0;
        let kind = if register & bar::IO != 0 {
            BarKind::Io
        } else if register & bar::MEMORY_64 != 0 && index + 1 < BAR_COUNT {
            BarKind::Memory64 { prefetchable }
        } else {
            BarKind::Memory32 { prefetchable }
        };
        (size > 0).then_some(Self { index, kind, size })
    }
}

/// Why a function with this header cannot be passed through, as the end of a sentence.
pub(in crate::vmm::vfio) fn header_fault(image: &[u8]) -> Option<&'static str> {
    let byte = |offset: u16| image.get(usize::from(offset)).copied().unwrap_or(0xFF);
    if byte(header::VENDOR_ID) == 0xFF && byte(header::VENDOR_ID + 1) == 0xFF {
        return Some("does not answer configuration reads; it may be switched off or gone");
    }
    (byte(header::HEADER_TYPE) & header::LAYOUT != 0)
        .then_some("is a bridge; only endpoints can be passed through")
}

/// The table for a function with configuration space `image`.
///
/// `rom` is the size of its expansion ROM in bytes, if it shows one.
pub(in crate::vmm::vfio) fn lay_out(
    image: &[u8],
    bars: &[BarRegister],
    rom: Option<u64>,
    limits: Limits,
) -> Result<VirtualConfig, ConfigSpaceError> {
    let space = ConfigSpace::from_image(image);
    let bytes = vec![Byte::Hidden; space.len()].into_boxed_slice();
    let mut layout = Layout {
        image: image.get(..space.len()).unwrap_or(image),
        limits,
        config: VirtualConfig { space, bytes, places: Places::default() },
    };
    layout.header(bars, rom)?;
    layout.conventional();
    layout.extended();
    Ok(layout.config)
}

struct Layout<'a> {
    image: &'a [u8],
    limits: Limits,
    config: VirtualConfig,
}

impl Layout<'_> {
    fn byte(&self, offset: u16) -> u8 {
        self.image.get(usize::from(offset)).copied().unwrap_or(0)
    }

    fn word(&self, offset: u16) -> u16 {
        u16::from_le_bytes([self.byte(offset), self.byte(offset.saturating_add(1))])
    }

    fn dword(&self, offset: u16) -> u32 {
        u32::from(self.word(offset)) | u32::from(self.word(offset.saturating_add(2))) << 16
    }

    fn assign(&mut self, range: Range<u16>, owner: Byte) {
        let range = usize::from(range.start)..usize::from(range.end).min(self.config.bytes.len());
        self.config.bytes.get_mut(range).unwrap_or_default().fill(owner);
    }

    /// Our register with this value after power-on, of which the guest can write the bits in `writable`.
    fn emulate(&mut self, offset: u16, value: &[u8], writable: &[u8]) {
        let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
        self.assign(offset..offset.saturating_add(length), Byte::Emulated);
        self.config.space.define(offset, value);
        self.config.space.set_writable(offset, writable);
    }

    /// Our register with the device's value, read-only.
    fn freeze(&mut self, range: Range<u16>) {
        self.assign(range, Byte::Emulated);
    }

    fn header(&mut self, bars: &[BarRegister], rom: Option<u64>) -> Result<(), ConfigSpaceError> {
        self.freeze(header::VENDOR_ID..header::COMMAND);
        let mut command = Command::all();
        command.set(Command::IO, bars.iter().any(|bar| bar.kind == BarKind::Io));
        let has_memory = rom.is_some() || bars.iter().any(|bar| bar.kind != BarKind::Io);
        command.set(Command::MEMORY, has_memory);
        self.emulate(header::COMMAND, &[0; 2], &command.bits().to_le_bytes());
        // Bits 3 and 4 follow the device, the upper half is cleared by writing ones.
        self.assign(header::STATUS..header::REVISION_ID, Byte::Passthrough);
        self.freeze(header::REVISION_ID..header::CACHE_LINE_SIZE);
        self.assign(header::CACHE_LINE_SIZE..header::HEADER_TYPE, Byte::Passthrough);
        self.emulate(header::HEADER_TYPE, &[self.byte(header::HEADER_TYPE) & header::LAYOUT], &[]);
        // A built-in self test would run on the host's hardware: the register stays hidden.
        let bar_bytes = header::BAR0..header::BAR0 + 4 * u16::try_from(BAR_COUNT).unwrap_or(0);
        self.emulate(bar_bytes.start, &[0; 4 * BAR_COUNT], &[]);
        for bar in bars {
            self.config.space.add_bar(bar.index, bar.kind, bar.size)?;
        }
        self.freeze(header::SUBSYSTEM_VENDOR_ID..header::ROM);
        if let Some(size) = rom {
            self.emulate(header::ROM, &[0; 4], &[]);
            self.config.space.add_rom(size)?;
        }
        self.emulate(header::INTERRUPT_LINE, &[0], &[0xFF]);
        let pin = if self.limits.intx { self.byte(header::INTERRUPT_PIN) } else { 0 };
        // The function of a device on the host becomes one of another device here: INTA# is whatever its own pin is called.
        self.emulate(header::INTERRUPT_PIN, &[u8::from((1..=4).contains(&pin))], &[]);
        self.freeze(header::INTERRUPT_PIN + 1..header::END);
        Ok(())
    }

    fn conventional(&mut self) {
        let entries = capabilities(self.image);
        self.assign(header::END..CONFIG_SPACE_SIZE, Byte::Passthrough);
        let mut offsets: Vec<u16> = entries.iter().map(|entry| entry.offset).collect();
        offsets.sort_unstable();
        let mut link = header::CAPABILITIES;
        self.emulate(link, &[0], &[]);
        for entry in entries {
            let start = entry.offset;
            // However long a capability claims to be, it ends where the next one begins.
            let end = offsets.iter().copied().find(|other| *other > start).unwrap_or(CONFIG_SPACE_SIZE);
            if self.keep(entry.id, start, end - start) {
                let [pointer, _] = start.to_le_bytes();
                self.config.space.define(link, &[pointer]);
                self.emulate(start, &[entry.id.0, 0], &[]);
                link = start + 1;
            } else {
                self.assign(start..end, Byte::Hidden);
                tracing::debug!(id = entry.id.0, offset = start, "capability hidden from the guest");
            }
        }
    }

    /// Lays out the registers of a capability that has `room` bytes from `start` on; false if the guest must not see it.
    fn keep(&mut self, id: CapabilityId, start: u16, room: u16) -> bool {
        match id {
            CapabilityId::POWER_MANAGEMENT if room >= power::SIZE => self.power(start),
            CapabilityId::VPD if room >= vpd::SIZE => {
                // Reading starts with the flag cleared; a set flag would write the device's storage.
                self.assign(start + 2..start + vpd::SIZE, Byte::Passthrough);
                self.assign(start + vpd::ADDRESS + 1..start + vpd::ADDRESS + 2, Byte::Masked(!vpd::FLAG));
            }
            CapabilityId::MSI => return self.msi(start, room),
            CapabilityId::MSI_X => return self.msix(start, room),
            CapabilityId::VENDOR => {
                let length = u16::from(self.byte(start + 2)).clamp(3, room.max(3));
                self.assign(start + 2..start + length, Byte::Passthrough);
            }
            CapabilityId::EXPRESS => return self.express(start, room),
            CapabilityId::SATA if room >= SATA_SIZE => self.freeze(start + 2..start + SATA_SIZE),
            CapabilityId::ADVANCED_FEATURES if room >= advanced_features::SIZE => {
                self.advanced_features(start);
            }
            _ => return false,
        }
        true
    }

    /// The device stays in D0 and keeps its state whatever the guest asks for; the guest's state decides what is mapped
    /// and whether DMA is on. So nothing is lost on the way back to D0, and the register says so. There is nobody to take
    /// a PME.
    fn power(&mut self, start: u16) {
        /// D1 and D2 Support.
        const D1_AND_D2: u16 = 0b11 << 9;
        let capabilities = self.word(start + power::CAPABILITIES) & !(power::PME_SUPPORT | D1_AND_D2);
        self.emulate(start + power::CAPABILITIES, &capabilities.to_le_bytes(), &[]);
        let control = power::NO_SOFT_RESET.to_le_bytes();
        self.emulate(start + power::CONTROL, &control, &power::STATE_MASK.to_le_bytes());
        self.assign(start + power::CONTROL + 2..start + power::SIZE, Byte::Hidden);
        self.config.places.power = Some(start);
    }

    /// The registers are those of [`Msi`](crate::vmm::pci::msi::Msi), which its owner defines.
    fn msi(&mut self, start: u16, room: u16) -> bool {
        let mut control = self.word(start + msi::CONTROL);
        let length = msi::Layout::new(control).length;
        if self.limits.msi_vectors == 0 || room < length {
            return false;
        }
        // Announce no more vectors than VFIO delivers.
        let capable = (control >> msi::control::CAPABLE_SHIFT) & msi::control::VECTORS_MASK;
        let most = u16::try_from(self.limits.msi_vectors.ilog2()).unwrap_or(0);
        control &= !(msi::control::VECTORS_MASK << msi::control::CAPABLE_SHIFT);
        control |= capable.min(most) << msi::control::CAPABLE_SHIFT;
        self.emulate(start + 2, &vec![0; usize::from(length - 2)], &[]);
        self.config.places.msi = Some((start, control));
        true
    }

    fn msix(&mut self, start: u16, room: u16) -> bool {
        if self.limits.msix_vectors == 0 || room < msix::LENGTH {
            return false;
        }
        let most = u16::try_from(self.limits.msix_vectors).unwrap_or(u16::MAX).min(msix::MAX_VECTORS);
        let vectors = ((self.word(start + msix::CONTROL) & msix::control::SIZE_MASK) + 1).min(most);
        let pointer = |value: u32| {
            let [bar, ..] = (value & msix::BAR_MASK).to_le_bytes();
            (bar, value & !msix::BAR_MASK)
        };
        let (table_bar, table_offset) = pointer(self.dword(start + msix::TABLE));
        let (pba_bar, pba_offset) = pointer(self.dword(start + msix::PBA));
        let writable = (msix::control::ENABLE | msix::control::FUNCTION_MASK).to_le_bytes();
        self.emulate(start + msix::CONTROL, &(vectors - 1).to_le_bytes(), &writable);
        self.freeze(start + msix::TABLE..start + msix::LENGTH);
        let place = MsixPlace { table_bar, table_offset, pba_bar, pba_offset };
        self.config.places.msix = Some(MsixFacts { offset: start, vectors, place });
        true
    }

    /// The function sits behind a root port of the machine, whatever it sits behind on the host: an endpoint with a link. The
    /// link is the host's to train; slot and root registers do not exist for an endpoint (PCIe 6.0, 7.5.3).
    fn express(&mut self, start: u16, room: u16) -> bool {
        let capabilities = self.word(start + express::CAPABILITIES);
        let version = capabilities & express::VERSION_MASK;
        let length = if version >= 2 { express::SIZE_V2 } else { express::SIZE_V1_ENDPOINT };
        if room < length {
            return false;
        }
        let kind = match capabilities & express::TYPE_MASK {
            express::TYPE_LEGACY_ENDPOINT => express::TYPE_LEGACY_ENDPOINT,
            _ => express::TYPE_ENDPOINT,
        };
        let own = version | kind;
        self.emulate(start + express::CAPABILITIES, &own.to_le_bytes(), &[]);
        let mut device = self.dword(start + express::DEVICE_CAPABILITIES);
        if device & express::FLR_CAPABLE != 0 && self.limits.reset {
            self.config.places.express_flr = Some(start);
        } else {
            device &= !express::FLR_CAPABLE;
        }
        self.emulate(start + express::DEVICE_CAPABILITIES, &device.to_le_bytes(), &[]);
        let control = start + express::DEVICE_CONTROL;
        let [_, reset_bit] = express::INITIATE_FLR.to_le_bytes();
        self.assign(control..control + 1, Byte::Passthrough);
        self.assign(control + 1..control + 2, Byte::Masked(!reset_bit));
        self.assign(start + express::DEVICE_STATUS..start + express::LINK, Byte::Passthrough);
        self.assign(start + express::LINK..start + length, Byte::Hidden);
        self.link(start);
        if version >= 2 {
            let device = self.dword(start + express::DEVICE_CAPABILITIES_2) & !express::LTR_AND_OBFF;
            self.emulate(start + express::DEVICE_CAPABILITIES_2, &device.to_le_bytes(), &[]);
            let [low, high] = express::DEVICE_CONTROL_2_OWN.to_le_bytes();
            let control = start + express::DEVICE_CONTROL_2;
            self.assign(control..control + 1, Byte::Masked(low));
            self.assign(control + 1..control + 2, Byte::Masked(high));
        }
        true
    }

    /// Speed and width as on the host, and a control register that keeps what is written. What is integrated into the host's
    /// root complex, and virtual functions, have no link of their own: the least there is.
    fn link(&mut self, start: u16) {
        const LEAST: u32 = 1 | 1 << link::WIDTH_SHIFT;
        const CONTROL_KEPT: u16 = 0x01CB;
        let capabilities = Some(self.dword(start + express::LINK)).filter(|value| value & 0x3FF != 0);
        let status = Some(self.word(start + link::STATUS)).filter(|value| value & 0x3FF != 0);
        // Bits of ports and of power states that the port above does not have.
        let capabilities = capabilities.map_or(LEAST, |value| value & 0xFF00_03FF);
        let status = status.unwrap_or(u16::try_from(LEAST).unwrap_or(0)) & 0x13FF;
        self.emulate(start + express::LINK, &capabilities.to_le_bytes(), &[]);
        self.emulate(start + express::LINK_CONTROL, &[0, 0], &CONTROL_KEPT.to_le_bytes());
        self.emulate(start + link::STATUS, &status.to_le_bytes(), &[]);
    }

    fn advanced_features(&mut self, start: u16) {
        let mut capabilities = self.byte(start + advanced_features::CAPABILITIES);
        if capabilities & advanced_features::FLR_CAPABLE != 0 && self.limits.reset {
            self.config.places.advanced_flr = Some(start);
        } else {
            capabilities &= !advanced_features::FLR_CAPABLE;
        }
        self.freeze(start + 2..start + advanced_features::CAPABILITIES);
        self.emulate(start + advanced_features::CAPABILITIES, &[capabilities, 0], &[]);
        self.assign(start + advanced_features::SIZE - 1..start + advanced_features::SIZE, Byte::Passthrough);
    }

    fn extended(&mut self) {
        if self.config.bytes.len() < usize::from(EXTENDED_CONFIG_SPACE_SIZE) {
            return;
        }
        let entries = extended_capabilities(self.image);
        let mut offsets: Vec<u16> = entries.iter().map(|entry| entry.offset).collect();
        offsets.sort_unstable();
        // The list begins at 0x100 in any case: a null header stands there until a kept capability takes the place.
        let mut last = ExtendedHeader { id: ExtendedCapabilityId::NULL, version: 0, next: 0 };
        let mut link = EXTENDED_START;
        self.emulate(link, &last.to_u32().to_le_bytes(), &[]);
        for entry in entries {
            let start = entry.offset;
            let end =
                offsets.iter().copied().find(|other| *other > start).unwrap_or(EXTENDED_CONFIG_SPACE_SIZE);
            let id = ExtendedCapabilityId(entry.id);
            if !self.keep_extended(id, start, end - start) {
                tracing::debug!(id = entry.id, offset = start, "extended capability hidden from the guest");
                continue;
            }
            if start != link {
                last.next = start;
                self.emulate(link, &last.to_u32().to_le_bytes(), &[]);
            }
            last = ExtendedHeader { id, version: entry.version, next: 0 };
            link = start;
            self.emulate(link, &last.to_u32().to_le_bytes(), &[]);
        }
    }

    fn keep_extended(&mut self, id: ExtendedCapabilityId, start: u16, room: u16) -> bool {
        match id {
            ExtendedCapabilityId::SERIAL_NUMBER if room >= SERIAL_NUMBER_SIZE => {
                self.freeze(start + 4..start + SERIAL_NUMBER_SIZE);
            }
            ExtendedCapabilityId::VENDOR if room >= 8 => {
                // Its length stands in its second doubleword (PCIe 6.0, 7.9.5.2).
                let [_, _, low, high] = self.dword(start + 4).to_le_bytes();
                let length = (u16::from_le_bytes([low, high]) >> 4).clamp(8, room);
                self.assign(start + 4..start + length, Byte::Passthrough);
            }
            _ => return false,
        }
        true
    }
}
