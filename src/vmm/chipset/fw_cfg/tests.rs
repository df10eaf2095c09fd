//! The device as firmware reads it, and swept with everything that a guest can write.

use std::io::Write;

use proptest::prelude::*;

use super::*;

const RAM: u64 = 16 << 20;
const REQUEST: u64 = 0x1000;
const TARGET: u64 = 0x2000;

fn device() -> FwCfg {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"..initrd..").unwrap();
    let mut items = Items::default();
    items.item(key::CPU_COUNT, 2u16.to_le_bytes().to_vec());
    items.item(key::INITRD_DATA, Content::File { file: Arc::new(file), offset: 2, length: 6 });
    items.file("etc/table-loader", vec![7; 128]);
    items.file("bootorder", b"/pci@i0cf8/scsi@1/disk@0,0\0".to_vec());
    FwCfg::new(items, Arc::new(GuestMemory::new(RAM).unwrap()))
}

fn select(device: &FwCfg, key: u16) {
    let _ = device.write(register::SELECTOR, AccessSize::Word, key.into()).unwrap();
}

fn bytes(device: &FwCfg, count: usize) -> Vec<u8> {
    (0..count)
        .map(|_| u8::try_from(device.read(register::DATA, AccessSize::Byte).unwrap()).unwrap())
        .collect()
}

/// Makes a request; what stands in its control word then.
fn request(device: &FwCfg, control: u32, length: u32, target: u64) -> u32 {
    let mut bytes = [control.to_be_bytes(), length.to_be_bytes()].concat();
    bytes.extend(target.to_be_bytes());
    device.memory.write(REQUEST, &bytes).unwrap();
    let low = u32::from_be_bytes(u32::try_from(REQUEST).unwrap().to_le_bytes());
    let _ = device.write(register::DMA_HIGH, AccessSize::Dword, 0).unwrap();
    let _ = device.write(register::DMA_LOW, AccessSize::Dword, low.into()).unwrap();
    let mut answer = [0; 4];
    device.memory.read(REQUEST, &mut answer).unwrap();
    u32::from_be_bytes(answer)
}

fn copied(device: &FwCfg, count: usize) -> Vec<u8> {
    let mut data = vec![0; count];
    device.memory.read(TARGET, &mut data).unwrap();
    data
}

#[test]
fn it_is_found_by_its_signatures() {
    let device = device();
    select(&device, key::SIGNATURE);
    assert_eq!(bytes(&device, 6), b"QEMU\0\0");
    select(&device, key::ID);
    assert_eq!(bytes(&device, 4), [3, 0, 0, 0]);
    let read = |offset| device.read(offset, AccessSize::Dword).unwrap();
    assert_eq!(read(4), u64::from(u32::from_le_bytes(*b"QEMU")));
    assert_eq!(read(8), u64::from(u32::from_le_bytes(*b" CFG")));
}

#[test]
fn the_directory_names_files_in_order_with_length_and_key() {
    let device = device();
    select(&device, key::DIRECTORY);
    assert_eq!(bytes(&device, 4), [0, 0, 0, 2]);
    let entries: Vec<Vec<u8>> = (0..2).map(|_| bytes(&device, 64)).collect();
    assert_eq!(entries[0][..8], [0, 0, 0, 27, 0, 0x20, 0, 0]);
    assert!(entries[0][8..].starts_with(b"bootorder\0"));
    assert_eq!(entries[1][..8], [0, 0, 0, 128, 0, 0x21, 0, 0]);
    select(&device, 0x20);
    assert!(bytes(&device, 27).starts_with(b"/pci@i0cf8"));
}

#[test]
fn a_request_copies_what_is_selected_and_zeros_behind_it() {
    let device = device();
    device.memory.write(TARGET, &[0xFF; 16]).unwrap();
    let select = u32::from(key::INITRD_DATA) << 16 | control::SELECT | control::READ;
    assert_eq!(request(&device, select, 4, TARGET), 0);
    assert_eq!(copied(&device, 5), b"init\xFF");
    assert_eq!(request(&device, control::READ, 4, TARGET), 0);
    assert_eq!(copied(&device, 5), b"rd\0\0\xFF");
    assert_eq!(request(&device, u32::from(key::INITRD_DATA) << 16 | control::SELECT, 0, 0), 0);
    assert_eq!(request(&device, control::SKIP, 3, 0), 0);
    assert_eq!(bytes(&device, 4), b"trd\0");
}

#[test]
fn writing_and_memory_that_is_none_are_errors() {
    let device = device();
    assert_eq!(request(&device, control::WRITE, 4, TARGET), control::ERROR);
    for target in [RAM, RAM - 2, u64::MAX, 0xB000_0000] {
        assert_eq!(request(&device, control::READ, 4, target), control::ERROR);
    }
    assert_eq!(request(&device, control::READ, u32::MAX, 0x10_0000), control::ERROR);
    // A request that lies nowhere is nobody's.
    let _ = device.write(register::DMA_HIGH, AccessSize::Qword, u64::MAX).unwrap();
}

#[test]
fn items_that_are_not_there_read_as_zeros() {
    let device = device();
    for key in [0x7FFF, 0xFFFF, 0x0D, 0x22] {
        select(&device, key);
        assert_eq!(bytes(&device, 3), [0; 3]);
        assert_eq!(request(&device, u32::from(key) << 16 | control::SELECT | control::READ, 8, TARGET), 0);
        assert_eq!(copied(&device, 8), [0; 8]);
    }
}

#[test]
fn every_register_answers_every_width_and_value() {
    let device = device();
    for offset in (0..24).chain([u64::MAX - 3, u64::MAX]) {
        for size in [AccessSize::Byte, AccessSize::Word, AccessSize::Dword, AccessSize::Qword] {
            for value in [0, 1, 0x19, 0x8000, 0x1000_0000, u64::MAX, 0x0010_0000_0000_0000] {
                let _ = device.write(offset, size, value & size.ones());
                let _ = device.read(offset, size);
            }
        }
    }
    for selector in 0..=u16::MAX {
        select(&device, selector);
        let _ = bytes(&device, 2);
    }
}

proptest! {
    #[test]
    fn any_request_is_answered(control: u32, length: u32, target: u64, near in 0u64..64) {
        let device = device();
        request(&device, control, length, target);
        request(&device, control | control::READ, length % 0x2_0000, RAM - near);
        request(&device, control | control::SKIP, length, u64::MAX - near);
        request(&device, control | control::READ, length % 0x2_0000, TARGET);
    }
}
