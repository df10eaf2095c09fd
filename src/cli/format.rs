//! `--format`: a table for people, or one document for machines.

use serde::Serialize;

use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, OrExit};
use crate::report;

/// How a command prints its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people; may change between versions
    #[default]
    Table,
    /// One JSON document, for programs
    Json,
    /// The same document as YAML
    Yaml,
}

/// The option `--format`, to be flattened into a command's arguments.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct FormatArgs {
    /// How to print the answer: a table for people; json or yaml, one document for programs
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT", hide_possible_values = true)]
    pub(crate) format: Format,
}

/// `data` in its envelope, as JSON or YAML; `None` for [`Format::Table`], which is the command's own affair.
/// `schema` names the document (`thruway.probe`), `version` its shape.
///
/// # Errors
/// `data` has a map whose keys are not strings: a fault of ours.
pub(crate) fn document<T: Serialize>(
    format: Format,
    schema: &str,
    version: u32,
    data: &T,
) -> Result<Option<String>, Failure> {
    let value = || report::document(schema, version, data).or_exit(Exit::VmmFault);
    match format {
        Format::Table => Ok(None),
        Format::Json => serde_json::to_string_pretty(&value()?).or_exit(Exit::VmmFault).map(Some),
        Format::Yaml => serde_yaml::to_string(&value()?).or_exit(Exit::VmmFault).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_and_yaml_carry_the_same_envelope() {
        let data = [("count", 2)].into_iter().collect::<std::collections::BTreeMap<_, _>>();
        let json = document(Format::Json, "thruway.test", 1, &data).unwrap().unwrap();
        let yaml = document(Format::Yaml, "thruway.test", 1, &data).unwrap().unwrap();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        let yaml: serde_json::Value = serde_yaml::from_str(&yaml).unwrap();
        assert_eq!(json, yaml);
        assert_eq!(
            json.as_object().unwrap().keys().collect::<Vec<_>>(),
            ["schema", "schema_version", "tool_version", "data"]
        );
    }

    #[test]
    fn a_table_is_no_document() {
        assert_eq!(document(Format::Table, "thruway.test", 1, &()).unwrap(), None);
    }
}
