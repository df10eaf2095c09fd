//! The `thruway` binary: hand over to the command line, return its exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    thruway::cli::main()
}
