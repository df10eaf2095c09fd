//! Setup: changes a host, through a journal that can undo every step.
//!
//! `HostFacts` + [`goal::Goal`] → [`plan`] (pure; refuses what [`guard`] refuses) → [`apply`] (each step written down in
//! the [`journal`] before it is made, made in a child with a time limit, read back) → [`undo`]. [`status`] compares the
//! journal with the host. All writing goes through [`control::Control`]; reading and writing are different types, so the
//! inspector cannot write. To add something that setup can do: a file in [`action`], its line there and in [`plan`].
//!
//! What a boot ends, [`persist`] makes so again: by files, written by steps of the same plan and undone at any boot.
//!
//! What outlives an undo: modules that binding loaded stay, and the journal keeps the record of the last transactions.

pub mod account;
pub mod action;
pub mod apply;
pub mod confirm;
pub mod control;
pub mod goal;
pub mod guard;
pub mod journal;
pub mod persist;
pub mod plan;
pub mod session;
pub mod status;
pub mod undo;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod law;
