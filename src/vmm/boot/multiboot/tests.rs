//! Kernels made by hand, whole, lying and random.

use std::io::Write;

use proptest::prelude::*;

use super::*;
use crate::vmm::boot::Payload;
use crate::vmm::boot::fuzz::fuzz;
use crate::vmm::config::{BootConfig, ModuleConfig, Protocol};
use crate::vmm::layout;
use crate::vmm::memory::GuestMemory;

const RAM: u64 = 64 << 20;

fn put(image: &mut [u8], offset: usize, values: &[u32]) {
    for (index, value) in values.iter().enumerate() {
        image[offset + 4 * index..offset + 4 * index + 4].copy_from_slice(&value.to_le_bytes());
    }
}

/// A header at 0x40 and 2 KiB of file, to 0x100000; bss up to 0x102000.
fn kludge() -> Vec<u8> {
    let mut image = vec![0x90; 0x800];
    let flags = 0x1_0003;
    let checksum = 0u32.wrapping_sub(MAGIC).wrapping_sub(flags);
    put(&mut image, 0x40, &[MAGIC, flags, checksum, 0x10_0040, 0x10_0000, 0, 0x10_2000, 0x10_0100]);
    image
}

/// One segment, linked at 0xC0100000 and loaded at 0x100000; the header in it.
fn elf() -> Vec<u8> {
    let mut image = vec![0; 0x1000];
    image[..6].copy_from_slice(&elf::IDENTITY);
    image[0x12] = 3;
    put(&mut image, 0x18, &[0xC010_0010, 52]);
    image[0x2A] = 32;
    image[0x2C] = 1;
    put(&mut image, 52, &[1, 0x800, 0xC010_0000, 0x10_0000, 0x800, 0x2000]);
    let checksum = 0u32.wrapping_sub(MAGIC).wrapping_sub(2);
    put(&mut image, 0x804, &[MAGIC, 2, checksum]);
    image
}

fn file(data: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(data).unwrap();
    file
}

fn open_with(kernel: &[u8], modules: &[(&[u8], &str)], initrd: Option<&[u8]>) -> Result<Payload, BootError> {
    let kernel = file(kernel);
    let initrd = initrd.map(file);
    let files: Vec<_> = modules.iter().map(|(data, text)| (file(data), *text)).collect();
    let module = |(file, text): &(tempfile::NamedTempFile, &str)| ModuleConfig {
        file: file.path().to_owned(),
        cmdline: (*text).to_owned(),
    };
    Payload::open(&BootConfig {
        kernel: Some(kernel.path().to_owned()),
        initrd: initrd.as_ref().map(|file| file.path().to_owned()),
        cmdline: "quiet".to_owned(),
        protocol: Protocol::Auto,
        modules: files.iter().map(module).collect(),
        ..BootConfig::default()
    })
}

fn open(kernel: &[u8]) -> Result<Payload, BootError> {
    open_with(kernel, &[], None)
}

fn load(payload: &Payload) -> (GuestMemory, Result<Entry, BootError>) {
    let memory = GuestMemory::new(RAM).unwrap();
    let entry = payload.load(&memory, &layout::memory_map(layout::ram_ranges(RAM, 4096, &[])), 0xE_0000);
    (memory, entry)
}

fn number(memory: &GuestMemory, address: u64) -> u64 {
    let mut data = [0; 4];
    memory.read(address, &mut data).unwrap();
    u32::from_le_bytes(data).into()
}

fn text(memory: &GuestMemory, address: u64) -> String {
    let mut data = [0; 512];
    memory.read(address, &mut data).unwrap();
    let text = data.split(|byte| *byte == 0).next().unwrap();
    // The name of the temporary file is the first word.
    String::from_utf8(text.to_vec())
        .unwrap()
        .split_once(' ')
        .map_or(String::new(), |(_, rest)| rest.to_owned())
}

#[test]
fn a_file_goes_where_its_header_says() {
    let (memory, entry) = load(&open(&kludge()).unwrap());
    assert_eq!(entry.unwrap(), Entry::Multiboot { eip: 0x10_0100, info: 0x6000 });
    assert_eq!((number(&memory, 0x10_0040), number(&memory, 0x10_0800)), (u64::from(MAGIC), 0));
}

#[test]
fn an_elf_file_is_entered_where_it_was_loaded() {
    let (memory, entry) = load(&open(&elf()).unwrap());
    assert_eq!(entry.unwrap(), Entry::Multiboot { eip: 0x10_0010, info: 0x6000 });
    assert_eq!(number(&memory, 0x10_0004), u64::from(MAGIC));
}

#[test]
fn the_kernel_is_told_of_memory_modules_and_command_line() {
    let modules: [(&[u8], &str); 2] = [(b"first", "one two"), (b"second", "")];
    let (memory, entry) = load(&open_with(&elf(), &modules, Some(b"INITRD")).unwrap());
    let Entry::Multiboot { info, .. } = entry.unwrap() else { panic!() };
    let field = |offset| number(&memory, u64::from(info) + offset);
    assert_eq!(field(0), 0b10_0100_1101);
    assert_eq!((field(4), field(8)), (639, 63 * 1024));
    assert_eq!(text(&memory, field(16)), "quiet");
    let list = field(24);
    let module = |index: u64| [0, 4, 8].map(|at| number(&memory, list + 16 * index + at));
    assert_eq!(field(20), 3);
    for (index, (data, words)) in
        [(&b"INITRD"[..], ""), (b"first", "one two"), (b"second", "")].into_iter().enumerate()
    {
        let [start, end, words_at] = module(index as u64);
        let mut bytes = vec![0; data.len()];
        memory.read(start, &mut bytes).unwrap();
        assert_eq!((bytes.as_slice(), end - start, start % 0x1000), (data, data.len() as u64, 0));
        assert_eq!(text(&memory, words_at), words);
        assert!(start >= 0x10_2000, "behind the kernel and its bss");
    }
    let (length, map) = (field(44), field(48));
    assert_eq!((length % 24, number(&memory, map)), (0, 20));
    let mut entries: Vec<(u64, u64)> = Vec::new();
    for at in (0..length).step_by(24) {
        entries.push((number(&memory, map + at + 4), number(&memory, map + at + 20)));
    }
    assert_eq!(entries[..3], [(0, 1), (0x9_FC00, 2), (0x10_0000, 1)]);
    assert_eq!((number(&memory, 0x40E) & 0xFFFF, number(&memory, 0x413) & 0xFFFF), (0x9FC0, 639));
    let mut loader = [0; 8];
    memory.read(field(64), &mut loader).unwrap();
    assert_eq!(loader, LOADER);
}

#[test]
fn headers_that_lie_are_refused() {
    let damaged = |image: &[u8]| matches!(open(image), Err(BootError::Damaged { .. }));
    // Header, load, load end, bss end and entry addresses.
    for (offset, value) in [
        (0x4C, 0x0F_FFFF),
        (0x4C, 0x10_1000),
        (0x50, 0x0F_F000),
        (0x50, 0x20_0000),
        (0x54, 0x0F_FFFF),
        (0x54, 0x10_0801),
        (0x54, u32::MAX),
        (0x58, 0x10_0001),
        (0x5C, 0x30_0000),
        (0x5C, 0),
    ] {
        let mut image = kludge();
        put(&mut image, offset, &[value]);
        assert!(damaged(&image), "{offset:#x} {value:#x}");
    }
    assert!(damaged(&kludge()[..0x58]), "the header is cut off");
    // Entry; then offset, address, size in the file and size of the segment; then where the program headers are.
    for (offset, value) in [
        (0x18, 0),
        (56, 0xFFFF_FFFF),
        (56, 0x801),
        (64, 0xF_0000),
        (68, 0x2001),
        (68, 0xFFFF_FFFF),
        (0x1C, 0xFFFF_FFF0),
        (0x2A, 0x0001_0028),
        (0x2A, 0x0081_0020),
        (0x2A, 0x0000_0020),
        (52, 2),
        (0x10, 0x0008_0002),
    ] {
        let mut image = elf();
        put(&mut image, offset, &[value]);
        assert!(damaged(&image), "{offset:#x} {value:#x}");
    }
    let mut demanding = kludge();
    put(&mut demanding, 0x44, &[0x1_0013, 0u32.wrapping_sub(MAGIC).wrapping_sub(0x1_0013)]);
    assert!(damaged(&demanding), "a requirement that nobody knows");
    let mut sizes = elf();
    put(&mut sizes, 72, &[0xFFFF_FFFF]);
    assert!(matches!(load(&open(&sizes).unwrap()).1, Err(BootError::TooLarge { .. })));
    let big = vec![0; usize::try_from(RAM).unwrap()];
    assert!(matches!(
        load(&open_with(&elf(), &[(&big, "")], None).unwrap()).1,
        Err(BootError::TooLarge { .. })
    ));
    let mut raw = kludge();
    put(&mut raw, 0x44, &[3, 0u32.wrapping_sub(MAGIC).wrapping_sub(3)]);
    assert!(matches!(open(&raw), Err(BootError::NotAKernel { hint, .. }) if hint.contains("multiboot")));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Any change of a few bytes in a header is either refused or loads within RAM; nothing panics or runs away.
    #[test]
    fn headers_with_random_bytes_never_panic(
        is_elf in any::<bool>(),
        changes in prop::collection::vec((0usize..0x80, any::<u8>()), 1..12),
        cut in 0usize..0x1000,
    ) {
        let mut image = if is_elf { elf() } else { kludge() };
        for (offset, value) in changes {
            // What makes the file one of its kind stays, or nearly all cases end there.
            if offset >= 8 && !(0x40..0x4C).contains(&offset) {
                image[offset] = value;
            }
        }
        if cut < 0x800 {
            image.truncate(cut.max(1));
        }
        fuzz(&image);
    }

    #[test]
    fn a_header_is_found_wherever_it_is_aligned(at in 0usize..0x7FC) {
        let mut image = vec![0; 0x1FF4 + 0x800];
        let checksum = 0u32.wrapping_sub(MAGIC);
        put(&mut image, 4 * at, &[MAGIC, 0, checksum]);
        prop_assert_eq!(header_at(&image), (4 * at + 12 <= SEARCHED).then_some(4 * at));
    }
}
