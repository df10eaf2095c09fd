//! `--root`: which host a reading command reads.

use std::path::{Path, PathBuf};

use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::{Context, progress};
use crate::host::source::{self, LiveSource, OpenError, Source, TreeError};
use crate::host::{self, HostFacts};

/// The option `--root`, to be flattened into the arguments of a command that reads a host.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct RootArgs {
    /// Read a capture, or a directory laid out like a host, instead of this host
    #[arg(long, value_name = "FILE|DIR")]
    root: Option<PathBuf>,
}

impl RootArgs {
    /// Whether it is the host that we run on.
    pub(crate) fn is_live(&self) -> bool {
        self.root.is_none()
    }

    /// The host that the user named: the one that we run on, unless `--root` says otherwise.
    ///
    /// # Errors
    /// What `--root` names cannot be used: [`Exit::Usage`], or [`Exit::Host`] where the kernel cannot confine us to it.
    pub(crate) fn open(&self) -> Result<Box<dyn Source>, Failure> {
        let Some(root) = &self.root else { return Ok(Box::new(LiveSource)) };
        open(root)
    }

    /// Reads that host; on a terminal a line says so where that takes long.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(crate) fn facts(&self, context: &Context) -> Result<HostFacts, Failure> {
        let source = self.open()?;
        Ok(progress::shown(context, "reading the host", || read(source, Telling::Whole)))
    }
}

/// Reads the host that we run on; on a terminal a line says so where that takes long.
pub(crate) fn live(context: &Context) -> HostFacts {
    progress::shown(context, "reading the host", || read(Box::new(LiveSource), Telling::Whole))
}

/// How much of a host is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Telling {
    /// All that was read.
    Whole,
    /// What its capture would hold: names, numbers and addresses are placeholders.
    Redacted,
}

/// Reads the host behind `source`; a file of it that never answers is unreadable.
pub(crate) fn read(source: Box<dyn Source>, telling: Telling) -> HostFacts {
    source::patiently(source, move |source| match telling {
        Telling::Whole => host::collect(source),
        Telling::Redacted => host::collect(&host::capture(source).1.redacted().0),
    })
}

/// Opens what stands for a host.
///
/// # Errors
/// As [`RootArgs::open`].
pub(crate) fn open(path: &Path) -> Result<Box<dyn Source>, Failure> {
    source::open(path).map_err(|error| Failure::new(exit_of(&error), error))
}

/// What cannot be used is a wrong argument; a kernel that cannot confine us to a directory is the host's affair.
fn exit_of(error: &OpenError) -> Exit {
    match error {
        OpenError::Tree(TreeError::Unconfined) => Exit::Host,
        OpenError::Tree(_) | OpenError::Bundle(_) => Exit::Usage,
    }
}
