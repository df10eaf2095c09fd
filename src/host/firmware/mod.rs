//! Firmware: how the machine booted, who made it, what its tables say, and which of its settings the kernel shows.
//!
//! Tables are facts about firmware, not about the kernel: a DMAR table says what firmware offers, [`crate::host::iommu`]
//! says what runs.

mod dmi;
mod settings;

use serde::Serialize;

use crate::host::fact::Fact;
use crate::host::source::Source;

pub use dmi::Dmi;
pub use settings::{LiveSetting, Setting};

/// Firmware of a host.
#[derive(Debug, Clone, Serialize)]
pub struct Firmware {
    /// What firmware calls the machine and itself.
    pub dmi: Dmi,
    /// Settings that the kernel shows and that bear on virtualization, by driver and name.
    pub settings: Fact<Vec<LiveSetting>>,
}

impl Firmware {
    /// The value that firmware itself shows for `setting`, if the kernel has a driver that asks it.
    #[must_use]
    pub fn setting(&self, setting: Setting) -> Option<&LiveSetting> {
        self.settings.known()?.iter().find(|live| live.setting == setting)
    }
}

pub(super) fn collect(source: &dyn Source) -> Firmware {
    Firmware { dmi: Dmi::collect(source), settings: settings::collect(source) }
}
