//! Emulated hosts that boot from a disk of their own, by its boot loader, with systemd and udev, as often as a test wants.
//!
//! The emulated host of `rehearse` is made anew for each run: nothing that is meant to outlive a boot can be tried in it.
//! These are Debian 12 as it is installed: OVMF starts the [`Loader`] of the disk's EFI system partition, that starts the
//! kernel with the initial RAM file system of initramfs-tools, and `update-grub`, `kernel-install` and `update-initramfs`
//! in it do what they do on a user's host.
//!
//! ```ignore
//! use crate::lab::Lab;
//! use crate::lab::disk::{Cut, DiskHost, Loader};
//!
//! let Some(lab) = Lab::open() else { return };
//! let Some(mut host) = DiskHost::open(lab, Loader::Grub) else { return };     // says SKIP and why
//! let first = host.boot("thruway apply sriov-nic --persist --yes");
//! first.succeeded();
//! let second = host.boot("cat /proc/cmdline; thruway status");                // the same disk, switched on again
//! host.boot_and_cut("mark begun; thruway undo --yes; mark done", &Cut::at("begun"));
//! ```
//!
//! - `thruway` is on the disk from the beginning (`/usr/local/bin`), so that units of early boot may call it.
//! - A script runs as root, as a part of a unit that starts after `multi-user.target`. `$LAB_OUT` is a directory whose files
//!   come back ([`Boot::file`]). At its end the machine is shut down in order and QEMU ends.
//! - [`DiskHost::boot_and_cut`] ends QEMU at a moment that the script says by `mark NAME`. What the disk has taken by then
//!   stays: QEMU's writes are in this machine's page cache, like those of a disk whose cache has a battery. What the
//!   emulated kernel had not written yet is lost, as with any power cut; writes that a disk without a battery may lose or
//!   reorder are not shown.
//! - A boot costs about 20 s to the script and 3 s for the shutdown, `update-grub` 5 s, `update-initramfs` 30 to 40 s.
//!
//! Building the two disks takes one to two minutes, once for each kernel and recipe; they lie in the cache below `disks`.

mod boot;
mod boots;
mod cuts;
mod host;
mod image;
mod persist;
mod trial;
mod walk;

pub(crate) use boot::{Boot, Cut};
pub(crate) use host::DiskHost;
pub(crate) use image::{Loader, ROOT_OFFSET_BYTES, disk, program};
