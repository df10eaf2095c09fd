//! Exit codes: one enum, the table in the man page is made from it.

use std::process::ExitCode;

/// How a command ended. The numbers are part of the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Exit {
    /// It worked, or the answer is yes.
    Ok = 0,
    /// The answer is no: a check failed.
    No = 1,
    /// Wrong usage, or a profile that is not valid.
    Usage = 2,
    /// The host cannot do this, or permission is missing.
    Host = 3,
    /// Set-up failed; nothing is left behind.
    SetupFailed = 4,
    /// Set-up failed and something is left or stuck; it was listed.
    SetupStuck = 5,
    /// Refused by a safety rule.
    Refused = 6,
    /// The guest asked for a reboot and the profile says `on_reboot: exit`.
    GuestReboot = 10,
    /// The guest's kernel panicked.
    GuestPanic = 11,
    /// The virtual machine monitor failed.
    VmmFault = 12,
    /// `rehearse -- COMMAND` itself failed; otherwise it hands back the command's status.
    Rehearsal = 125,
    /// Interrupted by a signal.
    Interrupted = 130,
}

impl Exit {
    /// Every code with its meaning, in order, for the man page.
    pub const TABLE: [(Self, &'static str); 12] = [
        (Self::Ok, "it worked, or the answer is yes"),
        (Self::No, "the answer is no: a check failed"),
        (Self::Usage, "wrong usage, or a profile that is not valid"),
        (Self::Host, "the host cannot do this, or permission is missing"),
        (Self::SetupFailed, "set-up failed; nothing is left behind"),
        (Self::SetupStuck, "set-up failed and something is left or stuck; it is listed"),
        (Self::Refused, "refused by a safety rule"),
        (Self::GuestReboot, "the guest asked for a reboot and the profile says on_reboot: exit"),
        (Self::GuestPanic, "the guest's kernel panicked"),
        (Self::VmmFault, "the virtual machine monitor failed"),
        (
            Self::Rehearsal,
            "rehearse -- COMMAND itself failed; otherwise the command's own status is handed back",
        ),
        (Self::Interrupted, "interrupted by a signal"),
    ];

    /// The number that the process returns.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
