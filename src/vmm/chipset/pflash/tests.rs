//! The chip as firmware drives it, against a mapper that remembers, and swept with everything that a guest can write.

use std::io::Write;
use std::os::unix::fs::FileExt;

use proptest::prelude::*;
use tempfile::NamedTempFile;

use super::*;
use crate::vmm::pci::root::testing::FakeMapper;

const SIZE: u64 = 0x4000;
const ADDRESS: u64 = 0xFFC0_0000;

struct Bench {
    flash: Flash,
    mapper: FakeMapper,
    file: NamedTempFile,
}

fn bench() -> Bench {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(&vec![0x5A; usize::try_from(SIZE).unwrap()]).unwrap();
    let image = Image::copy(file.as_file(), 0, SIZE).unwrap().kept_in(file.reopen().unwrap());
    let mapper = FakeMapper::default();
    let flash = Flash::new(image, ADDRESS, Arc::new(mapper.clone())).unwrap();
    Bench { flash, mapper, file }
}

impl Bench {
    fn write(&self, offset: u64, bytes: &[u8]) {
        for byte in bytes {
            assert_eq!(self.flash.write(offset, AccessSize::Byte, u64::from(*byte)), Ok(Effects::empty()));
        }
    }

    fn read(&self, offset: u64) -> u64 {
        self.flash.read(offset, AccessSize::Byte).unwrap()
    }

    fn is_mapped(&self) -> bool {
        !self.mapper.0.lock().unwrap().is_empty()
    }

    fn kept(&self, offset: u64) -> u8 {
        let mut byte = [0];
        self.file.as_file().read_exact_at(&mut byte, offset).unwrap();
        byte[0]
    }
}

#[test]
fn what_firmware_programs_is_read_back_and_kept() {
    let bench = bench();
    assert!(bench.is_mapped());
    bench.write(0x10, &[0x50, 0x70]);
    assert!(!bench.is_mapped(), "reads come here while the chip shows its status");
    assert_eq!(bench.read(0x10), 0);
    bench.write(0x10, &[0xFF]);
    assert!(bench.is_mapped());
    bench.write(0x64, &[0x10, 0x70]);
    bench.write(0x65, &[0x10, 0xA5]);
    assert_eq!(bench.read(0x65), 0x80);
    bench.write(0x65, &[0xFF]);
    assert_eq!([0x63, 0x64, 0x65].map(|at| bench.read(at)), [0x5A, 0x70, 0xA5]);
    assert_eq!([0x63, 0x64, 0x65].map(|at| bench.kept(at)), [0x5A, 0x70, 0xA5]);
}

#[test]
fn one_block_is_erased() {
    let bench = bench();
    bench.write(0x1FFF, &[0x20, 0xD0, 0xFF]);
    assert_eq!([0xFFF, 0x1000, 0x1FFF, 0x2000].map(|at| bench.read(at)), [0x5A, 0xFF, 0xFF, 0x5A]);
    assert_eq!([0xFFF, 0x1000, 0x1FFF, 0x2000].map(|at| bench.kept(at)), [0x5A, 0xFF, 0xFF, 0x5A]);
}

#[test]
fn a_reset_shows_what_is_stored() {
    let bench = bench();
    bench.write(0, &[0x10, 1, 0x20]);
    bench.flash.reset();
    assert!(bench.is_mapped());
    assert_eq!(bench.read(0), 1);
    bench.write(0, &[0xD0]);
    assert_eq!(bench.read(0), 1, "the command before the reset is forgotten");
}

#[test]
fn a_file_that_takes_nothing_more_is_an_error_of_the_chip() {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(&vec![0x5A; usize::try_from(SIZE).unwrap()]).unwrap();
    let read_only = std::fs::File::open(file.path()).unwrap();
    let image = Image::copy(file.as_file(), 0, SIZE).unwrap().kept_in(read_only);
    let flash = Flash::new(image, ADDRESS, Arc::new(FakeMapper::default())).unwrap();
    for (bytes, status) in [([0x50, 0x10, 1], 0x90), ([0x50, 0x20, 0xD0], 0xA0)] {
        for byte in bytes {
            let _ = flash.write(0, AccessSize::Byte, byte);
        }
        assert_eq!(flash.read(0, AccessSize::Byte), Ok(status));
    }
    let _ = flash.write(0, AccessSize::Byte, 0xFF);
    assert_eq!(flash.read(0, AccessSize::Byte), Ok(0x5A), "what is not kept is not shown either");
}

#[test]
fn programming_across_the_end_fails_and_changes_nothing_outside() {
    let bench = bench();
    let _ = bench.flash.write(SIZE - 2, AccessSize::Byte, 0x10);
    let _ = bench.flash.write(SIZE - 2, AccessSize::Dword, 0x0102_0304);
    assert_eq!(bench.flash.read(0, AccessSize::Byte), Ok(0x90));
    assert_eq!(bench.file.as_file().metadata().unwrap().len(), SIZE);
}

proptest! {
    #[test]
    fn any_sequence_of_accesses_is_answered_and_stays_inside(
        accesses in proptest::collection::vec(
            (
                prop_oneof![0..SIZE, Just(SIZE - 1), Just(SIZE), Just(u64::MAX - 7), Just(u64::MAX)],
                0usize..4,
                prop_oneof![
                    prop::sample::select(vec![
                        0u64, 0x01, 0x03, 0x10, 0x20, 0x40, 0x50, 0x60, 0x70, 0x90, 0x98, 0xB0, 0xD0, 0xE8, 0xFF,
                    ]),
                    any::<u64>(),
                ],
                any::<bool>(),
            ),
            1..64,
        )
    ) {
        let bench = bench();
        for (offset, size, value, is_read) in accesses {
            let size = [AccessSize::Byte, AccessSize::Word, AccessSize::Dword, AccessSize::Qword][size];
            if is_read {
                let _ = bench.flash.read(offset, size);
            } else {
                let _ = bench.flash.write(offset, size, value & size.ones());
            }
        }
        prop_assert_eq!(bench.file.as_file().metadata().unwrap().len(), SIZE);
        bench.flash.reset();
        prop_assert!(bench.is_mapped());
    }
}
