//! `thruway groups`: IOMMU groups, and why they are as they are.

use serde::Serialize;

use crate::check::groups::{explain, pair};
use crate::cli::format::{FormatArgs, document};
use crate::cli::source::RootArgs;
use crate::cli::{CliResult, Context, Exit, Failure, OrExit};
use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::host::iommu::Group;
use crate::host::pci::PciDevice;
use crate::host::select::{Selector, resolve};
use crate::report::table;
use crate::report::view::groups;
use crate::spec::pci::PciAddress;

/// Arguments of `thruway groups`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  thruway groups                          every group with its members, and why it holds them
  thruway groups --why 01:00.0            why is this group as it is, and what would change it?
  thruway groups --why 01:00.0 02:00.0    why are these two in one group, or in two?
  thruway groups --format json | jq '.data.groups[] | select(.viable == false)'

Causes come from registers, which only root may read. What could not be read is unknown: no port is said to lack
isolation that nobody has looked at.")]
pub(crate) struct Args {
    /// Say why the group of this function is as it is; with two, why they are in one group or in two
    #[arg(long, value_name = "ADDR", num_args = 1..=2)]
    why: Vec<PciAddress>,
    #[command(flatten)]
    root: RootArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// `data` of the document `thruway.groups`.
#[derive(Debug, Serialize)]
struct Groups<'a> {
    groups: &'a Fact<Vec<Group>>,
}

/// Reads the host and tells its groups.
pub(crate) fn run(args: &Args, context: &Context) -> CliResult {
    let facts = args.root.facts(context)?;
    let format = args.format.format;
    let width = table::terminal_width();
    let text = match *args.why.as_slice() {
        [] => {
            let data = Groups { groups: &facts.iommu.groups };
            document(format, "thruway.groups", 1, &data)?.unwrap_or_else(|| groups::render(&facts, width))
        }
        [address] => {
            let told = explain(&facts, function(&facts, address)?);
            document(format, "thruway.group", 1, &told)?.unwrap_or_else(|| groups::explanation(&told, width))
        }
        [first, second, ..] => {
            let told = pair(&facts, function(&facts, first)?, function(&facts, second)?);
            document(format, "thruway.group_pair", 1, &told)?.unwrap_or_else(|| groups::pair(&told, width))
        }
    };
    context.print(text)?;
    Ok(Exit::Ok.into())
}

/// The function at `address`.
fn function(facts: &HostFacts, address: PciAddress) -> Result<&PciDevice, Failure> {
    let address = resolve(facts, &Selector::Address(address)).or_exit(Exit::Usage)?;
    Ok(facts.device(address).expect("an address that resolved is that of a function"))
}
