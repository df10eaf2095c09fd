//! Kernels made by hand, whole, damaged and random.

use std::io::Write;

use proptest::prelude::*;

use super::*;
use crate::vmm::layout;

const RAM: u64 = 64 << 20;

/// A minimal bzImage: 1 setup sector, 2 KiB of code.
fn bzimage() -> Vec<u8> {
    let mut image = vec![0; 1024 + 2048];
    let mut put = |offset: usize, data: &[u8]| image[offset..offset + data.len()].copy_from_slice(data);
    put(0x1F1, &[1]);
    put(0x1F4, &128u32.to_le_bytes());
    put(0x1FE, &[0x55, 0xAA, 0xEB, 0x66]);
    put(0x202, b"HdrS");
    put(0x206, &0x020Fu16.to_le_bytes());
    put(0x211, &[1]);
    put(0x22C, &0x7FFF_FFFFu32.to_le_bytes());
    put(0x236, &1u16.to_le_bytes());
    put(0x238, &2047u32.to_le_bytes());
    put(0x258, &0x100_0000u64.to_le_bytes());
    put(0x260, &0x10_0000u32.to_le_bytes());
    put(1024, b"CODE");
    image
}

/// A minimal PVH kernel: one segment at 1 MiB, one note.
fn elf() -> Vec<u8> {
    let mut image = vec![0; 0x1000];
    let mut put = |offset: usize, data: &[u8]| image[offset..offset + data.len()].copy_from_slice(data);
    put(0, b"\x7FELF\x02\x01\x01");
    put(0x12, &62u16.to_le_bytes());
    put(0x20, &64u64.to_le_bytes());
    put(0x36, &56u16.to_le_bytes());
    put(0x38, &2u16.to_le_bytes());
    let mut segment = |index: usize, kind: u32, values: [u64; 5]| {
        let at = 64 + 56 * index;
        put(at, &kind.to_le_bytes());
        for (i, value) in values.into_iter().enumerate() {
            put(at + 8 * (i + 1), &value.to_le_bytes());
        }
    };
    // offset, vaddr, paddr, file size, memory size
    segment(0, 1, [0x800, 0, 0x10_0000, 0x800, 0x2000]);
    segment(1, 4, [0x200, 0, 0, 0x18, 0x18]);
    put(0x200, &[4, 0, 0, 0, 8, 0, 0, 0, 18, 0, 0, 0, b'X', b'e', b'n', 0]);
    put(0x210, &0x10_0010u64.to_le_bytes());
    put(0x800, b"CODE");
    image
}

fn open(kernel: &[u8], initrd: Option<&[u8]>, cmdline: &str) -> Result<Payload, BootError> {
    let file = |data: &[u8]| {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(data).unwrap();
        file
    };
    let kernel = file(kernel);
    let initrd = initrd.map(file);
    Payload::open(&BootConfig {
        kernel: Some(kernel.path().to_owned()),
        initrd: initrd.as_ref().map(|file| file.path().to_owned()),
        cmdline: cmdline.to_owned(),
        ..BootConfig::default()
    })
}

fn load(payload: &Payload) -> (GuestMemory, Result<Entry, BootError>) {
    let memory = GuestMemory::new(RAM).unwrap();
    let entry = payload.load(&memory, &layout::memory_map(layout::ram_ranges(RAM, 4096, &[])), 0xE_0000);
    (memory, entry)
}

fn bytes<const N: usize>(memory: &GuestMemory, address: u64) -> [u8; N] {
    let mut data = [0; N];
    memory.read(address, &mut data).unwrap();
    data
}

#[test]
fn a_bzimage_is_entered_in_long_mode_with_its_zero_page() {
    let (memory, entry) = load(&open(&bzimage(), Some(b"INITRD"), "quiet").unwrap());
    assert_eq!(entry.unwrap(), Entry::Long { rip: 0x10_0200, rsi: low::ZERO_PAGE });
    assert_eq!(&bytes(&memory, 0x10_0000), b"CODE");
    assert_eq!(&bytes(&memory, low::CMDLINE), b"quiet\0");
    assert_eq!(bytes(&memory, low::ZERO_PAGE + 0x228), 0x2_0000u32.to_le_bytes());
    let initrd = u64::from(u32::from_le_bytes(bytes(&memory, low::ZERO_PAGE + 0x218)));
    assert_eq!(initrd, RAM - 0x1000);
    assert_eq!(&bytes(&memory, initrd), b"INITRD");
    assert_eq!(bytes(&memory, low::ZERO_PAGE + 0x070), 0xE_0000u64.to_le_bytes());
    assert_eq!(bytes(&memory, low::ZERO_PAGE + 0x1E8), [5]);
}

#[test]
fn a_bzimage_without_a_64_bit_entry_is_entered_in_protected_mode() {
    let mut image = bzimage();
    image[0x236] = 0;
    let (_, entry) = load(&open(&image, None, "").unwrap());
    assert_eq!(entry.unwrap(), Entry::Protected { eip: 0x10_0000, ebx: 0, esi: 0x7000 });
}

#[test]
fn a_pvh_kernel_gets_its_start_info() {
    let (memory, entry) = load(&open(&elf(), Some(b"INITRD"), "quiet").unwrap());
    assert_eq!(entry.unwrap(), Entry::Protected { eip: 0x10_0010, ebx: 0x6000, esi: 0 });
    assert_eq!(&bytes(&memory, 0x10_0000), b"CODE");
    assert_eq!(bytes(&memory, 0x6000), 0x336E_C578u32.to_le_bytes());
    let module = u64::from_le_bytes(bytes(&memory, 0x6000 + 16));
    let initrd = u64::from_le_bytes(bytes(&memory, module));
    assert_eq!(&bytes(&memory, initrd), b"INITRD");
    assert_eq!(u32::from_le_bytes(bytes(&memory, 0x6000 + 48)), 5, "memory map entries");
}

#[test]
fn what_is_no_kernel_is_named() {
    assert!(matches!(open(b"", None, ""), Err(BootError::Empty { what: "kernel", .. })));
    assert!(matches!(open(b"MZ", None, ""), Err(BootError::NotAKernel { hint: "", .. })));
    assert!(
        matches!(open(b"\x1F\x8B\x08\0", None, ""), Err(BootError::NotAKernel { hint, .. }) if !hint.is_empty())
    );
    assert!(matches!(open(&bzimage(), Some(b""), ""), Err(BootError::Empty { what: "initrd", .. })));
    let config = |kernel: &str| BootConfig { kernel: Some(kernel.into()), ..BootConfig::default() };
    assert!(matches!(Payload::open(&config("/nonexistent")), Err(BootError::Read { .. })));
    assert!(matches!(Payload::open(&config("/")), Err(BootError::NotAFile { .. })));
    let mut without_note = elf();
    without_note[0x208] = 17;
    assert!(matches!(open(&without_note, None, ""), Err(BootError::NotAKernel { .. })));
}

#[test]
fn a_protocol_that_is_named_is_the_only_one_that_is_tried() {
    let open_as = |image: &[u8], protocol| {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(image).unwrap();
        let kernel = file.path().to_owned();
        Payload::open(&BootConfig { kernel: Some(kernel), protocol, ..BootConfig::default() })
            .map(|payload| payload.image.name())
    };
    assert_eq!(open_as(&bzimage(), Protocol::Auto).unwrap(), "linux");
    assert_eq!(open_as(&bzimage(), Protocol::Linux).unwrap(), "linux");
    assert_eq!(open_as(&elf(), Protocol::Pvh).unwrap(), "pvh");
    for (image, protocol) in [
        (bzimage(), Protocol::Pvh),
        (bzimage(), Protocol::Multiboot),
        (elf(), Protocol::Linux),
        (elf(), Protocol::Multiboot),
    ] {
        assert!(matches!(open_as(&image, protocol), Err(BootError::Protocol { .. })), "{protocol:?}");
    }
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&elf()).unwrap();
    let modules =
        vec![crate::vmm::config::ModuleConfig { file: file.path().to_owned(), cmdline: String::new() }];
    let config = BootConfig { kernel: Some(file.path().to_owned()), modules, ..BootConfig::default() };
    assert!(matches!(Payload::open(&config), Err(BootError::Modules { .. })));
}

#[test]
fn truncated_kernels_and_lying_headers_are_refused() {
    let damaged = |image: &[u8]| matches!(open(image, None, ""), Err(BootError::Damaged { .. }));
    assert!(damaged(&bzimage()[..0x230]));
    assert!(damaged(&bzimage()[..2048]));
    assert!(damaged(&elf()[..40]));
    assert!(damaged(&elf()[..0x900]));
    for (offset, value) in [(0x206, 5), (0x211, 0), (0x1F7, 0xFF), (0x25F, 0xFF)] {
        let mut image = bzimage();
        image[offset] = value;
        if offset == 0x25F {
            image[0x258..0x260].fill(0xFF);
        }
        assert!(damaged(&image), "bzImage {offset:#x}");
    }
    // Program header size and count, file size beyond the memory size, address below 1 MiB, entry point.
    for (offset, value) in [(0x36, 1), (0x39, 0xFF), (64 + 0x26, 1), (64 + 0x1A, 0), (0x213, 1)] {
        let mut image = elf();
        image[offset] = value;
        assert!(damaged(&image), "ELF {offset:#x}");
    }
}

#[test]
fn payloads_larger_than_ram_and_long_command_lines_are_refused() {
    let initrd = vec![1; 60 << 20];
    let (_, entry) = load(&open(&bzimage(), Some(&initrd), "").unwrap());
    assert!(matches!(entry, Err(BootError::TooLarge { .. })));
    let mut huge = elf();
    huge[64 + 0x2F] = 0xFF;
    assert!(matches!(load(&open(&huge, None, "").unwrap()).1, Err(BootError::TooLarge { .. })));
    let long = "x".repeat(2048);
    assert!(matches!(open(&bzimage(), None, &long), Err(BootError::CmdlineLength { .. })));
    assert!(matches!(open(&elf(), None, &long), Err(BootError::CmdlineLength { .. })));
    assert!(matches!(open(&elf(), None, "a\0b"), Err(BootError::CmdlineCharacter { .. })));
}

#[test]
fn a_kernel_that_shrank_after_it_was_opened_is_an_error_when_it_is_loaded() {
    let payload = open(&elf(), None, "").unwrap();
    // The file is unlinked but open: shorten it through its descriptor.
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&payload.kernel.file));
    std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(0x900).unwrap();
    assert!(matches!(load(&payload).1, Err(BootError::Load { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Any change of a few bytes in a header is either refused or loads within RAM; nothing panics or runs away.
    #[test]
    fn headers_with_random_bytes_never_panic(
        pvh in any::<bool>(),
        changes in prop::collection::vec((0usize..0x300, any::<u8>()), 1..12),
    ) {
        let mut image = if pvh { elf() } else { bzimage() };
        for (offset, value) in changes {
            // The magic numbers stay, or nearly all cases end there.
            if offset >= 8 && !(0x1FE..0x206).contains(&offset) {
                image[offset] = value;
            }
        }
        fuzz::fuzz(&image);
    }

    #[test]
    fn random_notes_never_panic(notes in prop::collection::vec(any::<u8>(), 0..64)) {
        let mut image = elf();
        image[0x200..0x200 + notes.len()].copy_from_slice(&notes);
        fuzz::fuzz(&image);
    }
}
