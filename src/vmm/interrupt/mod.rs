//! How a device interrupts the guest: it holds a handle to its own line or message, never to a controller.
//!
//! [`InterruptLine`] is a level-triggered input of the interrupt controller (INTx, ISA); [`MsiSink`] takes messages
//! (MSI, MSI-X). Which controller stands behind them is the machine's business, and devices never know.

pub mod ioapic;
pub mod irqchip;
mod line;
mod msi;
pub mod pic;
pub mod pit;

pub use line::{Connection, InterruptLine, LineController};
pub use msi::{MsiMessage, MsiRoute, MsiSink};
