//! Profiles: the YAML in which a user says what a host should look like and which machine should run on it.
//!
//! A profile is read in one pass from outside to inside, and each step reports all that it finds, with file, line,
//! column and excerpt: limits of the file → syntax, unknown and duplicate keys ([`yaml`]) → types ([`schema`]) →
//! values ([`resolve`]). `host:` is `setup`'s goal; `machine:` becomes the VMM's `MachineConfig`. This room opens no
//! device and asks the host nothing: what a selector names is looked up by whoever calls [`Loaded::resolve`].
//!
//! ```text
//! PROFILE (a path, or the name of a built-in one) ── load ──▶ Loaded ── .profile.host ──▶ setup
//!                                                               └───── .resolve(..) ───▶ vmm
//! ```

pub mod builtin;
mod diagnostic;
mod load;
pub mod resolve;
pub mod schema;
mod structure;
mod tree;
pub mod yaml;

pub use diagnostic::{Finding, Findings};
pub use load::{Loaded, ProfileError, Purpose, is_path, load};
pub use schema::Profile;
