//! `thruway hotplug`: put a device into a running machine, and take one out.

pub(crate) mod server;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::cli::format::{FormatArgs, document};
use crate::cli::{CliResult, Context, Exit, Failure};
use crate::profile::schema::Device;
use crate::report::style::Tone;
use crate::report::table::{self, Table};
use crate::vmm::slots::{Departure, SlotState};

/// Arguments of `thruway hotplug`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
A machine takes part that was started with --hotplug SOCKET, or with `hotplug:` in its profile. Its devices sit in slots,
each behind a root port of its own; spare ones are empty at first.

attach puts a device into the first empty slot, and the guest finds it. DEVICE is written as in a profile. detach asks the
guest, by the slot's attention button, to let a device go, and waits until it did: Linux takes five seconds before it
begins. --surprise tears it out at once, which a guest that uses it can take badly: Linux waits for ever for a virtio device
that went without notice, and takes nothing more in its slot. With `power: switched` in the profile
the slots have power controllers, and the button is pressed for a device that comes, too.

On the socket, which only its owner can open, each line is one request in JSON, answered by one line.

Examples:
  thruway run --kernel vmlinuz --initrd initrd.img --hotplug vm.sock,spare=4
  thruway hotplug vm.sock list
  thruway hotplug vm.sock attach 'virtio-net: {tap: tap1}'
  thruway hotplug vm.sock attach 'vfio-pci: {select: {address: 0000:01:10.0}}'
  thruway hotplug vm.sock detach 3
  echo '{\"detach\": {\"slot\": 3, \"departure\": \"surprise\"}}' | nc -U vm.sock")]
pub(crate) struct Args {
    /// The machine's socket
    #[arg(value_name = "SOCKET")]
    socket: PathBuf,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Show the slots, and what is in them
    List {
        #[command(flatten)]
        format: FormatArgs,
    },
    /// Put a device into an empty slot
    Attach {
        /// The device, as in a profile: 'virtio-block: {path: data.img, format: raw}'
        #[arg(value_name = "DEVICE")]
        device: DeviceText,
        #[command(flatten)]
        format: FormatArgs,
    },
    /// Take the device out of a slot
    Detach {
        /// The number of the slot
        #[arg(value_name = "SLOT")]
        slot: u8,
        /// Do not ask the guest: it is gone at once
        #[arg(long)]
        surprise: bool,
        #[command(flatten)]
        format: FormatArgs,
    },
}

/// A device as a profile has it, on a command line.
#[derive(Debug, Clone)]
struct DeviceText(Box<Device>);

impl FromStr for DeviceText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // By way of JSON, in which a kind and its settings are a key and its value as in a profile.
        let value: serde_json::Value = serde_yaml::from_str(text).map_err(|error| error.to_string())?;
        let device = serde_json::from_value(value).map_err(|error| error.to_string())?;
        Ok(Self(Box::new(device)))
    }
}

/// A line on the socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum Request {
    /// What is in which slot.
    List {},
    /// Put a device into an empty slot. A path in it is absolute.
    Attach(Box<Device>),
    /// Take the device out of a slot.
    Detach {
        slot: u8,
        #[serde(default = "asked")]
        departure: Departure,
    },
}

fn asked() -> Departure {
    Departure::Asked
}

/// The line that answers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Answer {
    /// All slots.
    Slots(Vec<SlotState>),
    /// The slot that was filled or emptied.
    Slot(u8),
    /// It was not done; why.
    Error(String),
}

/// `data` of the document `thruway.hotplug`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Document {
    Slots(Vec<SlotState>),
    Attached { slot: u8 },
    Detached { slot: u8 },
}

/// Asks the machine, and shows what it answered.
pub(crate) fn run(args: &Args, context: &Context) -> CliResult {
    let Args { socket, what } = args;
    let (What::List { format } | What::Attach { format, .. } | What::Detach { format, .. }) = what;
    let request = match what {
        What::List { .. } => Request::List {},
        What::Attach { device, .. } => Request::Attach(Box::new(absolute(&device.0)?)),
        What::Detach { slot, surprise: true, .. } => {
            Request::Detach { slot: *slot, departure: Departure::Surprise }
        }
        What::Detach { slot, .. } => Request::Detach { slot: *slot, departure: Departure::Asked },
    };
    let answer = match ask(socket, &request)? {
        Answer::Error(why) => return Err(Failure::new(Exit::Host, why)),
        Answer::Slots(slots) => Document::Slots(slots),
        Answer::Slot(slot) if matches!(what, What::Attach { .. }) => Document::Attached { slot },
        Answer::Slot(slot) => Document::Detached { slot },
    };
    let text = document(format.format, "thruway.hotplug", 1, &answer)?;
    context.print(text.unwrap_or_else(|| match &answer {
        Document::Slots(slots) => render(slots),
        Document::Attached { slot } => format!("attached in slot {slot}"),
        Document::Detached { slot } => format!("slot {slot} is empty"),
    }))?;
    Ok(Exit::Ok.into())
}

/// `device` with a path that does not depend on this process's directory.
fn absolute(device: &Device) -> Result<Device, Failure> {
    let mut device = device.clone();
    if let Device::VirtioBlock(block) = &mut device {
        let path = &mut block.device.path;
        *path = std::path::absolute(&*path).map_err(|error| {
            Failure::caused(
                format_args!("cannot find the directory of {}", path.display()),
                Exit::Host,
                error,
            )
        })?;
    }
    Ok(device)
}

/// Sends a request, and waits for its answer.
fn ask(socket: &Path, request: &Request) -> Result<Answer, Failure> {
    let failed = |error: std::io::Error| {
        Failure::caused(
            format_args!(
                "no machine answers at {}; is one running that was started with --hotplug?",
                socket.display()
            ),
            Exit::Host,
            error,
        )
    };
    let mut line = serde_json::to_string(request).map_err(|error| Failure::new(Exit::VmmFault, error))?;
    line.push('\n');
    let mut stream = UnixStream::connect(socket).map_err(failed)?;
    stream.write_all(line.as_bytes()).map_err(failed)?;
    let mut answer = String::new();
    let length = BufReader::new(stream).read_line(&mut answer).map_err(failed)?;
    if length == 0 {
        return Err(Failure::new(Exit::Host, "the machine ended before it answered"));
    }
    serde_json::from_str(&answer).map_err(|error| {
        Failure::caused(
            format_args!("what answers at {} is no machine of this program", socket.display()),
            Exit::Host,
            error,
        )
    })
}

fn render(slots: &[SlotState]) -> String {
    let mut table = Table::new(&["SLOT", "DEVICE", "STATE"], table::terminal_width());
    for SlotState { slot, devices, leaving } in slots {
        let state = match (devices.as_slice(), leaving) {
            ([], _) => "empty",
            (_, false) => "in use",
            (_, true) => "the guest was asked to let it go",
        };
        let row = [slot.to_string(), devices.join(", "), state.to_owned()];
        table.row(row.map(|text| (Tone::Plain, text)));
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_written_as_in_a_profile() {
        let device = "virtio-net: {tap: tap1}".parse::<DeviceText>().unwrap();
        assert!(matches!(*device.0, Device::VirtioNet(_)));
        let error = "virtio-net: {tape: tap1}".parse::<DeviceText>().unwrap_err();
        assert!(error.contains("tape"), "{error}");
        for text in ["", "virtio-nut: {}", "{", "virtio-rng: {}\nvirtio-net: {tap: a}"] {
            assert!(text.parse::<DeviceText>().is_err(), "{text}");
        }
    }

    #[test]
    fn lines_on_the_socket_are_as_documented() {
        let detach = Request::Detach { slot: 3, departure: Departure::Surprise };
        let line = r#"{"detach":{"slot":3,"departure":"surprise"}}"#;
        assert_eq!(serde_json::to_string(&detach).unwrap(), line);
        assert_eq!(serde_json::from_str::<Request>(line).unwrap(), detach);
        let asked = Request::Detach { slot: 3, departure: Departure::Asked };
        assert_eq!(serde_json::from_str::<Request>(r#"{"detach":{"slot":3}}"#).unwrap(), asked);
        assert_eq!(serde_json::from_str::<Request>(r#"{"list":{}}"#).unwrap(), Request::List {});
        assert_eq!(serde_json::to_string(&Answer::Slot(3)).unwrap(), r#"{"slot":3}"#);
    }
}
