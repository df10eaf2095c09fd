//! thruway takes hardware from the BIOS switch to a running guest.
//!
//! One crate, one binary, three programs over two floors:
//!
//! ```text
//!                         cli  (what the user types)
//!        ┌────────┬────────┼─────────┬──────────┐
//!     report   profile  rehearse     │          │
//!        │        │        │         │          │
//!     ┌──┴────────┴──┐  ┌──┴───┐  ┌──┴───┐   ┌──┴──┐
//!     │  inspector   │  │ lab  │  │ setup │  │ VMM │
//!     │ host → check │  │      │  │       │  │ vmm │
//!     └──────┬───────┘  └──┬───┘  └──┬────┘  └──┬──┘
//!            └─────────────┴────┬────┴──────────┘
//!                              sys   (what the kernel ABI lets us do; the only `unsafe`)
//!                              spec  (what the standards say)
//! ```
//!
//! - [`host`] reads a host and states facts; it never judges and never writes.
//! - [`check`] has opinions on those facts: each finding with its evidence, its cause and what to do.
//! - [`setup`] changes the host through a journal that can undo every step.
//! - [`vmm`] runs a machine: vCPUs, memory, chipset, virtio and passed-through devices.
//! - [`bench`] measures what virtualization costs on this host, with guests of a few instructions.
//! - [`rehearse`] boots an emulated host in which the whole road can be tried first.
//! - [`profile`] is the YAML a user writes; [`report`] is what a user sees; [`cli`] joins them.
//! - [`sys`] and [`spec`] carry them all: the kernel's interfaces made safe, and the numbers of the standards.
//!
//! Which room may use which is written down once, in `tests/it/architecture.rs`, and enforced there.

#![cfg_attr(
    test,
    expect(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a test that meets an unexpected value should stop there"
    )
)]

pub mod bench;
pub mod check;
pub mod cli;
pub mod host;
pub mod profile;
pub mod rehearse;
pub mod report;
pub mod setup;
pub mod spec;
pub mod sys;
pub mod vmm;

/// What `tests/fuzz` feeds.
#[cfg(fuzzing)]
pub mod fuzz {
    pub use crate::spec::dmar::fuzz as dmar;
    pub use crate::spec::ivrs::fuzz as ivrs;
    pub use crate::vmm::boot::fuzz::fuzz as kernel;
    pub use crate::vmm::machine::fuzz as guest;
}
