//! The network device against a link that is two lists of frames.

use std::collections::VecDeque;
use std::sync::Mutex;

use super::*;
use crate::spec::virtio::net::TX_QUEUE;
use crate::vmm::virtio::testing::{Bench, Descriptor, hostile};

#[derive(Default)]
struct Wire {
    to_guest: Mutex<VecDeque<Vec<u8>>>,
    from_guest: Mutex<Vec<Vec<u8>>>,
    offload: Mutex<Option<Offload>>,
}

impl Link for Wire {
    fn receive(&self, frame: &mut [u8]) -> io::Result<usize> {
        let next = self.to_guest.lock().unwrap().pop_front().ok_or(io::ErrorKind::WouldBlock)?;
        frame[..next.len()].copy_from_slice(&next);
        Ok(next.len())
    }
    fn send(&self, pieces: &[vm_memory::VolatileSlice<'_>]) -> io::Result<usize> {
        let mut frame = Vec::new();
        for piece in pieces {
            let mut bytes = vec![0; piece.len()];
            piece.copy_to(&mut bytes[..]);
            frame.extend(bytes);
        }
        self.from_guest.lock().unwrap().push(frame);
        Ok(0)
    }
    fn set_offload(&self, offload: Offload) -> io::Result<()> {
        *self.offload.lock().unwrap() = Some(offload);
        Ok(())
    }
    fn event(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

const MAC: [u8; 6] = [0x52, 0x54, 0, 1, 2, 3];

fn bench(features: u64) -> (Bench, Arc<Wire>) {
    let wire = Arc::new(Wire::default());
    let net = Net::new("virtio-net(test)".to_owned(), Arc::clone(&wire) as Arc<dyn Link>, MAC);
    (Bench::new(&net, features), wire)
}

fn frame(length: usize) -> Vec<u8> {
    (0..HEADER + length).map(|i| if i < HEADER { 0 } else { i.to_le_bytes()[0] }).collect()
}

#[test]
fn frames_from_the_guest_leave_whole_whatever_their_pieces() {
    let (mut bench, wire) = bench(0);
    let sent = frame(100);
    let address = bench.text(&sent);
    let chain =
        [Descriptor::read(address, 7), Descriptor::read(address + 7, 20), Descriptor::read(address + 27, 85)];
    assert_eq!(bench.request(TX_QUEUE, &chain), 0);
    assert_eq!(*wire.from_guest.lock().unwrap(), [sent]);
}

#[test]
fn frames_without_content_and_giants_are_dropped() {
    let (mut bench, wire) = bench(0);
    let data = bench.buffer(MAX_BYTES + 1);
    for length in [1, HEADER, MAX_BYTES + 1] {
        bench.request(TX_QUEUE, &[Descriptor::read(data, u32::try_from(length).unwrap())]);
    }
    bench.request(TX_QUEUE, &[Descriptor::write(data, 100)]);
    assert!(wire.from_guest.lock().unwrap().is_empty());
    bench.request(TX_QUEUE, &[Descriptor::read(data, u32::try_from(MAX_BYTES).unwrap())]);
    assert_eq!(wire.from_guest.lock().unwrap().len(), 1);
}

#[test]
fn a_received_frame_spans_merged_buffers() {
    let (mut bench, wire) = bench(feature::MRG_RXBUF);
    wire.to_guest.lock().unwrap().push_back(frame(88));
    let data = bench.buffer(4096);
    for i in 0..3 {
        bench.offer(RX_QUEUE, &[Descriptor::write(data + 64 * i, 40)]);
    }
    bench.process(RX_QUEUE).unwrap();
    assert_eq!(bench.used(RX_QUEUE), 3);
    let lengths = [0, 1, 2].map(|i| bench.rings[RX_QUEUE].used_length(&bench.memory, i));
    assert_eq!(lengths, [40, 40, 20]);
    assert_eq!(bench.bytes(data + 10, 2), [3, 0]);
    assert_eq!(bench.bytes(data + 64, 40), frame(88)[40..80]);
}

#[test]
fn a_frame_waits_for_enough_buffers_and_none_is_lost() {
    let (mut bench, wire) = bench(feature::MRG_RXBUF);
    wire.to_guest.lock().unwrap().extend([frame(68), frame(20)]);
    let data = bench.buffer(4096);
    bench.offer(RX_QUEUE, &[Descriptor::write(data, 40)]);
    bench.process(RX_QUEUE).unwrap();
    assert_eq!(bench.used(RX_QUEUE), 0);
    bench.offer(RX_QUEUE, &[Descriptor::write(data + 64, 40)]);
    bench.offer(RX_QUEUE, &[Descriptor::write(data + 128, 40)]);
    bench.process(RX_QUEUE).unwrap();
    assert_eq!(bench.used(RX_QUEUE), 3);
    assert_eq!(bench.bytes(data + 128 + 12, 20), frame(20)[12..]);
}

#[test]
fn without_merging_a_frame_that_does_not_fit_is_dropped_and_the_buffer_kept() {
    let (mut bench, wire) = bench(0);
    wire.to_guest.lock().unwrap().extend([frame(100), frame(20)]);
    let data = bench.buffer(4096);
    bench.offer(RX_QUEUE, &[Descriptor::write(data, 40)]);
    bench.process(RX_QUEUE).unwrap();
    assert_eq!(bench.used(RX_QUEUE), 1);
    assert_eq!(bench.bytes(data + 10, 22), [&[1, 0], &frame(20)[12..]].concat());
}

#[test]
fn offloads_follow_what_was_negotiated() {
    let tso = feature::GUEST_TSO4 | feature::GUEST_TSO6;
    for (features, expected) in [
        (0, Offload::empty()),
        (tso, Offload::empty()),
        (feature::GUEST_CSUM, Offload::CHECKSUM),
        (feature::GUEST_CSUM | tso, Offload::CHECKSUM | Offload::TSO4 | Offload::TSO6),
    ] {
        let (_, wire) = bench(features);
        assert_eq!(*wire.offload.lock().unwrap(), Some(expected), "{features:#x}");
    }
}

#[test]
fn the_configuration_shows_mac_and_link() {
    let net = Net::new(String::new(), Arc::new(Wire::default()), MAC);
    let mut registers = [0; 10];
    net.read_config(0, &mut registers);
    assert_eq!(registers, [0x52, 0x54, 0, 1, 2, 3, 1, 0, 0, 0]);
}

#[test]
fn mac_addresses_are_unicast_and_whole() {
    assert_eq!(parse_mac("52:54:00:01:02:03"), Some(MAC));
    for text in [
        "",
        "52:54:00:01:02",
        "52:54:00:01:02:03:04",
        "53:54:00:01:02:03",
        "5:54:0:01:02:03",
        "00:00:00:00:00:00",
    ] {
        assert_eq!(parse_mac(text), None, "{text}");
    }
}

#[test]
fn default_macs_are_stable_local_and_differ_by_host_and_tap() {
    let mac = default_mac(b"host", "tap0");
    assert_eq!(mac, default_mac(b"host", "tap0"));
    assert_eq!(mac[0], 0x02);
    assert!(mac != default_mac(b"host", "tap1") && mac != default_mac(b"other", "tap0"));
}

#[test]
fn hostile_chains_are_survived() {
    for features in [0, feature::MRG_RXBUF] {
        hostile(|| {
            let (bench, wire) = bench(features);
            wire.to_guest.lock().unwrap().extend((0..300).map(|i| frame(1 + i * 7)));
            bench
        });
    }
}
