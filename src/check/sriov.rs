//! SR-IOV: offered, enough room, driver able.

use super::Check;

/// The checks of this file.
pub(super) const CHECKS: &[Check] = &[];

#[cfg(test)]
pub(super) mod tests {
    use crate::check::fixture::{FakeHost, Fixture};

    /// What this file's checks need to pass.
    pub(in crate::check) fn healthy(_host: &FakeHost) {}

    /// How each check is brought to each answer.
    pub(in crate::check) const FIXTURES: &[Fixture] = &[];
}
