//! How a device interrupts the guest: it holds a handle to its own line or message, never to a controller.
//!
//! [`InterruptLine`] is a level-triggered input of the interrupt controller (INTx, ISA); [`MsiSink`] takes messages
//! (MSI, MSI-X). Which controller stands behind them is the machine's business, and devices never know.
//!
//! Behind them is [`irqchip::Irqchip`], for PCI's pins by way of a router ([`pirq`]): chips in the kernel, or in user space the models of this room ([`pic`],
//! [`ioapic`], [`pit`]), each a state machine without clock, lock or descriptor.

pub mod ioapic;
pub mod irqchip;
mod kernel;
mod line;
mod msi;
pub mod pic;
pub mod pirq;
pub mod pit;
pub mod ports;
mod routes;
pub mod timer;
pub mod userspace;

pub use line::{Connection, InterruptLine, LineController, Lines};
pub use msi::{MsiMessage, MsiRoute, MsiSink};
