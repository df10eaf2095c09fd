//! A machine in the words of another program: the same devices for those who launch with something else.
//!
//! The binding of functions to vfio-pci stays thruway's: what is exported takes functions as they are (`managed='no'`).

pub mod cloud_hypervisor;
pub mod libvirt;
pub mod qemu;
pub mod systemd;

use crate::spec::pci::PciAddress;
use crate::vmm::config::{CpuModel, Features, InterruptMode, MachineConfig, MemoryConfig, ShortForm};

/// Why a machine cannot be said in the words of another program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExportError {
    /// The other program has no way to write it.
    #[error("{program} cannot take `{}`: {reason}", text.escape_debug())]
    Unsayable {
        /// The other program.
        program: &'static str,
        /// What cannot be written.
        text: String,
        /// Why not.
        reason: &'static str,
    },
}

/// What every export begins with, as comments that start with `mark`: what it needs, and what of the machine it leaves out.
fn head(mark: &str, config: &MachineConfig, prepare: &str) -> String {
    let mut text = format!(
        "{mark} Machine {}, exported by thruway {}.\n{mark} Its functions have to be bound to vfio-pci first: {prepare}\n",
        config.name,
        env!("CARGO_PKG_VERSION")
    );
    let left_out = left_out(config);
    if !left_out.is_empty() {
        text += &format!("{mark} What thruway run gives it and this does not: {}\n", left_out.join(", "));
    }
    text
}

/// What of `config` no export says.
fn left_out(config: &MachineConfig) -> Vec<&'static str> {
    let (cpus, memory) = (&config.cpus, &config.memory);
    let plain_memory = MemoryConfig::from_value(memory.size);
    let parts = [
        (cpus.model != CpuModel::default(), "cpus.model"),
        (cpus.features != Features::default(), "cpus.features"),
        (!cpus.pin.is_empty(), "cpus.pin"),
        (cpus.realtime_priority.is_some(), "cpus.realtime_priority"),
        (*memory != plain_memory, "what memory is made of"),
        (!config.numa.is_empty(), "numa"),
        (config.interrupts != InterruptMode::default(), "interrupts"),
    ];
    parts.into_iter().filter(|(is_set, _)| *is_set).map(|(_, part)| part).collect()
}

/// Whether a device at `address` is function 0 of several that name theirs.
fn is_first_of_several(config: &MachineConfig, address: PciAddress) -> bool {
    let named = config.devices.iter().filter_map(|device| device.pci()?.guest_address);
    address.function == 0 && named.filter(|other| other.bus == address.bus).count() > 1
}

/// A program and its arguments as a script: one option with its value a line.
fn script(head: &str, program: &str, options: &[Vec<String>]) -> Result<String, ExportError> {
    let word = |text: &String| {
        shlex::try_quote(text).map(|word| word.into_owned()).map_err(|_| ExportError::Unsayable {
            program: "a shell",
            text: text.clone(),
            reason: "it holds a NUL",
        })
    };
    let mut out = format!("#!/bin/sh\n{head}exec {program}");
    for option in options {
        let words = option.iter().map(word).collect::<Result<Vec<_>, _>>()?;
        out.push_str(" \\\n    ");
        out.push_str(&words.join(" "));
    }
    out.push('\n');
    Ok(out)
}

/// `--name value` and the like.
fn option(name: &str, value: impl Into<String>) -> Vec<String> {
    vec![name.to_owned(), value.into()]
}
