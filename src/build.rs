//! Build script: the names of the `pci-ids` crate as a text in the format of pci.ids, with the places of its blocks.
//!
//! The crate's own tables are maps of pointers, 1.5 MB that the loader relocates at every start of the program and of
//! which every process then has a copy of its own. A text stays in the file until somebody looks at it. Subsystems and
//! programming interfaces are left out: nothing here names them.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=src/build.rs");
    let out = env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
    let (list, blocks) = names();
    fs::write(Path::new(&out).join("pci.ids"), list).expect("OUT_DIR can be written");
    fs::write(Path::new(&out).join("pci_ids_blocks.rs"), blocks).expect("OUT_DIR can be written");
}

/// The list, and the tuple `(classes, vendors)` of where its blocks begin: the classes, which are at its end, and each
/// vendor by its number.
fn names() -> (String, String) {
    let (mut list, mut blocks) = (String::new(), String::new());
    let mut vendors: Vec<_> = pci_ids::Vendors::iter().collect();
    vendors.sort_unstable_by_key(|vendor| vendor.id());
    for vendor in vendors {
        let _ = writeln!(blocks, "(0x{:04x}, {}),", vendor.id(), list.len());
        let _ = writeln!(list, "{:04x}  {}", vendor.id(), vendor.name());
        for device in vendor.devices() {
            let _ = writeln!(list, "\t{:04x}  {}", device.id(), device.name());
        }
    }
    let classes = list.len();
    let mut sorted: Vec<_> = pci_ids::Classes::iter().collect();
    sorted.sort_unstable_by_key(|class| class.id());
    for class in sorted {
        let _ = writeln!(list, "C {:02x}  {}", class.id(), class.name());
        for sub in class.subclasses() {
            let _ = writeln!(list, "\t{:02x}  {}", sub.id(), sub.name());
        }
    }
    (list, format!("({classes}, &[\n{blocks}])\n"))
}
