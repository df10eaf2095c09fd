//! Choosing kernel modules: from names to files with everything that they depend on, and the small `/lib/modules`
//! that goes into an initial RAM file system.
//!
//! The tables are those that depmod writes. Spec: `modules.dep(5)`; aliases are patterns over a device's `modalias`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{AssetsError, run};

/// The modules of one kernel.
#[derive(Debug)]
pub(super) struct ModuleTree {
    /// `.../lib/modules/RELEASE`.
    directory: PathBuf,
    /// Module name to its file, relative to `directory`, and the files it depends on, as depmod listed them.
    modules: BTreeMap<String, (String, Vec<String>)>,
    /// Names of modules that are part of the kernel image.
    builtin: BTreeSet<String>,
    /// Lines of `modules.alias`: pattern and module.
    aliases: Vec<(String, String)>,
}

/// A module's content and the tables for a set of modules.
#[derive(Debug)]
pub(super) struct Selection {
    /// File name (`igb.ko`) and content, uncompressed, dependencies first.
    pub(super) files: Vec<(String, Vec<u8>)>,
    /// `modules.dep` for these files.
    pub(super) dependencies: String,
    /// `modules.alias` for these files.
    pub(super) aliases: String,
}

/// `kernel/net/virtio-net.ko.xz` is the module `virtio_net`.
fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split_once(".ko").map_or(file, |(name, _)| name).replace('-', "_")
}

impl ModuleTree {
    pub(super) fn read(directory: &Path) -> Result<Self, AssetsError> {
        let text = |name: &str| {
            let path = directory.join(name);
            fs::read_to_string(&path).map_err(|source| AssetsError::Io { path, source })
        };
        let modules = text("modules.dep")?
            .lines()
            .filter_map(|line| {
                let (file, needs) = line.split_once(':')?;
                let needs = needs.split_whitespace().map(str::to_owned).collect();
                Some((module_name(file), (file.to_owned(), needs)))
            })
            .collect();
        let builtin = text("modules.builtin")?.lines().map(module_name).collect();
        let aliases = text("modules.alias")?
            .lines()
            .filter_map(|line| {
                let (pattern, module) = line.strip_prefix("alias ")?.rsplit_once(' ')?;
                Some((pattern.to_owned(), module.replace('-', "_")))
            })
            .collect();
        Ok(Self { directory: directory.to_owned(), modules, builtin, aliases })
    }

    /// Modules by name with all that they need; names that are built in are skipped, names that this kernel does not
    /// have at all are skipped when `optional`.
    pub(super) fn select(&self, required: &[&str], optional: &[&str]) -> Result<Selection, AssetsError> {
        let mut order = Vec::new();
        for (name, must) in
            required.iter().map(|name| (name, true)).chain(optional.iter().map(|name| (name, false)))
        {
            let name = module_name(name);
            if let Some((file, needs)) = self.modules.get(&name) {
                // depmod lists what must be loaded last first.
                for path in needs.iter().rev().chain([file]) {
                    if !order.contains(path) {
                        order.push(path.clone());
                    }
                }
            } else if must && !self.builtin.contains(&name) {
                return Err(AssetsError::NoModule { name, directory: self.directory.clone() });
            }
        }
        let mut files = Vec::new();
        let mut dependencies = String::new();
        let mut aliases = String::new();
        for path in &order {
            let name = module_name(path);
            files.push((format!("{name}.ko"), self.content(path)?));
            let needs = self.modules.get(&name).map(|(_, needs)| needs.as_slice()).unwrap_or_default();
            let needs: Vec<String> = needs.iter().map(|need| format!(" {}.ko", module_name(need))).collect();
            dependencies.push_str(&format!("{name}.ko:{}\n", needs.concat()));
        }
        let names: BTreeSet<String> = order.iter().map(|path| module_name(path)).collect();
        for (pattern, module) in &self.aliases {
            if names.contains(module) {
                aliases.push_str(&format!("alias {pattern} {module}\n"));
            }
        }
        Ok(Selection { files, dependencies, aliases })
    }

    fn content(&self, relative: &str) -> Result<Vec<u8>, AssetsError> {
        let path = self.directory.join(relative);
        let program = match relative.rsplit('.').next() {
            Some("xz") => "xz",
            Some("zst") => "zstd",
            Some("gz") => "gzip",
            _ => return fs::read(&path).map_err(|source| AssetsError::Io { path, source }),
        };
        run(Command::new(program).arg("-dc").arg(&path).stdin(Stdio::null()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> (tempfile::TempDir, ModuleTree) {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("modules.dep", "a/igb-vf.ko: b/dca.ko c/i2c.ko\nb/dca.ko:\nc/i2c.ko: b/dca.ko\n"),
            ("modules.builtin", "kernel/virtio_pci.ko\n"),
            ("modules.alias", "# Aliases\nalias pci:v00008086d* igb_vf\nalias pci:v00001234d* other\n"),
        ] {
            fs::write(directory.path().join(name), text).unwrap();
        }
        for file in ["a/igb-vf.ko", "b/dca.ko", "c/i2c.ko"] {
            let path = directory.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        let tree = ModuleTree::read(directory.path()).unwrap();
        (directory, tree)
    }

    #[test]
    fn a_module_comes_after_all_that_it_needs() {
        let (_directory, tree) = tree();

        let selection = tree.select(&["igb_vf"], &[]).unwrap();

        let names: Vec<&str> = selection.files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["i2c.ko", "dca.ko", "igb_vf.ko"]);
        assert!(selection.dependencies.contains("igb_vf.ko: dca.ko i2c.ko\n"), "{}", selection.dependencies);
    }

    #[test]
    fn only_aliases_of_chosen_modules_are_kept() {
        let (_directory, tree) = tree();

        let selection = tree.select(&["igb-vf", "virtio_pci"], &["nothing"]).unwrap();

        assert_eq!(selection.aliases, "alias pci:v00008086d* igb_vf\n");
    }

    #[test]
    fn a_required_module_that_is_nowhere_is_an_error() {
        let (_directory, tree) = tree();

        let error = tree.select(&["nothing"], &[]).unwrap_err();

        assert!(matches!(error, AssetsError::NoModule { ref name, .. } if name == "nothing"), "{error}");
    }
}
