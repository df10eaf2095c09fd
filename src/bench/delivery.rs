//! How long an interrupt takes to a guest.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::guest::{self, Between, Controller, Guest, Program, machine, unexpected};
use super::interrupts::Probe;
use super::samples::WARM_UP;
use crate::sys::kvm::{Exit, Vcpu};
use crate::vmm::bus::Bus;
use crate::vmm::config::InterruptMode;
use crate::vmm::interrupt::irqchip::Irqchip;
use crate::vmm::interrupt::userspace::Chips;
use crate::vmm::interrupt::{InterruptLine, LineController, MsiMessage, MsiSink, ports};
use crate::vmm::kvm::Vm;
use crate::vmm::vcpu::offer_interrupt;

/// How long one interrupt may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a guest is given to come to its wait.
const SETTLE: Duration = Duration::from_micros(50);

/// What the vCPU's thread tells.
#[derive(Debug, Default)]
struct Told {
    handled: Option<Instant>,
    ready: bool,
    failed: Option<io::Error>,
}

#[derive(Debug, Default)]
struct Board {
    told: Mutex<Told>,
    changed: Condvar,
}

impl Board {
    fn tell(&self, change: impl FnOnce(&mut Told)) {
        change(&mut self.told.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_one();
    }

    /// Waits for what `take` takes.
    fn wait<T>(&self, what: &str, take: impl Fn(&mut Told) -> Option<T>) -> io::Result<T> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(taken) = take(&mut told) {
                return Ok(taken);
            }
            if let Some(error) = told.failed.take() {
                return Err(error);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let text = format!("{what} within {} s", PATIENCE.as_secs());
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            told = self.changed.wait_timeout(told, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// A way to ask for one interrupt, and to end asking.
type Trigger = (Box<dyn Fn() -> io::Result<()>>, Box<dyn Fn()>);

fn trigger(vm: &Arc<Vm>, probe: Probe) -> io::Result<Trigger> {
    let message = MsiMessage { address: 0xFEE0_0000, data: guest::MSI_VECTOR.into() };
    Ok(match probe {
        Probe::Msi => {
            let vm = Arc::clone(vm);
            (Box::new(move || vm.irqchip().signal(message)), Box::new(|| {}))
        }
        Probe::Irqfd => {
            let unsupported = |_| io::Error::other("there are no routes from eventfds here");
            let route = vm.irqchip().route().map_err(unsupported)?;
            route.unmask(message)?;
            (Box::new(move || route.event().write(1)), Box::new(|| {}))
        }
        _ => {
            let controller: Arc<dyn LineController> = Arc::new(vm.irqchip().clone());
            let line = Arc::new(InterruptLine::new(guest::GSI, controller));
            let other = Arc::clone(&line);
            let high = move || {
                line.set_level(true);
                Ok(())
            };
            (Box::new(high), Box::new(move || other.set_level(false)))
        }
    })
}

/// From asking for an interrupt until the handler tells of it.
pub(super) fn deliveries(
    interrupts: InterruptMode,
    probe: Probe,
    between: Between,
    samples: u32,
) -> io::Result<Vec<Duration>> {
    let controller = match probe {
        Probe::Pic => Controller::Pic,
        Probe::IoApic => Controller::IoApic,
        _ => Controller::LocalApic,
    };
    let vm = machine(interrupts)?;
    let guest = Guest::new(&vm, Program::Wait(controller, between))?;
    let (ask, end) = trigger(&vm, probe)?;
    let kicker = guest.vcpu.kicker()?;
    let (board, stop) = (Board::default(), AtomicBool::new(false));
    thread::scope(|scope| {
        let (board, stop) = (&board, &stop);
        let mut processor = Processor::new(guest.vcpu, vm.irqchip())?;
        let kick = kicker.clone();
        let running = scope.spawn(move || {
            kick.attach();
            loop {
                // Cleared before the end and the chips are looked at: a kick for what comes later stays.
                kick.clear();
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                if let Err(error) = processor.step(board) {
                    board.tell(|told| told.failed = Some(error));
                    return;
                }
            }
        });
        if let Some(chips) = vm.irqchip().chips() {
            let (kick, thread) = (kicker.clone(), running.thread().clone());
            chips.on_asking(move || {
                kick.kick();
                thread.unpark();
            });
        }
        let one = || {
            board
                .wait("the guest did not come back", |told| std::mem::take(&mut told.ready).then_some(()))?;
            thread::sleep(SETTLE);
            let asked = Instant::now();
            ask()?;
            let handled = board.wait("the guest took no interrupt", |told| told.handled.take());
            end();
            handled.map(|handled| handled.saturating_duration_since(asked))
        };
        let times: io::Result<Vec<_>> = (0..samples + WARM_UP).map(|_| one()).collect();
        stop.store(true, Ordering::SeqCst);
        kicker.kick();
        running.thread().unpark();
        times.map(|times| times.into_iter().skip(WARM_UP as usize).collect())
    })
}

/// A vCPU with the controllers that this process has for it.
struct Processor {
    vcpu: Vcpu,
    chips: Option<Arc<Chips>>,
    pio: Bus,
    mmio: Bus,
    /// It halted, and only this process can wake it up.
    halted: bool,
}

impl Processor {
    fn new(vcpu: Vcpu, irqchip: &Irqchip) -> io::Result<Self> {
        let (chips, pio, mmio) = (irqchip.chips().cloned(), Bus::default(), Bus::default());
        if let Some(chips) = &chips {
            ports::insert(chips, &pio, &mmio).map_err(io::Error::other)?;
        }
        Ok(Self { vcpu, chips, pio, mmio, halted: false })
    }

    /// Runs the guest until it comes back, and tells why.
    fn step(&mut self, board: &Board) -> io::Result<()> {
        if let Some(chips) = &self.chips {
            self.halted &= !offer_interrupt(&mut self.vcpu, chips)?;
            if self.halted && !chips.is_asking() {
                // Ended by whoever asks for an interrupt, and by the end of the probe.
                thread::park_timeout(PATIENCE);
                return Ok(());
            }
        }
        self.halted = false;
        match self.vcpu.run()? {
            Exit::PortWrite { port, .. } if port == u16::from(guest::HANDLED) => {
                let now = Instant::now();
                board.tell(|told| told.handled = Some(now));
            }
            Exit::PortWrite { port, .. } if port == u16::from(guest::READY) => {
                board.tell(|told| told.ready = true);
            }
            Exit::PortWrite { port, data, .. } if self.chips.is_some() => {
                // PIC and I/O APIC ask for nothing.
                let _ = self.pio.write(port.into(), data);
            }
            Exit::MmioWrite { address, data } if self.chips.is_some() => {
                let _ = self.mmio.write(address, data);
            }
            Exit::EndOfInterrupt { vector } => {
                if let Some(chips) = &self.chips {
                    chips.end_of_interrupt(vector);
                }
            }
            Exit::Halt => self.halted = true,
            Exit::Interrupted | Exit::InterruptWindow => {}
            other => return Err(unexpected(&other)),
        }
        Ok(())
    }
}
