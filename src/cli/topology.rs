//! `thruway topology`: the PCI tree with its IOMMU groups.

use crate::cli::format::{self, document};
use crate::cli::source::RootArgs;
use crate::cli::{CliResult, Context, Exit};
use crate::report::table;
use crate::report::view::topology::{self, Shape, Topology};

/// Arguments of `thruway topology`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  thruway topology
  thruway topology --format svg > topology.svg
  thruway topology --format dot | dot -Tpdf > topology.pdf

Functions of one colour are in one IOMMU group: they go to a guest together, or not at all.")]
pub(crate) struct Args {
    #[command(flatten)]
    root: RootArgs,
    /// How to draw it: tree, svg, dot; json and yaml for programs
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT", hide_possible_values = true)]
    format: Format,
}

/// How it is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
enum Format {
    /// Lines for a terminal
    #[default]
    Tree,
    /// A picture
    Svg,
    /// A graph for Graphviz
    Dot,
    /// One JSON document, for programs
    Json,
    /// The same document as YAML
    Yaml,
}

/// Reads the host and draws it.
pub(crate) fn run(args: &Args, context: &Context) -> CliResult {
    let topology = Topology::of(&args.root.facts(context)?);
    let as_document =
        |format| document(format, "thruway.topology", 1, &topology).map(Option::unwrap_or_default);
    context.print(match args.format {
        Format::Tree => topology::tree(&topology, table::terminal_width()),
        Format::Svg => topology::svg(&topology, Shape::Sheet),
        Format::Dot => topology::dot(&topology),
        Format::Json => as_document(format::Format::Json)?,
        Format::Yaml => as_document(format::Format::Yaml)?,
    })?;
    Ok(Exit::Ok.into())
}
