//! Worker threads: one per group of queues, woken by doorbells, by the handler's own descriptors and by the transport.
//!
//! A worker ends when it is told to, at a [`QueueError`], or when its handler panics; the last two mark the device as broken
//! (VIRTIO 1.3, 2.1.2) and leave the machine running. The group comes back to the transport when the worker ended by
//! request, so that a paused device can go on where it was.

use std::io;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::sys::event::borrow;
use crate::sys::schedule;
use crate::vmm::rate_limit::RateLimit;
use crate::vmm::virtio::QueueGroup;
use crate::vmm::virtio::interrupt::VirtioInterrupt;
use crate::vmm::virtio::queue::{QueueError, Virtqueue};

/// Guests can break their queues as often as they like: the log must stay readable.
static FAILURES: RateLimit = RateLimit::new();

/// A running worker.
#[derive(Debug)]
pub struct Worker {
    stop: Arc<AtomicBool>,
    wake: Arc<EventFd>,
    ended: Receiver<Option<QueueGroup>>,
    thread: Option<JoinHandle<()>>,
}

/// How a [`Worker::finish`] went.
#[derive(Debug)]
pub enum Ended {
    /// The worker is gone; its group is here unless it failed.
    Done(Option<QueueGroup>),
    /// It still works on a request.
    Busy(Worker),
}

/// Data of an epoll entry: what woke the worker.
const STOP: u64 = u64::MAX;
/// Entries from here on are the handler's own descriptors.
const FIRST_EVENT: u64 = 1 << 32;

impl Worker {
    /// Starts a thread called `name` (the kernel keeps 15 bytes of it) that serves `group`.
    ///
    /// # Errors
    /// What the kernel refused: descriptors or a thread. The group is lost then.
    pub fn spawn(
        name: &str,
        label: Arc<str>,
        group: QueueGroup,
        interrupt: Arc<VirtioInterrupt>,
    ) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let wake = Arc::new(EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?);
        let epoll = watch(&group, &wake)?;
        let (sender, ended) = sync_channel(1);
        let serving = Serving { group, epoll, stop: Arc::clone(&stop), interrupt, label };
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            // The receiver is gone only when the whole function is.
            let _ = sender.send(serving.run());
        })?;
        // The guest's driver starts a device from a vCPU's thread, which may be pinned; workers are not.
        if let Err(error) = schedule::follow_first_thread(&thread) {
            tracing::warn!(%error, "a virtio worker runs where the vCPU does that started it");
        }
        Ok(Self { stop, wake, ended, thread: Some(thread) })
    }

    /// Asks the worker to end after the request that it works on.
    pub fn request_stop(&self) {
        self.stop.store(true, Ordering::Release);
        if let Err(error) = self.wake.write(1) {
            tracing::error!(%error, "cannot wake a virtio worker");
        }
    }

    /// Waits up to `patience` for the end of a worker that was asked to stop; for ever without it.
    #[must_use]
    pub fn finish(mut self, patience: Option<Duration>) -> Ended {
        let group = match patience {
            None => self.ended.recv().ok().flatten(),
            Some(patience) => match self.ended.recv_timeout(patience) {
                Ok(group) => group,
                Err(RecvTimeoutError::Disconnected) => None,
                Err(RecvTimeoutError::Timeout) => return Ended::Busy(self),
            },
        };
        self.join();
        Ended::Done(group)
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("a virtio worker panicked outside of its handler");
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.request_stop();
            self.join();
        }
    }
}

/// An epoll instance on everything that wakes the group's worker.
fn watch(group: &QueueGroup, wake: &EventFd) -> io::Result<Epoll> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(borrow(wake), EpollEvent::new(EpollFlags::EPOLLIN, STOP))?;
    for (queue, index) in group.queues.iter().zip(0u64..) {
        epoll.add(borrow(queue.kick()), EpollEvent::new(EpollFlags::EPOLLIN, index))?;
    }
    for (fd, index) in group.handler.event_fds().iter().zip(FIRST_EVENT..) {
        epoll.add(fd.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, index))?;
    }
    Ok(epoll)
}

/// What a worker thread owns.
struct Serving {
    group: QueueGroup,
    epoll: Epoll,
    stop: Arc<AtomicBool>,
    interrupt: Arc<VirtioInterrupt>,
    label: Arc<str>,
}

impl Serving {
    /// Serves until told to stop; the group, or nothing after a failure.
    fn run(mut self) -> Option<QueueGroup> {
        let outcome = catch_unwind(AssertUnwindSafe(|| self.serve()));
        let reason = match outcome {
            Ok(Ok(())) => return Some(self.group),
            Ok(Err(error)) => chain_text(&error),
            Err(_) => "its handler panicked, which is a defect of thruway".to_owned(),
        };
        if self.interrupt.fail()
            && let Some(suppressed) = FAILURES.allow()
        {
            tracing::warn!(device = &*self.label, suppressed, "device stopped until its reset: {reason}");
        }
        None
    }

    fn serve(&mut self) -> Result<(), QueueError> {
        for index in 0..self.group.queues.len() {
            self.serve_queue(index)?;
        }
        let mut events = [EpollEvent::empty(); 8];
        while !self.stop.load(Ordering::Acquire) {
            let ready = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
                Ok(ready) => ready,
                Err(nix::errno::Errno::EINTR) => continue,
                Err(error) => {
                    tracing::error!(device = &*self.label, %error, "cannot wait for work");
                    return Ok(());
                }
            };
            for event in events.iter().take(ready) {
                match event.data() {
                    STOP => {}
                    own @ FIRST_EVENT.. => self.serve_event(own - FIRST_EVENT)?,
                    queue => {
                        let Ok(index) = usize::try_from(queue) else { continue };
                        if let Some(queue) = self.group.queues.get(index) {
                            // Only a wake-up: how often the doorbell rang says nothing about how much there is to do.
                            let _ = queue.kick().read();
                        }
                        self.serve_queue(index)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn serve_queue(&mut self, index: usize) -> Result<(), QueueError> {
        let QueueGroup { handler, queues } = &mut self.group;
        let Some(queue) = queues.get_mut(index) else { return Ok(()) };
        loop {
            queue.begin(&self.stop);
            handler.process_queue(queue)?;
            queue.notify()?;
            if !queue.exhausted() || self.stop.load(Ordering::Acquire) {
                return Ok(());
            }
        }
    }

    fn serve_event(&mut self, event: u64) -> Result<(), QueueError> {
        let QueueGroup { handler, queues } = &mut self.group;
        loop {
            for queue in queues.iter_mut() {
                queue.begin(&self.stop);
            }
            handler.process_event(usize::try_from(event).unwrap_or(usize::MAX), queues)?;
            for queue in queues.iter_mut() {
                queue.notify()?;
            }
            let exhausted = queues.iter().any(Virtqueue::exhausted);
            if !exhausted || self.stop.load(Ordering::Acquire) {
                return Ok(());
            }
        }
    }
}

/// An error with its causes, in one line.
fn chain_text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
