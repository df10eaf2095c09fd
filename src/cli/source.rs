//! `--root`: which host a reading command reads.

use std::path::PathBuf;

use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::host::source::{LiveSource, Source, TreeError, TreeSource};

/// The option `--root`, to be flattened into the arguments of a command that reads a host.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct RootArgs {
    /// Read a directory laid out like a host instead of this host
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

impl RootArgs {
    /// The host that the user named: the one that we run on, unless `--root` says otherwise.
    ///
    /// # Errors
    /// What `--root` names cannot be used: [`Exit::Usage`], or [`Exit::Host`] where the kernel cannot confine us to it.
    pub(crate) fn open(&self) -> Result<Box<dyn Source>, Failure> {
        let Some(root) = &self.root else { return Ok(Box::new(LiveSource)) };
        match TreeSource::open(root) {
            Ok(tree) => Ok(Box::new(tree)),
            Err(error) => Err(Failure::new(exit_of(&error), error)),
        }
    }
}

/// A directory that cannot be used is a wrong argument; a kernel that cannot confine us to it is the host's affair.
fn exit_of(error: &TreeError) -> Exit {
    match error {
        TreeError::Unconfined => Exit::Host,
        TreeError::Root { .. } | TreeError::Answers { .. } => Exit::Usage,
    }
}
