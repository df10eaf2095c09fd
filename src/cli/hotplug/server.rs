//! The machine's side of `thruway hotplug`: a socket, a line for each request, a line for each answer.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::thread;

use super::{Answer, Request};
use crate::cli::{Context, Exit, Failure, source};
use crate::host::select::{self, Selector};
use crate::profile::resolve::resolve_device;
use crate::profile::schema::Device;
use crate::vmm::backend::listener::Listener;
use crate::vmm::config::DeviceConfig;
use crate::vmm::control::{self, Ask, Remote};

/// Connections at a time; who comes beyond that is sent away.
const MAX_CONNECTIONS: usize = 8;
/// Longest request in bytes.
const MAX_LINE: u64 = 64 << 10;

/// The socket of a machine. Removed when it is dropped.
#[derive(Debug)]
pub(crate) struct Server(Listener);

impl Server {
    /// Listens at `path`; nobody answers yet.
    pub(crate) fn listen(path: &Path) -> Result<Self, Failure> {
        Listener::bind(path).map(Self).map_err(|error| failure(path, error))
    }

    /// Answers for `remote`'s machine, on threads of their own, as long as this process lives.
    pub(crate) fn serve(&self, remote: Remote, context: Context) -> Result<(), Failure> {
        let started = self.0.acceptor().and_then(|listener| {
            let accept = move || accept(&listener, &remote, context);
            thread::Builder::new().name("hotplug".to_owned()).spawn(accept)
        });
        started.map(drop).map_err(|error| failure(self.0.path(), error))
    }
}

fn failure(path: &Path, error: io::Error) -> Failure {
    Failure::caused(format_args!("cannot take hot plug requests at {}", path.display()), Exit::Host, error)
}

fn accept(listener: &UnixListener, remote: &Remote, context: Context) {
    let connections = Arc::new(());
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                tracing::error!(%error, "no more hot plug requests are taken");
                return;
            }
        };
        if Arc::strong_count(&connections) > MAX_CONNECTIONS {
            let busy = Answer::Error(format!("{MAX_CONNECTIONS} connections are open already; close one"));
            log(answer(&stream, &busy));
            continue;
        }
        let (remote, connection) = (remote.clone(), Arc::clone(&connections));
        let converse = move || {
            log(converse(&stream, &remote, context));
            drop(connection);
        };
        if let Err(error) = thread::Builder::new().name("hotplug".to_owned()).spawn(converse) {
            tracing::warn!(%error, "hot plug connection");
        }
    }
}

fn log(result: io::Result<()>) {
    if let Err(error) = result {
        tracing::debug!(%error, "hot plug connection");
    }
}

fn answer(mut stream: &UnixStream, answer: &Answer) -> io::Result<()> {
    let mut line = serde_json::to_string(answer)?;
    line.push('\n');
    stream.write_all(line.as_bytes())
}

/// Answers line by line until the other side closes, or sends a line that is too long.
fn converse(stream: &UnixStream, remote: &Remote, context: Context) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        (&mut reader).take(MAX_LINE).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(());
        }
        if line.last() != Some(&b'\n') && line.len() as u64 == MAX_LINE {
            return answer(stream, &Answer::Error(format!("a request has at most {MAX_LINE} bytes")));
        }
        let result = match serde_json::from_slice(&line) {
            Ok(request) => carry_out(request, remote, context),
            Err(error) => Answer::Error(format!("this is no request: {error}")),
        };
        answer(stream, &result)?;
    }
}

fn carry_out(request: Request, remote: &Remote, context: Context) -> Answer {
    let ask = match request {
        Request::List {} => Ask::Slots,
        Request::Attach(device) => match resolve(*device, context) {
            Ok(device) => Ask::Attach(Box::new(device)),
            Err(why) => return Answer::Error(why),
        },
        Request::Detach { slot, departure } => Ask::Detach { slot, departure },
    };
    match remote.ask(ask) {
        Ok(control::Answer::Slots(slots)) => Answer::Slots(slots),
        Ok(control::Answer::Slot(slot)) => Answer::Slot(slot),
        Err(error) => Answer::Error(told(&error)),
    }
}

fn resolve(device: Device, context: Context) -> Result<DeviceConfig, String> {
    if let Device::VirtioBlock(block) = &device
        && !block.device.path.is_absolute()
    {
        return Err(format!("`{}` is not absolute; write the path from / on", block.device.path.display()));
    }
    let lookup = |selector: &Selector| match selector {
        Selector::Address(address) => Ok(*address),
        other => select::resolve(&source::live(&context), other),
    };
    resolve_device(device, Path::new("/"), lookup).map_err(|error| error.to_string())
}

/// An error with its causes, in a line.
fn told(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
