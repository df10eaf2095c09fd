//! What to do about a finding: a menu of this vendor's firmware, an argument for this boot loader, a command.

use serde::Serialize;

/// How sure a menu path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Confidence {
    /// From one weak source, or sources disagree.
    Low,
    /// From one good source.
    Medium,
    /// From the vendor's manual or several sources, or read from the firmware itself.
    High,
}

/// What kind of step a remedy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RemedyKind {
    /// A setting of the firmware ("BIOS").
    Firmware,
    /// An argument of the kernel's command line.
    KernelArgument,
    /// A command to type.
    Command,
    /// Another slot, card or machine.
    Hardware,
    /// Something that no tool does.
    Advice,
}

/// One way to mend what was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Remedy {
    /// What kind of step.
    pub kind: RemedyKind,
    /// The step itself, to be followed as it stands: a menu path, a command line.
    pub text: String,
    /// What it does, and its side effects.
    pub note: Option<String>,
    /// How sure a menu path is; absent for other kinds.
    pub confidence: Option<Confidence>,
    /// Whether it takes a reboot to work.
    pub reboot: bool,
}

impl Remedy {
    /// A command to type, and what it does.
    #[must_use]
    pub fn command(command: impl Into<String>, note: impl Into<String>) -> Self {
        Self::new(RemedyKind::Command, command, Some(note.into()))
    }

    /// Something to do by hand on the hardware.
    #[must_use]
    pub fn hardware(text: impl Into<String>) -> Self {
        Self::new(RemedyKind::Hardware, text, None)
    }

    /// Something that no tool does.
    #[must_use]
    pub fn advice(text: impl Into<String>) -> Self {
        Self::new(RemedyKind::Advice, text, None)
    }

    fn new(kind: RemedyKind, text: impl Into<String>, note: Option<String>) -> Self {
        Self { kind, text: text.into(), note, confidence: None, reboot: false }
    }

    /// It takes a reboot to work.
    #[must_use]
    pub fn after_reboot(mut self) -> Self {
        self.reboot = true;
        self
    }
}
