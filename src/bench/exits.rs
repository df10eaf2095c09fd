//! What it costs to leave a guest.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::guest::{self, Counted, Guest, Program, machine, unexpected};
use super::samples::WARM_UP;
use crate::sys::kvm::Exit;
use crate::vmm::config::InterruptMode;
use crate::vmm::mapper::{AddressSpace, Mapper};

/// How long a guest may take to its end.
const PATIENCE: Duration = Duration::from_secs(3);

/// Runs the guest until `take` has what it wants of an exit; a guest that does not come back in time is given up.
fn until<T>(guest: &mut Guest, mut take: impl FnMut(&Exit<'_>) -> Option<io::Result<T>>) -> io::Result<T> {
    let kicker = guest.vcpu.kicker()?;
    kicker.attach();
    let (done, waiting) = mpsc::channel::<()>();
    let late = AtomicBool::new(false);
    thread::scope(|scope| {
        let late = &late;
        scope.spawn(move || {
            if waiting.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                late.store(true, Ordering::SeqCst);
                kicker.kick();
            }
        });
        let found = loop {
            let exit = match guest.vcpu.run() {
                Ok(exit) => exit,
                Err(error) => break Err(error),
            };
            match exit {
                Exit::Interrupted if late.load(Ordering::SeqCst) => {
                    let text = format!("the guest did not come to an end within {} s", PATIENCE.as_secs());
                    break Err(io::Error::new(io::ErrorKind::TimedOut, text));
                }
                Exit::Interrupted => {}
                other => {
                    if let Some(found) = take(&other) {
                        break found;
                    }
                }
            }
        };
        drop(done);
        found
    })
}

/// From one exit to the next.
pub(super) fn exits(interrupts: InterruptMode, program: Program, samples: u32) -> io::Result<Vec<Duration>> {
    let mut guest = Guest::new(&machine(interrupts)?, program)?;
    let mut moments = Vec::new();
    until(&mut guest, |exit| match exit {
        Exit::PortWrite { .. } | Exit::MmioWrite { .. } => {
            moments.push(Instant::now());
            (moments.len() > (samples + WARM_UP) as usize).then_some(Ok(()))
        }
        other => Some(Err(unexpected(other))),
    })?;
    let times = moments.windows(2).skip(WARM_UP as usize);
    Ok(times.filter_map(|pair| Some(pair.last()?.duration_since(*pair.first()?))).collect())
}

/// By the guest's own counter.
pub(super) fn counted(interrupts: InterruptMode, what: Counted, samples: u32) -> io::Result<Vec<Duration>> {
    let vm = machine(interrupts)?;
    let event = Arc::new(EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?);
    let _mapped = vm.notify(AddressSpace::Port, guest::EVENT_PORT.into(), &event)?;
    let mut guest = Guest::new(&vm, Program::Count(what, samples))?;
    let begin = Instant::now();
    until(&mut guest, |exit| match exit {
        Exit::PortWrite { port, .. } if *port == u16::from(guest::COUNTED) => Some(Ok(())),
        other => Some(Err(unexpected(other))),
    })?;
    let elapsed = begin.elapsed();
    if what == Counted::Ioeventfd && event.read().ok() != Some(samples.into()) {
        return Err(io::Error::other("KVM did not signal the eventfd at each write"));
    }
    let per_millisecond = guest.vcpu.fd().get_tsc_khz()?;
    in_time(&guest.counts(samples)?, per_millisecond, elapsed)
        .ok_or_else(|| io::Error::other("the guest's time stamp counter does not tell the time here"))
}

/// Counts of a counter that counts `per_millisecond`; none if they cannot be of a span of `elapsed`.
fn in_time(counts: &[u32], per_millisecond: u32, elapsed: Duration) -> Option<Vec<Duration>> {
    let nanoseconds = |count: &u32| u64::from(*count) * 1_000_000 / u64::from(per_millisecond.max(1));
    let times: Vec<_> = counts.iter().map(|count| Duration::from_nanos(nanoseconds(count))).collect();
    let sum: Duration = times.iter().sum();
    (!sum.is_zero() && sum <= elapsed + elapsed / 10).then_some(times)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_times_only_if_they_can_be() {
        let ms = Duration::from_millis;
        assert_eq!(in_time(&[2_000_000, 4_000_000], 2_000_000, ms(4)), Some(vec![ms(1), ms(2)]));
        assert_eq!(in_time(&[2_000_000, 4_000_000], 2_000_000, ms(2)), None, "longer than it took");
        assert_eq!(in_time(&[0, 0], 2_000_000, ms(2)), None, "it stands still");
        assert_eq!(in_time(&[1], 0, ms(2)), Some(vec![ms(1)]));
    }
}
