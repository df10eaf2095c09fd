//! The virtual machine monitor: turns a [`config::MachineConfig`] into a running guest.
//!
//! Devices meet the machine through four small contracts, one file each: [`bus`] (register accesses and the effects
//! that they ask for), [`interrupt`] (a line or a message, never a controller), [`pci`] (a function and its BARs) and
//! [`memory`] (the one way to guest RAM). [`machine`] wires them together in one visible, ordered list; [`run`](mod@run)
//! is the life of it, in which vCPU threads and the machine's own talk through [`events`].
//!
//! Lock order, outermost first: collected writes ([`vcpu::Coalesced`]) → PCI root → function state → MSI-X table → timer →
//! line of PCI → router of PCI → interrupt line → interrupt chips in user space → interrupt routing → bus; the locks of [`events`] and of memory slots are
//! innermost, nothing is called under them. A device drops its own lock before it calls out; the bus holds none while a
//! device runs.

pub mod acpi;
pub mod backend;
pub mod boot;
pub mod bus;
pub mod chipset;
pub mod config;
pub mod console;
pub mod control;
pub mod events;
pub mod interrupt;
pub mod kvm;
pub mod layout;
pub mod machine;
pub mod mapper;
pub mod memory;
pub mod numa;
pub mod pci;
pub mod rate_limit;
pub mod run;
pub mod slots;
pub mod smbios;
pub mod stats;
pub mod vcpu;
pub mod vfio;
pub mod virtio;

use std::fmt;

/// What every device and function can be asked to do, from the first day.
///
/// `reset` comes from the thread that carries out [`bus::Effects::RESET`], with all vCPUs stopped. `pause` and `resume`
/// come in pairs from the control thread. `save` and `restore` are called only while paused. All are idempotent.
pub trait Lifecycle {
    /// Back to the state after power-on.
    fn reset(&self);

    /// Stop all work of one's own (worker threads, timers); nothing is in flight when this returns.
    fn pause(&self) {}

    /// Go on after [`Self::pause`].
    fn resume(&self) {}

    /// The device's state as bytes.
    ///
    /// # Errors
    /// [`Unsupported`] when this device's state cannot be saved.
    fn save(&self) -> Result<Vec<u8>, Unsupported> {
        Err(Unsupported)
    }

    /// Take over a state that [`Self::save`] wrote.
    ///
    /// # Errors
    /// [`Unsupported`] when this device's state cannot be restored.
    fn restore(&self, _state: &[u8]) -> Result<(), Unsupported> {
        Err(Unsupported)
    }
}

/// This device, controller or kernel does not offer the operation; the caller is expected to do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unsupported;

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not supported")
    }
}

impl std::error::Error for Unsupported {}
