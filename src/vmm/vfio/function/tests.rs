//! Whole functions on a device made of software.

use super::*;
use crate::spec::pci::msix;
use crate::sys::vfio::InterruptInfo;
use crate::vmm::Unsupported;
use crate::vmm::bus::Bus;
use crate::vmm::interrupt::{InterruptLine, MsiMessage, MsiRoute, MsiSink};
use crate::vmm::pci::root::testing::{FakeMapper, root_on};
use crate::vmm::pci::root::{Address, Place, Slot};
use crate::vmm::pci::vector::testing::{Call, RecordingSink};
use crate::vmm::pci::{Backing, Segment};
use crate::vmm::vfio::testing::{
    E1000E_BARS, FakeHost, FakeLines, IGB_VF_BARS, Image, NVME_BARS, context, e1000e, igb_vf, nvme,
};

const WORD: AccessSize = AccessSize::Word;
const DWORD: AccessSize = AccessSize::Dword;
/// MSI-X control of [`nvme`] and the vector control of its entry 0 in BAR 0.
const NVME_MSIX: u16 = 0x42;
const NVME_TABLE: u64 = 0x2000;

struct Guest {
    host: Arc<FakeHost>,
    sink: RecordingSink,
    function: Arc<VfioFunction>,
}

impl Guest {
    fn on(host: FakeHost) -> Self {
        let (host, sink) = (Arc::new(host), RecordingSink::default());
        let context = context(&host, &sink);
        let function =
            VfioFunction::new("01:00.0".parse().unwrap(), Arc::clone(&host) as _, context).unwrap();
        sink.take();
        Self { host, sink, function }
    }

    fn new(image: &Image, bars: &[(usize, u64)]) -> Self {
        let guest = Self::on(FakeHost::new(image, bars));
        guest.host.take();
        guest
    }

    fn write(&self, offset: u16, size: AccessSize, value: u32) -> Effects {
        self.function.config_write(offset, size, value)
    }

    /// The segment of BAR `bar` that answers `offset`, and the offset in it.
    fn segment(&self, bar: usize, offset: u64) -> (Backing, u64) {
        let segments = self.function.bar(bar).unwrap().segments;
        let found = segments.into_iter().find(|s| (s.offset..s.offset + s.size).contains(&offset)).unwrap();
        (found.backing, offset - found.offset)
    }

    fn bar_write(&self, bar: usize, offset: u64, value: u64) {
        let (Backing::Trap(device), at) = self.segment(bar, offset) else { panic!("not trapped") };
        let _ = device.write(at, DWORD, value).unwrap();
    }

    fn bar_read(&self, bar: usize, offset: u64) -> u64 {
        let (Backing::Trap(device), at) = self.segment(bar, offset) else { panic!("not trapped") };
        device.read(at, DWORD).unwrap()
    }

    /// Programs an MSI-X entry of [`nvme`] and sets its mask bit.
    fn entry(&self, vector: u64, data: u32, masked: bool) -> MsiMessage {
        let entry = NVME_TABLE + 16 * vector;
        for (register, value) in [(0, 0xFEE0_0000), (4, 0), (8, u64::from(data)), (12, u64::from(masked))] {
            self.bar_write(0, entry + register, value);
        }
        MsiMessage { address: 0xFEE0_0000, data }
    }
}

const INTX_ON: [&str; 5] = ["Intx 0:e", "mask", "connect 16", "unmask event on", "unmask"];
const INTX_OFF: [&str; 4] = ["mask", "unmask event off", "disconnect 16", "Intx off"];

fn sequence(parts: &[&[&str]]) -> Vec<String> {
    parts.concat().into_iter().map(str::to_owned).collect()
}

/// A machine without a local APIC.
struct NoMessages;

impl MsiSink for NoMessages {
    fn signal(&self, _: MsiMessage) -> std::io::Result<()> {
        Err(std::io::ErrorKind::Unsupported.into())
    }
    fn route(&self) -> Result<Box<dyn MsiRoute>, Unsupported> {
        Err(Unsupported)
    }
}

#[test]
fn without_messages_a_function_interrupts_by_its_pin_or_is_refused() {
    let open = |image: &Image, bars| {
        let host = Arc::new(FakeHost::new(image, bars));
        let context =
            FunctionContext { msi: Arc::new(NoMessages), ..context(&host, &RecordingSink::default()) };
        VfioFunction::new("01:00.0".parse().unwrap(), host, context)
    };
    let with_pin = open(&nvme(), &NVME_BARS).unwrap();
    assert!(with_pin.msix.is_none() && with_pin.msi.is_none());
    assert_eq!(with_pin.config_read(header::INTERRUPT_PIN, AccessSize::Byte), 1);
    let refusal = open(&igb_vf(), &IGB_VF_BARS).err().unwrap().to_string();
    assert!(refusal.contains("01:00.0 interrupts by messages alone"), "{refusal}");
}

/// Where a function with `rom` shows one, what its sizing says, and the first bytes of it.
fn rom_of(image: &Image, bars: &[(usize, u64)], rom: Rom) -> (u32, Option<Bar>) {
    let host = Arc::new(FakeHost::new(image, bars));
    let context = FunctionContext { rom, ..context(&host, &RecordingSink::default()) };
    let function = VfioFunction::new("01:00.0".parse().unwrap(), host, context).unwrap();
    let _ = function.config_write(header::ROM, DWORD, 0xFFFF_F800);
    (function.config_read(header::ROM, DWORD), function.bar(ROM_BAR))
}

#[test]
fn the_devices_own_rom_is_shown_unless_it_is_hidden_and_read_when_the_guest_looks() {
    let with_rom = [NVME_BARS[0], (ROM_BAR, 0x1_0000)];
    let (register, bar) = rom_of(&nvme(), &with_rom, Rom::Own);
    let [Segment { offset: 0, size: 0x1_0000, backing: Backing::Trap(device) }] = &*bar.unwrap().segments
    else {
        panic!("it is one trapped segment")
    };
    assert_eq!((register, device.read(0, DWORD)), (0xFFFF_0000, Ok(0xD0D0_D0D0)));
    assert_eq!((device.read(0xFFFE, DWORD), device.read(u64::MAX, WORD)), (Ok(0xFFFF_D0D0), Ok(0xFFFF)));
    assert_eq!(device.write(0, DWORD, 0), Ok(Effects::empty()));
    for (bars, rom) in
        [(&with_rom[..], Rom::Hidden), (&NVME_BARS, Rom::Own), (&[(0, 0x4000), (6, 32 << 20)], Rom::Own)]
    {
        let (register, bar) = rom_of(&nvme(), bars, rom);
        assert!(register == 0 && bar.is_none());
    }
}

#[test]
fn a_rom_that_cannot_be_read_is_all_ones() {
    let guest = Guest::new(&nvme(), &[NVME_BARS[0], (ROM_BAR, 0x1000)]);
    *guest.host.broken.lock().unwrap() = true;
    assert_eq!(guest.bar_read(ROM_BAR, 0x10), 0xFFFF_FFFF);
}

#[test]
fn whatever_pin_a_function_has_on_the_host_it_is_a_device_of_its_own_here() {
    let mut image = nvme();
    for (pin, shown) in [(0, 0), (1, 1), (2, 1), (4, 1), (5, 0), (0xFF, 0)] {
        image.put(header::INTERRUPT_PIN, &[pin]);
        let guest = Guest::new(&image, &NVME_BARS);
        assert_eq!(guest.function.config_read(header::INTERRUPT_PIN, AccessSize::Byte), shown, "{pin}");
    }
}

#[test]
fn opening_resets_then_decodes_without_dma_and_connects_intx_in_order() {
    let guest = Guest::on(FakeHost::new(&nvme(), &NVME_BARS));
    let before: &[&str] = &["reset", "write 7:0x4=0003", "map 0:0x0+0x2000"];
    assert_eq!(guest.host.take(), sequence(&[before, &INTX_ON]));
}

#[test]
fn msix_takes_intx_down_first_and_gives_it_back_last() {
    let guest = Guest::new(&nvme(), &NVME_BARS);
    let _ = guest.write(NVME_MSIX, WORD, 0xC000);
    assert_eq!(guest.host.take(), sequence(&[&INTX_OFF, &["MsiX 0:-"]]), "enabled with no vector in use");
    guest.entry(0, 0x41, false);
    guest.entry(5, 0x42, false);
    assert_eq!(guest.host.take(), [] as [&str; 0], "masked as a whole");
    let _ = guest.write(NVME_MSIX, WORD, 0x8000);
    assert_eq!(guest.host.take(), ["MsiX 0:e", "MsiX 5:e"], "only what is in use");
    guest.entry(5, 0x43, true);
    guest.entry(5, 0x43, false);
    assert_eq!(guest.host.take(), [] as [&str; 0], "masking is the route's business");
    let _ = guest.write(NVME_MSIX, WORD, 0x0000);
    assert_eq!(guest.host.take(), sequence(&[&["MsiX off"], &INTX_ON]));
}

#[test]
fn a_masked_vector_collects_in_its_pending_bit_and_is_delivered_once_opened() {
    let guest = Guest::new(&nvme(), &NVME_BARS);
    let _ = guest.write(NVME_MSIX, WORD, 0x8000);
    let message = guest.entry(3, 0x43, false);
    guest.entry(3, 0x43, true);
    guest.sink.take();
    guest.function.msix.as_ref().unwrap().event(3).unwrap().write(1).unwrap();
    assert_eq!(guest.bar_read(0, 0x3000), 1 << 3);
    guest.bar_write(0, NVME_TABLE + 3 * 16 + 12, 0);
    assert_eq!(
        guest.sink.take(),
        [Call::Unmask(1, message)],
        "route 0 was the question whether there are any"
    );
    assert_eq!(guest.bar_read(0, 0x3000), 0);
}

#[test]
fn a_kernel_that_cannot_add_vectors_gets_the_whole_set_again() {
    let mut host = FakeHost::new(&nvme(), &NVME_BARS);
    host.interrupts[2] = InterruptInfo { count: 65, resizable: false };
    let guest = Guest::on(host);
    let _ = guest.write(NVME_MSIX, WORD, 0x8000);
    guest.host.take();
    guest.entry(0, 0x41, false);
    assert_eq!(guest.host.take(), ["MsiX 0:e"], "the first vector is allotted");
    guest.entry(2, 0x43, false);
    assert_eq!(guest.host.take(), ["MsiX off", "MsiX 0:e-e-"], "with room for more");
    guest.entry(3, 0x44, false);
    assert_eq!(guest.host.take(), ["MsiX 3:e"], "which is used without a gap");
    guest.entry(64, 0x80, false);
    let last = guest.host.take();
    assert_eq!(last[1].len(), "MsiX 0:".len() + 65, "never more than the function has");
}

#[test]
fn a_host_without_spare_vectors_gives_those_that_are_needed() {
    let mut host = FakeHost::new(&nvme(), &NVME_BARS);
    host.interrupts[2] = InterruptInfo { count: 65, resizable: false };
    host.most_vectors = 3;
    let guest = Guest::on(host);
    let _ = guest.write(NVME_MSIX, WORD, 0x8000);
    guest.host.take();
    guest.entry(2, 0x43, false);
    assert_eq!(guest.host.take(), ["MsiX off", "MsiX 0:--e-", "MsiX 0:--e"]);
}

#[test]
fn msi_is_enabled_with_all_its_vectors_at_once() {
    let guest = Guest::new(&e1000e(), &E1000E_BARS);
    let _ = guest.write(0xD4, DWORD, 0xFEE0_0000);
    let _ = guest.write(0xDC, WORD, 0x55);
    let _ = guest.write(0xD2, WORD, 0x0001);
    assert_eq!(guest.host.take(), sequence(&[&INTX_OFF, &["Msi 0:e"]]));
    let _ = guest.write(0xA2, WORD, 0x8000);
    assert_eq!(guest.host.take(), ["Msi off", "MsiX 0:-"], "one kind at a time, the last one wins");
    let _ = guest.write(0xA2, WORD, 0x0000);
    let _ = guest.write(0xD2, WORD, 0x0000);
    assert_eq!(guest.host.take(), sequence(&[&["MsiX off"], &INTX_ON]));
}

#[test]
fn switching_modes_for_ever_leaks_nothing() {
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let guest = Guest::new(&e1000e(), &E1000E_BARS);
    let round = || {
        let _ = guest.write(0xA2, WORD, 0x8000);
        for vector in 0..5 {
            guest.bar_write(3, 16 * vector + 12, 0);
        }
        let _ = guest.write(0xA2, WORD, 0x0000);
        let _ = guest.write(0xD2, WORD, 0x0001);
        let _ = guest.write(0xD2, WORD, 0x0000);
        guest.host.take();
        let calls = guest.sink.take();
        let dropped = calls.iter().filter(|call| matches!(call, Call::Drop(_))).count();
        assert_eq!(dropped, 6, "each route of the round is given back");
    };
    round();
    let before = descriptors();
    for _ in 0..500 {
        round();
    }
    // Other tests of this process open files at the same time.
    assert!(descriptors() < before + 100, "{before} before, {} after", descriptors());
}

#[test]
fn a_line_that_cannot_be_connected_takes_the_pin_away() {
    let host = Arc::new(FakeHost::new(&nvme(), &NVME_BARS));
    let mut context = context(&host, &RecordingSink::default());
    context.intx =
        InterruptLine::new(16, Arc::new(FakeLines { host: Arc::clone(&host), connectable: false }));
    let function = VfioFunction::new("01:00.0".parse().unwrap(), Arc::clone(&host) as _, context).unwrap();
    assert_eq!(function.config_read(header::INTERRUPT_PIN, AccessSize::Byte), 0);
    assert_eq!(host.take()[3..], ["Intx 0:e", "mask", "Intx off"]);
    function.reset();
    assert!(!host.take().iter().any(|call| call.starts_with("Intx")), "not tried again");
}

#[test]
fn a_function_without_a_pin_never_uses_intx() {
    let guest = Guest::new(&igb_vf(), &IGB_VF_BARS);
    let _ = guest.write(0x72, WORD, 0x8000);
    let _ = guest.write(0x72, WORD, 0x0000);
    assert_eq!(guest.host.take(), ["MsiX 0:-", "MsiX off"]);
}

#[test]
fn a_guests_reset_stops_dma_resets_the_device_and_forgets_our_registers() {
    let guest = Guest::new(&nvme(), &NVME_BARS);
    let _ = guest.write(0x10, DWORD, 0xC000_0000);
    let _ = guest.write(0x04, WORD, 0x0006);
    let _ = guest.write(NVME_MSIX, WORD, 0x8000);
    guest.entry(1, 0x41, false);
    guest.host.take();
    let effects = guest.write(0x88, WORD, 0x8000);
    assert!(effects.contains(Effects::REMAP_BARS));
    let reset: &[&str] = &["write 7:0x88=0000", "MsiX off", "write 7:0x4=0003", "reset", "write 7:0x4=0003"];
    assert_eq!(guest.host.take(), sequence(&[reset, &INTX_ON]));
    assert_eq!(guest.function.config_read(0x04, WORD), 0);
    assert_eq!(guest.function.bar_address(0), 0);
    assert_eq!(guest.function.config_read(NVME_MSIX, WORD), 0x0040);
    assert_eq!(guest.bar_read(0, NVME_TABLE + 16 + 12), 1, "all vectors are masked again");
}

#[test]
fn a_machine_reset_leaves_the_function_as_after_opening() {
    let guest = Guest::new(&nvme(), &NVME_BARS);
    let _ = guest.write(0x04, WORD, 0x0006);
    guest.host.take();
    guest.function.reset();
    let reset: &[&str] = &["write 7:0x4=0003", "reset", "write 7:0x4=0003"];
    assert_eq!(guest.host.take(), sequence(&[&INTX_OFF, reset, &INTX_ON]));
    guest.function.reset();
    assert_eq!(guest.host.take(), sequence(&[&INTX_OFF, reset, &INTX_ON]), "as often as wanted");
}

#[test]
fn dropping_gives_the_function_back_quiet_and_reset() {
    let guest = Guest::new(&nvme(), &NVME_BARS);
    let _ = guest.write(0x04, WORD, 0x0006);
    let _ = guest.write(NVME_MSIX, WORD, 0x8000);
    guest.entry(0, 0x41, false);
    guest.host.take();
    let Guest { host, sink, function } = guest;
    drop(function);
    assert_eq!(host.take(), ["MsiX off", "write 7:0x4=0003", "reset"]);
    assert_eq!(sink.take().last(), Some(&Call::Drop(1)));
    assert_eq!(Arc::strong_count(&host), 1, "nothing keeps the device open");
}

#[test]
fn a_device_that_went_away_ends_in_ones_and_not_in_a_panic() {
    let guest = Guest::new(&nvme(), &NVME_BARS);
    *guest.host.broken.lock().unwrap() = true;
    assert_eq!(guest.function.config_read(0x06, WORD), 0xFFFF);
    assert_eq!(guest.function.config_read(0x00, DWORD), 0x0010_1B36, "our own registers still answer");
    let _ = guest.write(0x04, WORD, 0x0006);
    let _ = guest.write(NVME_MSIX, WORD, 0x8000);
    guest.entry(4, 0x41, false);
    let (Backing::Trap(device), at) = guest.segment(0, 0x2FFC) else { panic!("not trapped") };
    assert!(device.read(at, DWORD).is_err());
    let _ = guest.write(0x88, WORD, 0x8000);
    guest.function.reset();
}

fn shape(guest: &Guest, bar: usize) -> Vec<(u64, u64, String)> {
    let segments = guest.function.bar(bar).unwrap().segments;
    segments.iter().map(|s| (s.offset, s.size, format!("{:?}", s.backing))).collect()
}

#[test]
fn bars_are_mapped_around_the_msix_structures() {
    let guest = Guest::new(&nvme(), &NVME_BARS);
    let expected = [(0, 0x2000, "Map"), (0x2000, 0x2000, "Trap")].map(|(o, s, b)| (o, s, b.to_owned()));
    assert_eq!(shape(&guest, 0), expected);
    assert!(guest.function.bar(1).is_none(), "the upper half is no BAR");
    let guest = Guest::new(&e1000e(), &E1000E_BARS);
    assert_eq!(shape(&guest, 0), [(0, 0x2_0000, "Map".to_owned())]);
    assert_eq!(shape(&guest, 2), [(0, 0x20, "Trap".to_owned())]);
    let expected =
        [(0, 0x1000, "Trap"), (0x1000, 0x1000, "Map"), (0x2000, 0x1000, "Trap"), (0x3000, 0x1000, "Map")];
    assert_eq!(shape(&guest, 3), expected.map(|(o, s, b)| (o, s, b.to_owned())));
}

#[test]
fn a_table_that_does_not_begin_on_a_page_keeps_its_neighbours_reachable() {
    let mut image = nvme();
    image.put(0x44, &0x1800_u32.to_le_bytes());
    image.put(0x48, &0x1FF8_u32.to_le_bytes());
    image.put(0x42, &[0x07, 0]);
    let guest = Guest::new(&image, &[(0, 0x4000)]);
    let expected = [(0, 0x1000, "Map"), (0x1000, 0x1000, "Trap"), (0x2000, 0x2000, "Map")];
    assert_eq!(shape(&guest, 0), expected.map(|(o, s, b)| (o, s, b.to_owned())));
    guest.bar_write(0, 0x1000, 0x1234_5678);
    assert_eq!(guest.host.take(), ["write 0:0x1000=12345678"]);
    assert_eq!(guest.bar_read(0, 0x1000), 0x1234_5678);
    guest.bar_write(0, 0x1800, 0xFEE0_0000);
    assert_eq!(guest.host.take(), [] as [&str; 0], "the table is ours");
    let (Backing::Trap(device), at) = guest.segment(0, 0x17FE) else { panic!("not trapped") };
    let _ = device.write(at, DWORD, 0x4433_2211).unwrap();
    assert_eq!(guest.host.take(), ["write 0:0x17fe=11", "write 0:0x17ff=22"], "split at the border");
    assert_eq!(device.read(at, DWORD).unwrap(), 0x4433_2211);
}

#[test]
fn areas_and_small_bars_are_respected() {
    let mut host = FakeHost::new(&nvme(), &[(0, 0x8000)]);
    host.set_mappable(0, &[(0x5000, 0x2000), (0x800, 0x1000), (0x6000, u64::MAX)]);
    let guest = Guest::on(host);
    let expected = [(0, 0x5000, "Trap"), (0x5000, 0x2000, "Map"), (0x7000, 0x1000, "Trap")];
    assert_eq!(shape(&guest, 0), expected.map(|(o, s, b)| (o, s, b.to_owned())));
    let mut image = e1000e();
    image.put(0x34, &[0]);
    let guest = Guest::new(&image, &[(0, 0x100)]);
    assert_eq!(shape(&guest, 0), [(0, 0x100, "Trap".to_owned())]);
}

#[test]
fn a_table_outside_of_its_bar_hides_msix() {
    for (place, value) in [(0x44, 0x3FF8_u32), (0x44, 0x2001), (0x44, 0x2007), (0x48, 0x2000), (0x48, 0x4000)]
    {
        let mut image = nvme();
        image.put(place, &value.to_le_bytes());
        let guest = Guest::new(&image, &NVME_BARS);
        assert!(guest.function.msix.is_none(), "{place:#x} {value:#x}");
        assert_eq!(guest.function.config_read(0x34, AccessSize::Byte), 0x80);
        let _ = guest.write(NVME_MSIX, WORD, 0x8000);
        assert_eq!(guest.host.take(), [] as [&str; 0]);
    }
}

#[test]
fn a_device_on_the_list_of_quirks_has_its_pending_bits_elsewhere() {
    let mut image = nvme();
    image.put(0, &[0x25, 0x14, 0x01, 0x58]);
    image.put(0x48, &0x8000_u32.to_le_bytes());
    let guest = Guest::new(&image, &NVME_BARS);
    assert!(guest.function.msix.is_some());
    assert_eq!(guest.bar_read(0, 0x1000), 0);
}

#[test]
fn unmapped_with_the_decode_bit_and_in_d3() {
    let guest = Guest::new(&nvme(), &NVME_BARS);
    let (mmio, mapper) = (Arc::<Bus>::default(), FakeMapper::default());
    let root = root_on(&mmio, &mapper);
    let slot = Slot::new(1, 0).unwrap();
    root.insert(Place::on_root(slot), Arc::clone(&guest.function) as _).unwrap();
    root.place_bars().unwrap();
    let write = |offset, value| {
        if root.config_write(Address { bus: 0, slot }, offset, WORD, value).contains(Effects::REMAP_BARS) {
            root.remap();
        }
        mapper.0.lock().unwrap().len()
    };
    assert_eq!(write(0x04, 0x0006), 1);
    assert_eq!(write(0x64, 0x0003), 0, "D3hot");
    assert_eq!(write(0x64, 0x0000), 1);
    assert_eq!(write(0x04, 0x0004), 0, "memory decoding off");
    assert_eq!(write(0x04, 0x0006), 1);
    assert_eq!(write(0x88, 0x8000), 0, "function level reset");
}

#[test]
fn every_access_to_the_msix_pages_is_answered_and_the_table_never_reaches_the_device() {
    let guest = Guest::new(&nvme(), &NVME_BARS);
    let _ = guest.write(NVME_MSIX, WORD, 0x8000);
    guest.host.take();
    let (Backing::Trap(device), _) = guest.segment(0, 0x2000) else { panic!("not trapped") };
    for offset in (0..0x2008).chain([u64::MAX - 8, u64::MAX]) {
        for size in [AccessSize::Byte, WORD, DWORD, AccessSize::Qword] {
            for value in [0, 1, u64::MAX] {
                let _ = device.write(offset, size, value & size.ones());
                let _ = device.read(offset, size);
            }
        }
    }
    let table = 0x2000..0x2000 + msix::table_size(65);
    let pending = 0x3000..0x3000 + msix::pba_size(65);
    for call in guest.host.take() {
        let Some(place) = call.strip_prefix("write 0:0x") else { continue };
        let at = u64::from_str_radix(place.split('=').next().unwrap(), 16).unwrap();
        assert!(!table.contains(&at) && !pending.contains(&at), "{call}");
    }
}

#[test]
fn storms_from_two_vcpus_end() {
    let guest = Guest::new(&e1000e(), &E1000E_BARS);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for i in 0..2000 {
                let _ = guest.write(0xA2, WORD, if i % 2 == 0 { 0x8000 } else { 0 });
                let _ = guest.write(0xD2, WORD, u32::from(i % 3 == 0));
            }
        });
        scope.spawn(|| {
            for i in 0..2000 {
                guest.bar_write(3, 16 * (i % 5) + 12, i & 1);
                let _ = guest.write(0x04, WORD, u32::try_from(i & 7).unwrap());
                let _ = guest.bar_read(3, 0x2000);
            }
        });
    });
    guest.function.reset();
    assert_eq!(guest.host.take().last().map(String::as_str), Some("unmask"), "INTx at the end");
}
