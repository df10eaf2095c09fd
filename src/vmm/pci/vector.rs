//! One message vector, as MSI and MSI-X share it: open or masked, its pending bit, and its way into the guest.
//!
//! A vector that only our own code raises is delivered by [`MsiSink::signal`] and needs no kernel route. A route with its
//! eventfd is made when a kernel producer ([`VectorUser`]) asks for one, and collects interrupts while the vector is masked.

use std::io;

use vmm_sys_util::eventfd::EventFd;

use crate::vmm::Unsupported;
use crate::vmm::interrupt::{MsiMessage, MsiRoute, MsiSink};

/// A kernel producer behind a function's vectors, such as VFIO.
///
/// All methods are called with the function's vector state locked, in the order in which the guest caused them; they
/// must not call back into the [`Msi`](super::msi::Msi) or [`MsixTable`](super::msix::MsixTable).
pub trait VectorUser: Send + Sync {
    /// These vectors were unmasked for the first time since the guest enabled the capability: let the device trigger
    /// each eventfd from now on. Vectors that were connected before stay connected. For MSI, all vectors come at once.
    fn connect(&self, vectors: &[(u16, &EventFd)]);

    /// The guest disabled the capability, or the machine was reset: let go of all eventfds; they close after this call.
    fn disconnect(&self);
}

/// State of one vector.
#[derive(Default)]
pub(super) struct Vector {
    message: MsiMessage,
    open: bool,
    pending: bool,
    route: Option<Box<dyn MsiRoute>>,
}

impl Vector {
    /// Raises the vector once: delivered while open, remembered while not.
    pub(super) fn signal(&mut self, sink: &dyn MsiSink) {
        let result = match &self.route {
            Some(route) => route.event().write(1),
            None if self.open => sink.signal(self.message),
            None => {
                self.pending = true;
                Ok(())
            }
        };
        log_failure("deliver", result);
    }

    /// Says what the vector will send when it is opened next, so that several are opened at the price of one.
    pub(super) fn stage(&self, message: MsiMessage) {
        if let Some(route) = &self.route {
            route.stage(message);
        }
    }

    /// Sets what the vector sends and whether it may; delivers what was pending when it opens.
    pub(super) fn update(&mut self, message: MsiMessage, open: bool, sink: &dyn MsiSink) {
        if open && (!self.open || message != self.message) {
            if let Some(route) = &self.route {
                log_failure("unmask", route.unmask(message));
            }
            if std::mem::take(&mut self.pending) {
                log_failure("deliver", sink.signal(message));
            }
        } else if !open
            && self.open
            && let Some(route) = &self.route
        {
            route.mask();
        }
        self.message = message;
        self.open = open;
    }

    /// Whether an interrupt waits for the vector to be unmasked.
    pub(super) fn pending(&self) -> bool {
        self.pending || self.route.as_ref().is_some_and(|route| route.pending())
    }

    /// Makes the vector's route if it has none yet.
    pub(super) fn make_route(&mut self, sink: &dyn MsiSink) -> Result<(), Unsupported> {
        if self.route.is_none() {
            let route = sink.route()?;
            if self.open {
                log_failure("unmask", route.unmask(self.message));
            }
            if std::mem::take(&mut self.pending) {
                log_failure("deliver", route.event().write(1));
            }
            self.route = Some(route);
        }
        Ok(())
    }

    /// The eventfd that raises the vector, if a route was made.
    pub(super) fn event(&self) -> Option<&EventFd> {
        self.route.as_ref().map(|route| route.event())
    }
}

fn log_failure(what: &str, result: io::Result<()>) {
    if let Err(error) = result {
        tracing::debug!(%error, "cannot {what} a message interrupt");
    }
}

/// A sink that records, for the tests of this room and its neighbours.
#[cfg(test)]
pub(crate) mod testing {
    use std::sync::{Arc, Mutex};

    use super::{EventFd, MsiMessage, MsiRoute, MsiSink, Unsupported, io};

    /// What a [`RecordingSink`] was asked to do.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) enum Call {
        /// `signal`
        Signal(MsiMessage),
        /// `stage` of the route with this number.
        Stage(usize, MsiMessage),
        /// `unmask` of the route with this number.
        Unmask(usize, MsiMessage),
        /// `mask` of the route with this number.
        Mask(usize),
        /// The route with this number was dropped.
        Drop(usize),
    }

    /// Remembers all calls; routes are numbered in the order in which they were made.
    #[derive(Default, Clone)]
    pub(crate) struct RecordingSink {
        calls: Arc<Mutex<Vec<Call>>>,
        routes: Arc<Mutex<usize>>,
    }

    impl RecordingSink {
        /// Takes the calls so far.
        pub(crate) fn take(&self) -> Vec<Call> {
            std::mem::take(&mut *self.calls.lock().unwrap())
        }
    }

    struct RecordingRoute {
        number: usize,
        event: EventFd,
        open: Mutex<bool>,
        calls: Arc<Mutex<Vec<Call>>>,
    }

    impl MsiSink for RecordingSink {
        fn signal(&self, message: MsiMessage) -> io::Result<()> {
            self.calls.lock().unwrap().push(Call::Signal(message));
            Ok(())
        }
        fn route(&self) -> Result<Box<dyn MsiRoute>, Unsupported> {
            let mut routes = self.routes.lock().unwrap();
            let route = RecordingRoute {
                number: *routes,
                event: EventFd::new(libc::EFD_NONBLOCK).unwrap(),
                open: Mutex::new(false),
                calls: Arc::clone(&self.calls),
            };
            *routes += 1;
            Ok(Box::new(route))
        }
    }

    impl MsiRoute for RecordingRoute {
        fn event(&self) -> &EventFd {
            &self.event
        }
        fn stage(&self, message: MsiMessage) {
            self.calls.lock().unwrap().push(Call::Stage(self.number, message));
        }
        fn unmask(&self, message: MsiMessage) -> io::Result<()> {
            *self.open.lock().unwrap() = true;
            self.calls.lock().unwrap().push(Call::Unmask(self.number, message));
            Ok(())
        }
        fn mask(&self) {
            *self.open.lock().unwrap() = false;
            self.calls.lock().unwrap().push(Call::Mask(self.number));
        }
        fn pending(&self) -> bool {
            let open = *self.open.lock().unwrap();
            let count = self.event.read().unwrap_or(0);
            if count > 0 {
                self.event.write(count).unwrap();
            }
            !open && count > 0
        }
    }

    impl Drop for RecordingRoute {
        fn drop(&mut self) {
            self.calls.lock().unwrap().push(Call::Drop(self.number));
        }
    }
}
