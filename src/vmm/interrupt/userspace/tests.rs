//! Lines in, messages and the pair's output out; the life of a passed-through device's interrupt.

use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use super::*;

/// What the local APICs were given, and what they were told of inputs.
#[derive(Default)]
struct Recorder {
    taken: Mutex<Vec<u32>>,
    told: Mutex<Vec<(u8, bool)>>,
}

impl LocalApics for Recorder {
    fn take(&self, message: MsiMessage) -> bool {
        self.taken.lock().unwrap().push(message.data & 0xFF);
        true
    }
    fn tell_of_ends(&self, input: u8, message: Option<MsiMessage>) {
        self.told.lock().unwrap().push((input, message.is_some()));
    }
}

fn split() -> (Arc<Chips>, Arc<Recorder>) {
    let recorder = Arc::new(Recorder::default());
    (Chips::split(0, Arc::clone(&recorder) as _), recorder)
}

fn entry(chips: &Chips, input: u8, low: u32) {
    chips.write_ioapic(0, (0x10 + 2 * input).into());
    chips.write_ioapic(0x10, low);
}

/// The pair as a PC sets it up, with vectors from 20h and 28h on.
fn pair() -> Arc<Chips> {
    let chips = Chips::pair(1 << 10 | 1 << 11);
    for (chip, base, wiring) in [(ChipSelect::First, 0x20, 4), (ChipSelect::Second, 0x28, 2)] {
        chips.write_pic(chip, Register::Command, 0x11);
        for word in [base, wiring, 1, 0] {
            chips.write_pic(chip, Register::Data, word);
        }
    }
    chips
}

fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(10), "{what}");
        thread::yield_now();
    }
}

#[test]
fn the_processor_is_woken_once_for_each_time_that_the_pair_begins_to_ask() {
    let chips = pair();
    let woken = Arc::new(AtomicUsize::new(0));
    chips.on_asking({
        let woken = Arc::clone(&woken);
        move || {
            woken.fetch_add(1, Ordering::SeqCst);
        }
    });
    for _ in 0..2 {
        chips.set_level(4, true).unwrap();
        chips.set_level(4, false).unwrap();
    }
    assert!(chips.is_asking());
    assert_eq!(chips.acknowledge(), 0x24);
    assert!(!chips.is_asking());
    chips.write_pic(ChipSelect::First, Register::Command, 0x20);
    chips.set_level(10, true).unwrap();
    assert_eq!((chips.acknowledge(), woken.load(Ordering::SeqCst)), (0x2A, 2));
}

#[test]
fn the_timer_reaches_input_two_and_the_pair() {
    let (chips, recorder) = split();
    for (input, vector) in [(0, 0x30), (2, 0x32), (4, 0x34)] {
        entry(&chips, input, vector);
    }
    for gsi in [0, 2, 4] {
        chips.set_level(gsi, true).unwrap();
    }
    assert_eq!(*recorder.taken.lock().unwrap(), [0x32, 0x34]);
    assert!(chips.is_asking());
    assert!(chips.set_level(24, true).is_err());
}

#[test]
fn the_kernel_is_told_of_level_triggered_inputs_before_they_send() {
    let (chips, recorder) = split();
    chips.set_level(16, true).unwrap();
    entry(&chips, 16, 0x40 | 1 << 15);
    entry(&chips, 17, 0x41);
    assert_eq!(*recorder.told.lock().unwrap(), [(16, true), (17, false)]);
    assert_eq!(*recorder.taken.lock().unwrap(), [0x40]);
    chips.end_of_interrupt(0x40);
    assert_eq!(*recorder.taken.lock().unwrap(), [0x40, 0x40], "still high");
    chips.write_ioapic(0x40, 0x40);
    assert_eq!(recorder.taken.lock().unwrap().len(), 3, "the guest says so itself");
    chips.set_level(16, false).unwrap();
    chips.end_of_interrupt(0x40);
    chips.end_of_interrupt(0x99);
    assert_eq!(recorder.taken.lock().unwrap().len(), 3);
}

/// A device that keeps its interrupt up for `rounds` ends; `end` ends the interrupt that `pending` says there is.
fn passed_through(chips: &Arc<Chips>, gsi: u32, pending: impl Fn() -> bool, end: impl Fn()) {
    let (trigger, resample) = (EventFd::new(EFD_NONBLOCK).unwrap(), EventFd::new(EFD_NONBLOCK).unwrap());
    let connection = chips.connect(gsi, &trigger, &resample).unwrap();
    for round in 0..3 {
        assert!(!pending(), "{round}");
        trigger.write(1).unwrap();
        eventually("the guest sees the interrupt", &pending);
        assert!(resample.read().is_err(), "not before its end");
        end();
        resample.read().unwrap();
    }
    // Another device on the line keeps it up, and the device is asked all the same.
    chips.set_level(gsi, true).unwrap();
    trigger.write(1).unwrap();
    eventually("both", || chips.lock().wire(gsi).unwrap().connections[0].high);
    end();
    resample.read().unwrap();
    assert!(pending(), "the other one");
    chips.set_level(gsi, false).unwrap();
    end();
    trigger.write(1).unwrap();
    eventually("the last", || chips.lock().wire(gsi).unwrap().connections[0].high);
    drop(connection);
    assert!(!chips.lock().wire(gsi).unwrap().is_high(), "gone with its connection");
    end();
}

#[test]
fn a_passed_through_device_may_interrupt_again_after_the_end_at_the_io_apic() {
    let (chips, _) = split();
    entry(&chips, 16, 0x40 | 1 << 15);
    let pending = || !chips.lock().messages.as_ref().unwrap().ioapic.inputs_of(0x40).is_empty();
    passed_through(&chips, 16, pending, || chips.end_of_interrupt(0x40));
}

#[test]
fn a_passed_through_device_may_interrupt_again_after_the_end_at_the_pair() {
    let chips = pair();
    let end = || {
        if chips.is_asking() {
            assert_eq!(chips.acknowledge(), 0x2A);
        }
        chips.write_pic(ChipSelect::Second, Register::Command, 0x20);
        chips.write_pic(ChipSelect::First, Register::Command, 0x20);
    };
    passed_through(&chips, 10, || chips.is_asking(), end);
}

#[test]
fn a_reset_lets_passed_through_devices_go_and_masks_all() {
    let (chips, recorder) = split();
    entry(&chips, 16, 0x40 | 1 << 15);
    let (trigger, resample) = (EventFd::new(EFD_NONBLOCK).unwrap(), EventFd::new(EFD_NONBLOCK).unwrap());
    let _connection = chips.connect(16, &trigger, &resample).unwrap();
    trigger.write(1).unwrap();
    eventually("it interrupts", || !recorder.taken.lock().unwrap().is_empty());
    chips.reset();
    resample.read().unwrap();
    assert_eq!(chips.read_ioapic(0x10), Some(0));
    entry(&chips, 16, 0x40 | 1 << 15);
    assert_eq!(recorder.taken.lock().unwrap().len(), 1, "nothing is up");
}

#[test]
fn any_port_and_width_is_answered() {
    use crate::vmm::bus::Bus;
    let (chips, _) = split();
    let (pio, mmio) = (Bus::default(), Bus::default());
    super::super::ports::insert(&chips, &pio, &mmio).unwrap();
    let addresses = [0x20, 0x21, 0xA0, 0xA1, 0x4D0, 0x4D1].map(|port| (&pio, port));
    let registers = (0..0x40).map(|offset| (&mmio, 0xFEC0_0000 + offset));
    for (bus, address) in addresses.into_iter().chain(registers) {
        for length in 1..=8 {
            for value in [0, 0x0C, 0x11, 0x20, 0x55, 0xFF] {
                let _ = bus.write(address, &vec![value; length]);
                bus.read(address, &mut vec![0; length]);
            }
        }
    }
    let mut word = [0; 2];
    let _ = pio.write(0x4D0, &[0xFF, 0xFF]);
    pio.read(0x4D0, &mut word);
    assert_eq!(word, [0xF8, 0xDE], "a word is both ports");
}
