//! The host side of devices: what stands behind a disk, a network card or a console, whichever device model shows it to the
//! guest. Everything here is opened when the machine is built, before any guest runs.

pub mod console;
pub mod disk;
pub mod listener;
