//! The running kernel.

use super::{Text, word};
use crate::host::HostFacts;
use crate::report::style::Tone;

/// Its section.
pub(super) fn show(text: &mut Text, facts: &HostFacts) {
    let kernel = &facts.kernel;
    text.section("Kernel");
    text.line("release", (Tone::Plain, word(&kernel.release, Clone::clone)));
    text.line("command line", (Tone::Plain, word(&kernel.command_line, Clone::clone)));
}
