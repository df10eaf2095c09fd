//! Drivers that driverctl(8) gives to functions at each boot: a file for each, named after bus and address.

use serde::Serialize;

use crate::host::fact::Fact;
use crate::host::source::Source;
use crate::spec::pci::PciAddress;

const DIRECTORY: &str = "/etc/driverctl.d";
/// Most files that are read.
const MOST: usize = 4096;

/// A driver for a function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Override {
    /// The file that says so.
    pub file: String,
    /// The function.
    pub address: PciAddress,
    /// The driver; absent if the file is empty.
    pub driver: Fact<String>,
}

pub(super) fn collect(source: &dyn Source) -> Fact<Vec<Override>> {
    let names = match source.list(DIRECTORY) {
        Fact::NotPresent => return Fact::Known(Vec::new()),
        names => names,
    };
    names.map(|names| names.iter().take(MOST).filter_map(|name| one(source, name)).collect())
}

fn one(source: &dyn Source, name: &str) -> Option<Override> {
    let address = name.strip_prefix("pci-")?.parse().ok()?;
    let file = format!("{DIRECTORY}/{name}");
    let driver = source.text(&file).and_then(|text| match text.trim() {
        "" => Fact::NotPresent,
        driver => Fact::Known(driver.to_owned()),
    });
    Some(Override { file, address, driver })
}
