//! The kernel's log, as far as it is about virtualization.
//!
//! The log is a ring: old messages go. What stands in it happened; what does not stand in it may have happened, too.

use serde::Serialize;

use crate::host::fact::Fact;
use crate::host::source::Source;

/// The kernel's own messages, oldest first.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub struct KernelLog(pub Fact<Vec<String>>);

pub(super) fn collect(source: &dyn Source) -> KernelLog {
    KernelLog(source.kernel_log())
}

impl KernelLog {
    /// Where the messages come from.
    pub const SOURCE: &str = "/dev/kmsg";

    /// The messages that contain one of `parts`; none if the log could not be read.
    pub fn with<'a>(&'a self, parts: &'a [&str]) -> impl Iterator<Item = &'a str> {
        let messages = self.0.known().into_iter().flatten().map(String::as_str);
        messages.filter(|message| parts.iter().any(|part| message.contains(part)))
    }

    /// The first message that contains one of `parts`.
    #[must_use]
    pub fn first<'a>(&'a self, parts: &'a [&str]) -> Option<&'a str> {
        self.with(parts).next()
    }
}
