//! A host function made of software, and configuration spaces written from the specifications and data sheets.

use std::fmt::Write;
use std::io;
use std::sync::{Arc, Mutex};

use vmm_sys_util::eventfd::EventFd;

use crate::spec::pci::{Status, header};
use crate::spec::pcie::ExtendedHeader;
use crate::sys::mmap::Mapping;
use crate::sys::vfio::{Interrupt, InterruptInfo, RegionInfo};
use crate::vmm::Unsupported;
use crate::vmm::interrupt::{Connection, InterruptLine, LineController};
use crate::vmm::memory::GuestMemory;
use crate::vmm::pci::FunctionContext;
use crate::vmm::pci::rom::Rom;
use crate::vmm::pci::vector::testing::RecordingSink;
use crate::vmm::vfio::device::{CONFIG_REGION, HostFunction};

/// A configuration space under construction.
#[derive(Clone)]
pub(super) struct Image(pub(super) Vec<u8>);

impl Image {
    pub(super) fn new(vendor: u16, device: u16, class: [u8; 3], size: usize) -> Self {
        let mut image = Self(vec![0; size]);
        image.put(header::VENDOR_ID, &vendor.to_le_bytes());
        image.put(header::DEVICE_ID, &device.to_le_bytes());
        image.put(header::PROG_IF, &class);
        image.put(header::STATUS, &Status::CAPABILITIES.bits().to_le_bytes());
        image.put(header::SUBSYSTEM_VENDOR_ID, &vendor.to_le_bytes());
        image
    }

    pub(super) fn put(&mut self, offset: u16, bytes: &[u8]) {
        let start = usize::from(offset);
        self.0[start..start + bytes.len()].copy_from_slice(bytes);
    }

    fn dword(&mut self, offset: u16, value: u32) {
        self.put(offset, &value.to_le_bytes());
    }

    /// A capability with `body` behind its two header bytes; `next` as in the list.
    fn capability(&mut self, offset: u8, id: u8, next: u8, body: &[u8]) {
        self.put(u16::from(offset), &[id, next]);
        self.put(u16::from(offset) + 2, body);
    }

    fn extended(&mut self, offset: u16, id: u16, next: u16) {
        let id = crate::spec::pcie::ExtendedCapabilityId(id);
        self.dword(offset, ExtendedHeader { id, version: 1, next }.to_u32());
    }

    /// PCI Express, version 2, an endpoint with FLR and links.
    fn express(&mut self, offset: u8, next: u8) {
        let start = u16::from(offset);
        self.capability(offset, 0x10, next, &0x0002_u16.to_le_bytes());
        self.dword(start + 0x04, 0x1000_8CC1); // FLR
        self.put(start + 0x08, &0x2810_u16.to_le_bytes());
        self.dword(start + 0x0C, 0x0004_7811);
        self.put(start + 0x12, &0x1011_u16.to_le_bytes());
        self.dword(start + 0x24, 0x000C_081F); // LTR and OBFF
        self.dword(start + 0x2C, 0x0000_001E);
    }
}

/// An NVMe controller with the shape of QEMU's: MSI-X table in BAR 0 at 0x2000, pending bits at 0x3000, INTA#.
pub(super) fn nvme() -> Image {
    let mut image = Image::new(0x1B36, 0x0010, [0x02, 0x08, 0x01], 4096);
    image.dword(header::BAR0, 0x4);
    image.put(header::CAPABILITIES, &[0x40]);
    image.put(header::INTERRUPT_PIN, &[1]);
    image.capability(0x40, 0x11, 0x80, &[0x40, 0x00, 0x00, 0x20, 0, 0, 0x00, 0x30, 0, 0]);
    image.express(0x80, 0x60);
    image.capability(0x60, 0x01, 0, &[0x03, 0x7E, 0x08, 0, 0, 0]);
    image.extended(0x100, 0x0001, 0x120);
    image.extended(0x120, 0x0010, 0);
    image
}

/// Regions of [`nvme`].
pub(super) const NVME_BARS: [(usize, u64); 1] = [(0, 0x4000)];

/// A virtual function of an Intel 82576: MSI-X in BAR 3, no pin, ARI and AER.
pub(super) fn igb_vf() -> Image {
    let mut image = Image::new(0x8086, 0x10CA, [0x00, 0x00, 0x02], 4096);
    image.dword(header::BAR0, 0x4);
    image.dword(header::BAR0 + 12, 0x4);
    image.put(header::CAPABILITIES, &[0x70]);
    image.capability(0x70, 0x11, 0xA0, &[2, 0, 3, 0, 0, 0, 3, 0x20, 0, 0]);
    image.express(0xA0, 0);
    image.extended(0x100, 0x0001, 0x150);
    image.extended(0x150, 0x000E, 0);
    image
}

/// Regions of [`igb_vf`].
pub(super) const IGB_VF_BARS: [(usize, u64); 2] = [(0, 0x4000), (3, 0x4000)];

/// An Intel 82574L: I/O BAR, MSI and MSI-X, Vital Product Data, a vendor capability, a serial number behind AER.
pub(super) fn e1000e() -> Image {
    let mut image = Image::new(0x8086, 0x10D3, [0x00, 0x00, 0x02], 4096);
    image.put(header::HEADER_TYPE, &[0x80]);
    image.dword(header::BAR0 + 8, 0x1);
    image.put(header::CAPABILITIES, &[0xC8]);
    image.put(header::INTERRUPT_PIN, &[1]);
    image.capability(0xC8, 0x01, 0xD0, &[0x22, 0xC8, 0x00, 0x20, 0, 0]);
    image.capability(0xD0, 0x05, 0xE0, &[0x80, 0x00]);
    image.capability(0xE0, 0x10, 0xA0, &[0x01, 0x00]);
    image.dword(0xE4, 0x1000_8CC1);
    image.capability(0xA0, 0x11, 0x50, &[4, 0, 3, 0, 0, 0, 3, 0x20, 0, 0]);
    image.capability(0x50, 0x03, 0x60, &[0, 0x80]);
    image.capability(0x60, 0x09, 0, &[0x10, 1, 2, 3]);
    image.extended(0x100, 0x0001, 0x140);
    image.extended(0x140, 0x0003, 0);
    image.put(0x144, &[1, 2, 3, 4, 5, 6, 7, 8]);
    image
}

/// Regions of [`e1000e`].
pub(super) const E1000E_BARS: [(usize, u64); 4] = [(0, 0x2_0000), (1, 0x2_0000), (2, 0x20), (3, 0x4000)];

/// What a [`FakeHost`] was asked to do, and what it answers.
pub(super) struct FakeHost {
    regions: [RegionInfo; 8],
    memory: Mutex<Vec<Vec<u8>>>,
    pub(super) calls: Mutex<Vec<String>>,
    pub(super) interrupts: [InterruptInfo; 3],
    pub(super) resettable: bool,
    /// Every call that can fail does.
    pub(super) broken: Mutex<bool>,
    /// Vectors that the host has left.
    pub(super) most_vectors: u32,
}

impl FakeHost {
    pub(super) fn new(image: &Image, bars: &[(usize, u64)]) -> Self {
        let mut regions: [RegionInfo; 8] = Default::default();
        let mut memory = vec![Vec::new(); 8];
        let all = bars.iter().copied().chain([(CONFIG_REGION, image.0.len() as u64)]);
        for (index, size) in all {
            let mappable = if size >= 0x1000 && index < 6 { vec![(0, size)] } else { Vec::new() };
            regions[index] = RegionInfo { size, offset: 0, readable: true, writable: true, mappable };
            memory[index] = vec![0xD0; usize::try_from(size).unwrap()];
        }
        memory[CONFIG_REGION].clone_from(&image.0);
        let pin = u32::from(image.0[usize::from(header::INTERRUPT_PIN)] != 0);
        let info = |count| InterruptInfo { count, resizable: true };
        Self {
            regions,
            memory: Mutex::new(memory),
            calls: Mutex::default(),
            interrupts: [info(pin), info(1), info(65)],
            resettable: true,
            broken: Mutex::new(false),
            most_vectors: u32::MAX,
        }
    }

    pub(super) fn set_mappable(&mut self, bar: usize, areas: &[(u64, u64)]) {
        self.regions[bar].mappable = areas.to_vec();
    }

    /// Takes the calls so far.
    pub(super) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.calls.lock().unwrap())
    }

    fn call(&self, text: String) -> io::Result<()> {
        self.calls.lock().unwrap().push(text);
        if *self.broken.lock().unwrap() { Err(io::ErrorKind::NotConnected.into()) } else { Ok(()) }
    }
}

impl HostFunction for FakeHost {
    fn resettable(&self) -> bool {
        self.resettable
    }
    fn region(&self, index: usize) -> RegionInfo {
        self.regions[index].clone()
    }
    fn read(&self, index: usize, offset: u64, data: &mut [u8]) -> io::Result<()> {
        if *self.broken.lock().unwrap() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let start = usize::try_from(offset).unwrap();
        let memory = self.memory.lock().unwrap();
        let source = memory[index].get(start..start + data.len()).ok_or(io::ErrorKind::InvalidInput)?;
        data.copy_from_slice(source);
        Ok(())
    }
    fn write(&self, index: usize, offset: u64, data: &[u8]) -> io::Result<()> {
        let digits = data.iter().rev().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        });
        self.call(format!("write {index}:{offset:#x}={digits}"))?;
        let start = usize::try_from(offset).unwrap();
        let mut memory = self.memory.lock().unwrap();
        let target = memory[index].get_mut(start..start + data.len()).ok_or(io::ErrorKind::InvalidInput)?;
        target.copy_from_slice(data);
        Ok(())
    }
    fn map(&self, index: usize, offset: u64, length: usize) -> io::Result<Mapping> {
        self.call(format!("map {index}:{offset:#x}+{length:#x}"))?;
        let file = tempfile::tempfile()?;
        file.set_len(offset + length as u64)?;
        Mapping::new(&file, offset, length, true)
    }
    fn interrupt_info(&self, kind: Interrupt) -> InterruptInfo {
        match kind {
            Interrupt::Intx => self.interrupts[0],
            Interrupt::Msi => self.interrupts[1],
            Interrupt::MsiX => self.interrupts[2],
            Interrupt::Error | Interrupt::Request => InterruptInfo::default(),
        }
    }
    fn set_triggers(&self, kind: Interrupt, start: u32, events: &[Option<&EventFd>]) -> io::Result<()> {
        let set: String = events.iter().map(|event| if event.is_some() { 'e' } else { '-' }).collect();
        self.call(format!("{kind:?} {start}:{set}"))?;
        let vectors = start + u32::try_from(events.len()).unwrap();
        if vectors > self.most_vectors { Err(io::Error::other("no vectors")) } else { Ok(()) }
    }
    fn disable(&self, kind: Interrupt) -> io::Result<()> {
        self.call(format!("{kind:?} off"))
    }
    fn set_intx_unmask_event(&self, event: Option<&EventFd>) -> io::Result<()> {
        self.call(format!("unmask event {}", if event.is_some() { "on" } else { "off" }))
    }
    fn mask_intx(&self) -> io::Result<()> {
        self.call("mask".to_owned())
    }
    fn unmask_intx(&self) -> io::Result<()> {
        self.call("unmask".to_owned())
    }
    fn reset(&self) -> io::Result<()> {
        self.call("reset".to_owned())
    }
    fn reset_neighbours(&self) -> Vec<crate::spec::pci::PciAddress> {
        Vec::new()
    }
}

/// An interrupt controller that notes connections in the calls of a [`FakeHost`].
pub(super) struct FakeLines {
    pub(super) host: Arc<FakeHost>,
    pub(super) connectable: bool,
}

impl LineController for FakeLines {
    fn set_level(&self, _: u32, _: bool) -> io::Result<()> {
        Ok(())
    }
    fn connect(&self, gsi: u32, _: &EventFd, _: &EventFd) -> Result<Connection, Unsupported> {
        if !self.connectable {
            return Err(Unsupported);
        }
        self.host.calls.lock().unwrap().push(format!("connect {gsi}"));
        let host = Arc::clone(&self.host);
        Ok(Connection::new(move || host.calls.lock().unwrap().push(format!("disconnect {gsi}"))))
    }
}

/// What a machine would hand to a function on `host`.
pub(super) fn context(host: &Arc<FakeHost>, sink: &RecordingSink) -> FunctionContext {
    let lines = Arc::new(FakeLines { host: Arc::clone(host), connectable: true });
    FunctionContext {
        memory: Arc::new(GuestMemory::new(0x10_0000).unwrap()),
        msi: Arc::new(sink.clone()),
        intx: InterruptLine::new(16, lines),
        rom: Rom::Own,
    }
}
