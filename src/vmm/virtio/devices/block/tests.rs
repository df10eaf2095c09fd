//! The block device against images on disk and against disks that fail.

use std::sync::Mutex;

use super::*;
use crate::vmm::virtio::testing::{Bench, Descriptor, hostile};

const ALL: u64 = feature::SEG_MAX | feature::FLUSH | feature::DISCARD | feature::WRITE_ZEROES;

/// A driver of a disk of 64 sectors, sector n filled with byte n.
struct Driver {
    bench: Bench,
    image: tempfile::NamedTempFile,
}

fn image() -> tempfile::NamedTempFile {
    let image = tempfile::NamedTempFile::new().unwrap();
    let content: Vec<u8> = (0..64u8).flat_map(|sector| [sector; 512]).collect();
    std::fs::write(image.path(), content).unwrap();
    image
}

fn config(image: &tempfile::NamedTempFile, readonly: bool) -> BlockConfig {
    BlockConfig {
        path: image.path().to_owned(),
        format: ImageFormat::Raw,
        readonly,
        serial: Some("serial-7".to_owned()),
    }
}

impl Driver {
    fn new(features: u64, readonly: bool) -> Self {
        let image = image();
        let block = Block::open(&config(&image, readonly)).unwrap();
        Self { bench: Bench::new(&block, features), image }
    }

    fn header(&mut self, kind: u32, sector: u64) -> Descriptor {
        let mut header = kind.to_le_bytes().to_vec();
        header.extend([0; 4]);
        header.extend(sector.to_le_bytes());
        Descriptor::read(self.bench.text(&header), 16)
    }

    /// Header, data and status; returns the status byte.
    fn request(&mut self, kind: u32, sector: u64, data: &[Descriptor]) -> u8 {
        let mut chain = vec![self.header(kind, sector)];
        chain.extend(data);
        let status = self.bench.text(&[0xEE]);
        chain.push(Descriptor::write(status, 1));
        self.bench.request(0, &chain);
        self.bench.bytes(status, 1)[0]
    }

    fn ranges(&mut self, kind: u32, ranges: &[(u64, u32, u32)]) -> u8 {
        let bytes: Vec<u8> = ranges
            .iter()
            .flat_map(|(sector, count, flags)| {
                let mut segment = sector.to_le_bytes().to_vec();
                segment.extend(count.to_le_bytes());
                segment.extend(flags.to_le_bytes());
                segment
            })
            .collect();
        let data = Descriptor::read(self.bench.text(&bytes), u32::try_from(bytes.len()).unwrap());
        self.request(kind, 0, &[data])
    }

    fn image(&self, sector: usize, length: usize) -> Vec<u8> {
        std::fs::read(self.image.path()).unwrap()[sector * 512..sector * 512 + length].to_vec()
    }
}

#[test]
fn reads_and_writes_round_trip_through_scattered_buffers() {
    let mut driver = Driver::new(ALL, false);
    let data = driver.bench.text(&[0xAB; 700]);
    let rest = driver.bench.text(&[0xCD; 324]);
    let out = [Descriptor::read(data, 700), Descriptor::read(rest, 324)];
    assert_eq!(driver.request(request::OUT, 3, &out), status::OK);
    assert_eq!(driver.image(3, 1024), [vec![0xAB; 700], vec![0xCD; 324]].concat());
    let (back, small) = (driver.bench.buffer(2000), driver.bench.buffer(48));
    let input = [Descriptor::write(small, 48), Descriptor::write(back, 2000)];
    assert_eq!(driver.request(request::IN, 2, &input), status::OK);
    assert_eq!(driver.bench.bytes(small, 48), [2; 48]);
    assert_eq!(driver.bench.bytes(back + 463, 3), [2, 0xAB, 0xAB]);
    assert_eq!(driver.bench.bytes(back + 2000 - 1, 1), [5]);
}

#[test]
fn data_and_status_may_share_a_buffer_and_the_header_may_be_split() {
    let mut driver = Driver::new(ALL, false);
    let header = driver.header(request::IN, 9);
    let buffer = driver.bench.buffer(513);
    let chain = [
        Descriptor::read(header.address, 5),
        Descriptor::read(header.address + 5, 11),
        Descriptor::write(buffer, 513),
    ];
    assert_eq!(driver.bench.request(0, &chain), 513);
    assert_eq!(driver.bench.bytes(buffer, 513), [vec![9; 512], vec![status::OK]].concat());
}

#[test]
fn requests_outside_of_the_disk_or_of_half_sectors_fail() {
    let mut driver = Driver::new(ALL, false);
    let data = driver.bench.buffer(1024);
    for kind in [request::IN, request::OUT] {
        let buffer = |length| match kind {
            request::IN => Descriptor::write(data, length),
            _ => Descriptor::read(data, length),
        };
        for (sector, length) in [
            (64, 512),
            (63, 1024),
            (0, 511),
            (0, 513),
            (u64::MAX, 512),
            (u64::MAX / 512, 1024),
            (1 << 55, 512),
        ] {
            assert_eq!(driver.request(kind, sector, &[buffer(length)]), status::IOERR, "{sector} {length}");
        }
        assert_eq!(driver.request(kind, 63, &[buffer(512)]), status::OK);
        assert_eq!(driver.request(kind, 64, &[]), status::OK);
    }
}

#[test]
fn a_read_only_disk_refuses_everything_that_writes() {
    let mut driver = Driver::new(feature::RO | ALL, true);
    let data = driver.bench.buffer(512);
    assert_eq!(driver.request(request::OUT, 0, &[Descriptor::read(data, 512)]), status::IOERR);
    assert_eq!(driver.ranges(request::DISCARD, &[(0, 8, 0)]), status::IOERR);
    assert_eq!(driver.ranges(request::WRITE_ZEROES, &[(0, 8, 0)]), status::IOERR);
    assert_eq!(driver.request(request::IN, 1, &[Descriptor::write(data, 512)]), status::OK);
    assert_eq!(driver.image(0, 512), [0; 512]);
    let block = Block::open(&config(&driver.image, true)).unwrap();
    assert_eq!(block.features() & (feature::RO | feature::DISCARD), feature::RO);
}

#[test]
fn identity_flush_and_unknown_requests() {
    let mut driver = Driver::new(ALL, false);
    let id = driver.bench.buffer(20);
    assert_eq!(driver.request(request::GET_ID, 0, &[Descriptor::write(id, 20)]), status::OK);
    assert_eq!(&driver.bench.bytes(id, 9), b"serial-7\0");
    assert_eq!(driver.request(request::FLUSH, 0, &[]), status::OK);
    assert_eq!(driver.request(99, 0, &[]), status::UNSUPP);
}

#[test]
fn zeroes_and_discards_keep_to_the_limits_that_are_announced() {
    let mut driver = Driver::new(ALL, false);
    assert_eq!(driver.ranges(request::WRITE_ZEROES, &[(1, 1, 0), (3, 2, request::UNMAP)]), status::OK);
    assert_eq!((driver.image(1, 512), driver.image(3, 1024)), (vec![0; 512], vec![0; 1024]));
    assert_eq!((driver.image(2, 512), driver.image(5, 512)), (vec![2; 512], vec![5; 512]));
    assert_eq!(driver.ranges(request::DISCARD, &[(8, 8, 0)]), status::OK);
    assert_eq!(driver.image(16, 512), [16; 512]);
    for (kind, range, expected) in [
        (request::WRITE_ZEROES, (0, MAX_WRITE_ZEROES_SECTORS + 1, 0), status::IOERR),
        (request::DISCARD, (0, MAX_DISCARD_SECTORS + 1, 0), status::IOERR),
        (request::WRITE_ZEROES, (u64::MAX, u32::MAX, 0), status::IOERR),
        (request::WRITE_ZEROES, (60, 5, 0), status::IOERR),
        (request::WRITE_ZEROES, (u64::MAX, 1, 0), status::IOERR),
        (request::DISCARD, (0, 8, request::UNMAP), status::UNSUPP),
        (request::WRITE_ZEROES, (0, 8, 2), status::UNSUPP),
        (request::WRITE_ZEROES, (0, 0, 0), status::OK),
    ] {
        assert_eq!(driver.ranges(kind, &[range]), expected, "{kind} {range:?}");
    }
    let many = vec![(0, 1, 0); MAX_RANGES as usize + 1];
    assert_eq!(driver.ranges(request::DISCARD, &many), status::IOERR);
    assert_eq!(driver.image(0, 512), [0; 512], "nothing was carried out in part");
    let odd = driver.bench.buffer(24);
    assert_eq!(driver.request(request::DISCARD, 0, &[Descriptor::read(odd, 24)]), status::IOERR);
}

#[test]
fn more_segments_than_announced_are_refused() {
    let mut driver = Driver::new(ALL, false);
    let data = driver.bench.buffer(512);
    let segments = |count: u32| vec![Descriptor::write(data, 2); count as usize];
    let mut fits = segments(MAX_SEGMENTS);
    fits.push(Descriptor::write(data, 4));
    assert_eq!(fits.len(), 255);
    let header = driver.header(request::IN, 0);
    fits.truncate(253);
    fits.push(Descriptor::write(data, 6));
    assert_eq!(driver.request(request::IN, 0, &fits), status::OK);
    // 255 data buffers fit into a ring of 256 only if the status shares the last one
    let mut many = vec![header];
    many.extend(segments(254));
    let last = driver.bench.buffer(8);
    many.push(Descriptor::write(last, 5));
    driver.bench.request(0, &many);
    assert_eq!(driver.bench.bytes(last + 4, 1), [status::IOERR]);
}

#[test]
fn a_request_without_a_status_byte_ends_the_queue() {
    let mut driver = Driver::new(ALL, false);
    let header = driver.header(request::IN, 0);
    driver.bench.offer(0, &[header]);
    assert!(matches!(driver.bench.process(0), Err(QueueError::Request { .. })));
}

#[test]
fn a_short_header_is_answered_with_an_error() {
    let mut driver = Driver::new(ALL, false);
    let (header, status) = (driver.bench.buffer(16), driver.bench.text(&[0xEE]));
    driver.bench.request(0, &[Descriptor::read(header, 15), Descriptor::write(status, 1)]);
    assert_eq!(driver.bench.bytes(status, 1), [status::IOERR]);
}

/// Fails every call with `ENOSPC` while told to, and counts flushes.
#[derive(Default)]
struct Failing {
    fail: Mutex<bool>,
    flushes: Mutex<u32>,
}

impl Failing {
    fn answer(&self) -> io::Result<()> {
        if *self.fail.lock().unwrap() { Err(io::Error::from_raw_os_error(libc::ENOSPC)) } else { Ok(()) }
    }
}

impl Disk for Failing {
    fn capacity_bytes(&self) -> u64 {
        1 << 20
    }
    fn is_read_only(&self) -> bool {
        false
    }
    fn read(&self, _: &[vm_memory::VolatileSlice<'_>], _: u64) -> io::Result<()> {
        self.answer()
    }
    fn write(&self, _: &[vm_memory::VolatileSlice<'_>], _: u64) -> io::Result<()> {
        self.answer()
    }
    fn flush(&self) -> io::Result<()> {
        *self.flushes.lock().unwrap() += 1;
        self.answer()
    }
    fn discard(&self, _: u64, _: u64) -> io::Result<()> {
        self.answer()
    }
    fn write_zeroes(&self, _: u64, _: u64, _: ZeroedSpace) -> io::Result<()> {
        self.answer()
    }
}

fn failing(features: u64) -> (Driver, Arc<Failing>) {
    let disk = Arc::new(Failing::default());
    let block = Block::new("virtio-block(test)".to_owned(), Arc::clone(&disk) as Arc<dyn Disk>, "");
    (Driver { bench: Bench::new(&block, features), image: image() }, disk)
}

#[test]
fn a_failing_host_is_reported_and_the_queue_goes_on() {
    let (mut driver, disk) = failing(ALL);
    let data = driver.bench.buffer(512);
    for fail in [false, true, false] {
        *disk.fail.lock().unwrap() = fail;
        let expected = if fail { status::IOERR } else { status::OK };
        assert_eq!(driver.request(request::IN, 0, &[Descriptor::write(data, 512)]), expected);
        assert_eq!(driver.request(request::OUT, 0, &[Descriptor::read(data, 512)]), expected);
        assert_eq!(driver.request(request::FLUSH, 0, &[]), expected);
        assert_eq!(driver.ranges(request::DISCARD, &[(0, 8, 0)]), expected);
        assert_eq!(driver.ranges(request::WRITE_ZEROES, &[(0, 8, 0)]), expected);
    }
}

#[test]
fn a_driver_without_flushes_gets_durable_writes() {
    for (features, flushes) in [(ALL, 0), (ALL & !feature::FLUSH, 1)] {
        let (mut driver, disk) = failing(features);
        let data = driver.bench.buffer(512);
        assert_eq!(driver.request(request::OUT, 0, &[Descriptor::read(data, 512)]), status::OK);
        assert_eq!(*disk.flushes.lock().unwrap(), flushes);
    }
}

#[test]
fn the_configuration_announces_the_limits() {
    let image = image();
    let block = Block::open(&config(&image, false)).unwrap();
    let mut registers = [0xFF; 0x40];
    registers[0x3C..].fill(0);
    block.read_config(0, &mut registers[..0x3C]);
    assert_eq!(registers[..8], 64u64.to_le_bytes());
    assert_eq!(registers[config::SEG_MAX..][..4], MAX_SEGMENTS.to_le_bytes());
    let mut tail = [0; 8];
    block.read_config(0x38, &mut tail);
    assert_eq!(tail, [1, 0, 0, 0, 0, 0, 0, 0]);
    block.read_config(usize::MAX, &mut tail);
}

#[test]
fn bad_serial_numbers_are_refused() {
    let image = image();
    for serial in ["123456789012345678901", "a b", "ü"] {
        let config = BlockConfig { serial: Some(serial.to_owned()), ..config(&image, true) };
        assert!(matches!(Block::open(&config), Err(VirtioError::Serial { .. })), "{serial}");
    }
}

#[test]
fn hostile_chains_are_survived() {
    let images = std::cell::RefCell::new(Vec::new());
    hostile(|| {
        let Driver { bench, image } = Driver::new(ALL, false);
        images.borrow_mut().push(image);
        bench
    });
}

#[test]
fn descriptors_that_change_while_the_device_works_do_no_harm() {
    let mut driver = Driver::new(ALL, false);
    let memory = Arc::clone(&driver.bench.memory);
    let table = driver.bench.rings[0].descriptors;
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let flipper = std::thread::spawn({
        let stop = Arc::clone(&stop);
        move || {
            let mut value = 0u8;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                value = value.wrapping_add(37);
                for offset in 0..64 {
                    let _ = memory.write(table + offset, &[value ^ offset.to_le_bytes()[0]]);
                }
            }
        }
    });
    for round in 0..2000u64 {
        let header = driver.header(request::IN, round % 64);
        let data = driver.bench.rings[0].descriptors + 0x100;
        driver.bench.offer(0, &[header, Descriptor::write(data, 512), Descriptor::write(data, 1)]);
        if driver.bench.process(0).is_err() {
            driver = Driver { bench: Driver::new(ALL, false).bench, image: driver.image };
        }
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    flipper.join().unwrap();
}
