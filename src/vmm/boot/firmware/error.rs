//! Why firmware cannot be started: which file, what is wrong with it, and what to do.

use std::io;
use std::path::PathBuf;

use crate::spec::firmware_volume::NotAVolume;
use crate::vmm::layout;

/// Something is wrong with the firmware or with its variables.
#[derive(Debug, thiserror::Error)]
pub enum FirmwareError {
    /// More than there is room for below 4 GiB.
    #[error(
        "firmware {} has {size_bytes} bytes; at most {} fit below 4 GiB, so it is no firmware of a PC (OVMF_CODE_4M.fd of package ovmf is one)",
        path.display(), layout::FLASH.end - layout::FLASH.start
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        size_bytes: u64,
    },
    /// It is cut off, or was never whole.
    #[error("firmware {} is truncated: {problem}; copy it again, or install its package again", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// By what that is seen.
        problem: Truncation,
    },
    /// There is nothing where the processor starts.
    #[error(
        "firmware {} holds no code in its last 16 bytes, where a processor starts: it is truncated, or no firmware of a PC",
        path.display()
    )]
    NoResetVector {
        /// The file.
        path: PathBuf,
    },
    /// It is the other file of the pair.
    #[error(
        "{} holds a firmware's variables and no firmware: name the file with CODE in its name as firmware, and this one as its variables",
        path.display()
    )]
    OnlyVariables {
        /// The file.
        path: PathBuf,
    },
    /// UEFI firmware on a machine without a local APIC, whose timer is all that it waits by.
    #[error("firmware {} needs a local APIC, which `interrupts: userspace` does not have; write kernel or split", path.display())]
    NeedsApic {
        /// The file.
        path: PathBuf,
    },
    /// A kernel that firmware cannot start.
    #[error("kernel {} is no bzImage with an EFI stub, and UEFI firmware starts no other; without firmware it may start", path.display())]
    NotForFirmware {
        /// The file.
        path: PathBuf,
    },
    /// Something is wrong with the file that keeps the variables.
    #[error("the firmware's variables in {}: {problem}", path.display())]
    Variables {
        /// The file.
        path: PathBuf,
        /// What.
        #[source]
        problem: VariablesProblem,
    },
    /// The content could not be copied to memory.
    #[error("cannot read firmware file {}", path.display())]
    Copy {
        /// The file.
        path: PathBuf,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
    /// The guest cannot be shown the firmware.
    #[error("KVM refused to place the firmware below 4 GiB")]
    Place(#[source] io::Error),
}

/// By what a truncated file is known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Truncation {
    /// Not a whole number of pages.
    #[error("its {0} bytes are not a whole number of pages of 4096 bytes")]
    Page(u64),
    /// A volume goes on behind the end.
    #[error("its firmware volume at byte {at:#x} claims {length:#x} bytes, and {left:#x} are left")]
    Volume {
        /// Where the volume begins.
        at: u64,
        /// How long it says that it is.
        length: u64,
        /// How long it can be.
        left: u64,
    },
}

/// What is wrong with a file of variables.
#[derive(Debug, thiserror::Error)]
pub enum VariablesProblem {
    /// It does not exist, and nothing can be copied to its place.
    #[error(
        "the file does not exist, and there is no template to make it from ({}); copy the one that belongs to the firmware there",
        .tried.as_ref().map_or_else(|| "the firmware has no CODE in its name".to_owned(), |path| format!("no {}", path.display()))
    )]
    NoTemplate {
        /// Where a template was looked for.
        tried: Option<PathBuf>,
    },
    /// It cannot be made.
    #[error("the file cannot be made; is its directory there, and writable?")]
    Create(#[source] io::Error),
    /// It can be read but not written.
    #[error(
        "the file cannot be written, so nothing could be kept; make it writable, or name another file (it is made if it does not exist)"
    )]
    ReadOnly(#[source] io::Error),
    /// It cannot be opened or read.
    #[error("the file cannot be read")]
    Read(#[source] io::Error),
    /// It is no regular file.
    #[error("it is not a regular file")]
    NotAFile,
    /// Another machine has it.
    #[error(
        "the file is in use by {}; stop that machine first, or name another file for this one",
        .holder.map_or_else(|| "another process".to_owned(), |process| format!("process {process}"))
    )]
    InUse {
        /// Who, where it is known.
        holder: Option<u32>,
    },
    /// It cannot be locked.
    #[error("the file cannot be locked")]
    Lock(#[source] io::Error),
    /// It has another length than it should.
    #[error(
        "the file has {size_bytes} bytes, and its firmware's have {expected_bytes}: it is truncated, or belongs to another firmware; \
         move it away, and a new one is made"
    )]
    Size {
        /// Its length.
        size_bytes: u64,
        /// What it should be.
        expected_bytes: u64,
    },
    /// It does not begin as it should.
    #[error("the file is corrupt: {0}; move it away, and a new one is made")]
    Corrupt(NotAVolume),
    /// It is a volume of something else.
    #[error("the file holds no variables but other firmware; name the file with VARS in its name")]
    NotVariables,
}

impl VariablesProblem {
    /// Whether the host is at fault rather than what the user named.
    fn is_the_hosts(&self) -> bool {
        matches!(
            self,
            Self::Create(_) | Self::ReadOnly(_) | Self::Read(_) | Self::InUse { .. } | Self::Lock(_)
        )
    }
}

impl FirmwareError {
    /// Whether the host is at fault rather than what the user named.
    #[must_use]
    pub fn is_the_hosts(&self) -> bool {
        match self {
            Self::Variables { problem, .. } => problem.is_the_hosts(),
            Self::Copy { .. } | Self::Place(_) => true,
            _ => false,
        }
    }
}
