//! Where requests go as the registers change.

use super::*;
use crate::sys::event::is_signalled;

/// Every change of every input, and which of them are connected.
#[derive(Default)]
struct Recorder {
    changes: Mutex<Vec<(u32, bool)>>,
    connected: Arc<Mutex<Vec<u32>>>,
}

impl LineController for Recorder {
    fn set_level(&self, gsi: u32, high: bool) -> io::Result<()> {
        self.changes.lock().unwrap().push((gsi, high));
        Ok(())
    }
    fn connect(&self, gsi: u32, _: &EventFd, _: &EventFd) -> Result<Connection, Unsupported> {
        self.connected.lock().unwrap().push(gsi);
        let connected = Arc::clone(&self.connected);
        Ok(Connection::new(move || connected.lock().unwrap().retain(|other| *other != gsi)))
    }
}

struct Bench {
    recorder: Arc<Recorder>,
    router: Router,
}

fn bench() -> Bench {
    let recorder = Arc::<Recorder>::default();
    let line = |gsi| InterruptLine::new(gsi, Arc::clone(&recorder) as Arc<dyn LineController>);
    let router = Router::new((0..24).map(line).collect());
    Bench { recorder, router }
}

impl Bench {
    /// A function's line.
    fn line(&self, request: u32) -> InterruptLine {
        InterruptLine::new(request, Arc::new(self.router.clone()))
    }

    /// Sets the register of PIRQB# and leaves the others unrouted.
    fn route(&self, register: u8) {
        self.router.follow(|| {
            let [a, _, rest @ ..] = [NOT_ROUTED; REQUESTS as usize];
            let [c, d, e, f, g, h] = rest;
            [a, register, c, d, e, f, g, h]
        });
    }

    fn changes(&self) -> Vec<(u32, bool)> {
        std::mem::take(&mut *self.recorder.changes.lock().unwrap())
    }

    fn connected(&self) -> Vec<u32> {
        self.recorder.connected.lock().unwrap().clone()
    }
}

#[test]
fn a_request_reaches_its_input_of_the_io_apic_and_the_one_of_the_pic_that_it_is_routed_to() {
    let bench = bench();
    let line = bench.line(1);
    line.set_level(true);
    assert_eq!(bench.changes(), [(17, true)]);
    bench.route(11);
    assert_eq!(bench.changes(), [(11, true)]);
    bench.route(11);
    bench.route(10);
    assert_eq!(bench.changes(), [(10, true), (11, false)]);
    assert_eq!(bench.router.pic_input(1), Some(10));
    line.set_level(false);
    assert_eq!(bench.changes(), [(17, false), (10, false)]);
    bench.route(NOT_ROUTED | 10);
    line.set_level(true);
    assert_eq!((bench.changes(), bench.router.pic_input(1)), (vec![(17, true)], None));
}

#[test]
fn requests_share_an_input_by_wired_or() {
    let bench = bench();
    let (first, second) = (bench.line(0), bench.line(1));
    bench.router.follow(|| [10; REQUESTS as usize]);
    first.set_level(true);
    second.set_level(true);
    first.set_level(false);
    assert_eq!(bench.changes(), [(16, true), (10, true), (17, true), (16, false)]);
    bench.route(NOT_ROUTED);
    assert_eq!(bench.changes(), [(10, false)]);
}

#[test]
fn a_register_can_name_only_inputs_that_can_be_level_triggered() {
    let bench = bench();
    bench.line(1).set_level(true);
    for register in 0..=u8::MAX {
        bench.route(register);
        let input = register & 0xF;
        let expected = register < NOT_ROUTED && ![0, 1, 2, 8, 13].contains(&input);
        assert_eq!(bench.router.pic_input(1), expected.then_some(input.into()), "{register:#x}");
    }
}

#[test]
fn a_kernel_producer_follows_its_request_and_is_asked_again() {
    let bench = bench();
    let (trigger, resample) =
        (EventFd::new(libc::EFD_NONBLOCK).unwrap(), EventFd::new(libc::EFD_NONBLOCK).unwrap());
    let line = bench.line(1);
    let connection = line.connect(&trigger, &resample).unwrap();
    assert_eq!((bench.connected(), is_signalled(&resample)), (vec![17], false));
    bench.route(11);
    assert_eq!((bench.connected(), resample.read().unwrap()), (vec![11], 1));
    bench.route(11);
    assert!(!is_signalled(&resample));
    bench.route(NOT_ROUTED);
    assert_eq!((bench.connected(), resample.read().unwrap()), (vec![17], 1));
    drop(connection);
    assert_eq!(bench.connected(), [0; 0]);
    bench.route(11);
    assert!(!is_signalled(&resample));
}

#[test]
fn pins_are_apart_and_firmware_gives_each_request_an_input_of_the_pic() {
    for device in 0..32 {
        let inputs: Vec<u32> = (0..4).map(|pin| io_apic_input(request(device, pin))).collect();
        assert!(inputs.iter().all(|input| (16..24).contains(input)));
        assert!(inputs.windows(2).all(|pair| pair[0] != pair[1]));
    }
    assert!(ROUTED.iter().all(|register| pic_input(*register) == Some(*register)));
    assert!(ROUTED.iter().all(|register| PIC_INPUTS.contains(register)));
    let bench = bench();
    for beyond in [8, u32::MAX] {
        assert!(bench.router.set_level(beyond, true).is_err());
        assert!(bench.router.connect(beyond, &EventFd::new(0).unwrap(), &EventFd::new(0).unwrap()).is_err());
    }
}
