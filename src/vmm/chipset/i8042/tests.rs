//! The controller by its ports, as drivers use it.

use proptest::prelude::*;

use super::*;
use crate::vmm::chipset::clock::testing::Recorder;

struct Bench {
    device: Arc<I8042>,
    bus: Bus,
    lines: Arc<Recorder>,
}

fn bench() -> Bench {
    let lines = Arc::new(Recorder::default());
    let device = Arc::new(I8042::new(lines.line(KEYBOARD_GSI), lines.line(MOUSE_GSI)));
    let bus = Bus::default();
    device.insert(&bus).unwrap();
    Bench { device, bus, lines }
}

impl Bench {
    fn data(&self, value: u8) -> Effects {
        self.bus.write(0x60, &[value])
    }

    fn command(&self, value: u8) -> Effects {
        self.bus.write(0x64, &[value])
    }

    fn in8(&self, port: u64) -> u8 {
        let mut byte = [0];
        self.bus.read(port, &mut byte);
        byte[0]
    }

    /// Reads as long as there is something, whether it is the mouse's, and what.
    fn all(&self) -> Vec<(bool, u8)> {
        let mut all = Vec::new();
        loop {
            let status = self.in8(0x64);
            if status & 1 == 0 {
                return all;
            }
            all.push((status & 0x20 != 0, self.in8(0x60)));
        }
    }

    fn answer(&self, command: u8) -> Vec<(bool, u8)> {
        let _ = self.command(command);
        self.all()
    }
}

#[test]
fn commands_of_the_controller_are_answered() {
    let bench = bench();
    assert_eq!(bench.in8(0x64), 0x14, "nothing there, the keyboard not locked");
    for (command, answer) in
        [(0x20, 0x65), (0xAA, 0x55), (0xA9, 0), (0xAB, 0), (0xD0, 0xC3), (0xC0, 0x80), (0xE0, 0)]
    {
        assert_eq!(bench.answer(command), [(false, answer)], "{command:#x}");
        assert_eq!(bench.in8(0x64) & 8, 8, "the last byte was a command");
    }
    assert_eq!(bench.answer(0xA8), []);
    assert_eq!(bench.answer(0x20), [(false, 0x45)]);
    assert_eq!(bench.answer(0xAD), []);
    assert_eq!(bench.answer(0x20), [(false, 0x55)]);
    let _ = (bench.command(0x60), bench.data(0x47), bench.command(0x65), bench.data(0xA5));
    assert_eq!([bench.answer(0x20), bench.answer(0x25)], [[(false, 0x47)], [(false, 0xA5)]]);
}

#[test]
fn both_loopbacks_interrupt_as_the_device_that_they_stand_for() {
    let bench = bench();
    let _ = (bench.command(0x60), bench.data(0x43));
    let _ = (bench.command(0xD2), bench.data(0x12));
    assert_eq!((bench.lines.take(), bench.all()), (vec![(1, true)], vec![(false, 0x12)]));
    let _ = (bench.command(0xD3), bench.data(0x34));
    assert_eq!(
        (bench.lines.take(), bench.all(), bench.lines.take()),
        (vec![(1, false), (12, true)], vec![(true, 0x34)], vec![(12, false)])
    );
}

#[test]
fn resets_come_by_pulse_and_by_the_output_port_and_a20_is_kept() {
    let bench = bench();
    for (command, effects) in
        [(0xFE, Effects::RESET), (0xF0, Effects::RESET), (0xFF, Effects::empty()), (0xFD, Effects::empty())]
    {
        assert_eq!(bench.command(command), effects, "{command:#x}");
    }
    let _ = bench.command(0xD1);
    assert_eq!(bench.data(0xDE), Effects::RESET);
    let _ = bench.command(0xD1);
    assert_eq!(bench.data(0xDD), Effects::empty());
    assert_eq!(bench.answer(0xD0), [(false, 0xC1)]);
    let _ = bench.command(0xDF);
    assert_eq!(bench.answer(0xD0), [(false, 0xC3)]);
}

#[test]
fn keys_come_translated_one_interrupt_for_each_byte() {
    let bench = bench();
    bench.device.strike(Key::A, Stroke::Press);
    bench.device.strike(Key::UP, Stroke::Release);
    assert_eq!(bench.all(), [(false, 0x1E), (false, 0xE0), (false, 0xC8)]);
    assert_eq!(bench.lines.take(), [(1, true), (1, false)].repeat(3));
    bench.device.strike(Key::PAUSE, Stroke::Press);
    let codes: Vec<u8> = bench.all().into_iter().map(|(_, byte)| byte).collect();
    assert_eq!(codes, [0xE1, 0x1D, 0x45, 0xE1, 0x9D, 0xC5]);
    let _ = (bench.command(0x60), bench.data(0x25));
    bench.device.strike(Key::A, Stroke::Release);
    assert_eq!(bench.all(), [(false, 0xF0), (false, 0x1C)], "set 2 as it is");
    let _ = bench.data(0xED);
    let _ = bench.data(0x02);
    assert_eq!((bench.all(), bench.device.leds()), (vec![(false, 0xFA), (false, 0xFA)], 2));
}

#[test]
fn keys_wait_while_the_port_is_off_and_a_byte_to_the_keyboard_turns_it_on() {
    let bench = bench();
    let _ = bench.command(0xAD);
    bench.device.strike(Key::A, Stroke::Press);
    assert_eq!(bench.all(), []);
    let _ = bench.data(0xEE);
    assert_eq!(bench.all(), [(false, 0x1E), (false, 0xEE)]);
}

#[test]
fn the_mouse_is_set_up_as_linux_does_and_moves_with_its_wheel() {
    let bench = bench();
    let _ = (bench.command(0x60), bench.data(0x47));
    let to_mouse = |byte: u8| {
        let _ = (bench.command(0xD4), bench.data(byte));
        bench.all()
    };
    assert_eq!(to_mouse(0xFF), [(true, 0xFA), (true, 0xAA), (true, 0)]);
    for rate in [200, 100, 80] {
        assert_eq!([to_mouse(0xF3), to_mouse(rate)], [[(true, 0xFA)], [(true, 0xFA)]]);
    }
    assert_eq!(to_mouse(0xF2), [(true, 0xFA), (true, 3)]);
    assert!(!bench.device.has_mouse_listener());
    assert_eq!(to_mouse(0xF4), [(true, 0xFA)]);
    assert!(bench.device.has_mouse_listener());
    bench.lines.take();
    bench.device.move_by(Motion { right: 10, down: 5, wheel: 1, buttons: Buttons::RIGHT });
    assert_eq!(bench.all(), [(true, 0x2A), (true, 10), (true, 0xFB), (true, 1)]);
    assert_eq!(bench.lines.take(), [(12, true), (12, false)].repeat(4));
}

#[test]
fn a_reset_leaves_nothing_of_before() {
    let bench = bench();
    bench.device.strike(Key::A, Stroke::Press);
    let _ = bench.command(0x60);
    bench.device.reset();
    assert_eq!((bench.all(), bench.lines.take()), (vec![], vec![(1, true), (1, false)]));
    assert_eq!(bench.answer(0x20), [(false, 0x65)]);
}

proptest! {
    /// Whatever a guest writes and a host types: answered, and nothing grows.
    #[test]
    fn any_access_is_answered(
        accesses in proptest::collection::vec((0u8..8, any::<u8>(), any::<i32>()), 1..400)
    ) {
        let bench = bench();
        for (kind, value, number) in accesses {
            match kind {
                0 | 1 => drop(bench.data(value)),
                2 | 3 => drop(bench.command(value)),
                4 => drop(bench.in8(0x60)),
                5 => drop(bench.in8(0x64)),
                6 => bench.device.strike(Key::extended(value), Stroke::Press),
                _ => bench.device.move_by(Motion {
                    right: number,
                    down: number.wrapping_mul(3),
                    wheel: number,
                    buttons: Buttons::from_bits_truncate(value),
                }),
            }
            let controller = bench.device.lock();
            prop_assert!(controller.keyboard.waiting() <= keyboard::CAPACITY);
            prop_assert!(controller.mouse.waiting() <= mouse::CAPACITY);
        }
        // All of it can be read, and motion comes to its end. The largest takes 2^23 packets; so the mouse is stilled.
        // Twice, since the first one may be some command's argument.
        for _ in 0..2 {
            let _ = (bench.command(0xD4), bench.data(0xF5));
        }
        prop_assert!(bench.all().len() < 200);
    }
}
