//! Integration tests: the program from outside, its generated files, and the shape of its sources.
//!
//! - `acpi`: real tables, decoded by us and by iasl.
//! - `architecture`: which room may use which; what each must never do.
//! - `capture`: one file that stands for a host.
//! - `cli`: exit codes, streams, colour. `golden`: what is printed, to the letter.
//! - `export`: machines for other programs, as those read them.
//! - `lab`: what a real kernel does in an emulated host; its head says how a test uses it.
//! - `probe`, `doctor`, `topology`, `report`: what the inspector says of the hosts in `tests/hosts`, which `hosts` unfolds.
//! - `hostile`: what nobody should find on a host, and what is said of it.
//! - `terminal`: what terminals and pipes see of all of these.
//! - `disk`, `devices`: images, and what a profile's devices can be told, as their user meets them.
//! - `generated`: man pages, completions and the JSON schema are as fresh as the code.
//!
//! All of it runs unprivileged, offline and without KVM, unless a test says SKIP and why; see [`support::skip`].

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that meets an unexpected value should stop there"
)]

mod acpi;
mod architecture;
mod capture;
mod cli;
mod devices;
mod disk;
mod doctor;
mod export;
mod firmware;
mod generated;
mod golden;
mod groups;
mod hostile;
mod hosts;
mod lab;
mod probe;
mod report;
mod support;
mod terminal;
mod topology;
mod vm;
