//! The running kernel: release, configuration, command line, modules that matter, this boot, and how the next boot gets
//! its arguments.

mod boot_loader;
mod config;
mod distribution;
mod modprobe;
mod modules;
pub(super) mod parameters;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::host::fact::Fact;
use crate::host::parse;
use crate::host::source::{Bundle, Source};

pub use boot_loader::{ArgumentKeeper, BootLoader};
pub use config::{Build, KernelConfig};
pub use distribution::Distribution;
pub use modprobe::{ModprobeSetting, SettingKind};
pub use modules::ModuleState;
pub use parameters::{Effect, Parameter, Subject};

/// The running kernel.
#[derive(Debug, Clone, Serialize)]
pub struct Kernel {
    /// Release, as `uname -r` prints it.
    pub release: Fact<String>,
    /// How it was built; absent where it left its configuration nowhere.
    pub config: Fact<KernelConfig>,
    /// Command line of this boot.
    pub command_line: Fact<String>,
    /// Those arguments of the command line that have to do with virtualization and passthrough, in their order.
    pub parameters: Fact<Vec<Parameter>>,
    /// Identity of this boot; another boot has another.
    pub boot_id: Fact<String>,
    /// Modules that have to do with virtualization and are loaded, or built in and have parameters, in alphabetical
    /// order (Linux: Documentation/ABI/stable/sysfs-module).
    pub modules: Fact<Vec<String>>,
    /// All names in `/sys/module`, as they stand there; not told, because who loaded what is nobody's business.
    #[serde(skip)]
    pub loaded: Fact<Vec<String>>,
    /// Where each of the modules is that virtualization and passthrough need.
    pub module_states: BTreeMap<&'static str, Fact<ModuleState>>,
    /// What modprobe is told about modules of virtualization and drivers of displays, in the order in which it reads it.
    pub modprobe: Fact<Vec<ModprobeSetting>>,
    /// The distribution that runs it.
    pub distribution: Distribution,
    /// How this host boots.
    pub boot_loader: BootLoader,
}

/// First letters of the modules that are told.
const MODULES: [&str; 5] = ["kvm", "vfio", "iommu", "vhost", "virtio_iommu"];

/// Reads the kernel. What its arguments do is [`parameters::explain`]ed when the rest of the host is known.
pub(super) fn collect(source: &dyn Source) -> Kernel {
    let text = |path| parse::required(source.text(path), path);
    let distribution = distribution::collect(source);
    let release = text("/proc/sys/kernel/osrelease");
    let loaded = super::list_or_empty(source, "/sys/module", "/sys/kernel");
    let module_states = modules::collect(source, &release, &loaded);
    let modules = loaded.clone().map(|mut names| {
        names.retain(|name| MODULES.iter().any(|prefix| name.starts_with(prefix)));
        names
    });
    Kernel {
        config: config::collect(source, &release),
        parameters: Fact::NotPresent,
        module_states,
        modprobe: modprobe::collect(source),
        release,
        command_line: text("/proc/cmdline"),
        boot_id: text("/proc/sys/kernel/random/boot_id"),
        modules,
        loaded,
        boot_loader: boot_loader::collect(source, &distribution),
        distribution,
    }
}

/// Shortens what a capture holds of the kernel to what is told of it.
pub(super) fn abridge(bundle: &mut Bundle, kernel: &Kernel) {
    config::abridge(bundle, &kernel.release);
    modules::abridge(bundle, &kernel.release);
}

impl Kernel {
    /// Version of Linux: 6 and 12 of `6.12.95+deb12-amd64`.
    #[must_use]
    pub fn version(&self) -> Option<(u32, u32)> {
        let mut numbers = self.release.known()?.split(|character: char| !character.is_ascii_digit());
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    }

    /// Where a module is; `None` where that is not known.
    #[must_use]
    pub fn module(&self, name: &str) -> Option<ModuleState> {
        self.module_states.get(name)?.known().copied()
    }

    /// The values of parameter `name` on the command line, in order; the kernel takes most of them as they come, the
    /// last one wins. Dashes and underscores are the same (Linux: Documentation/admin-guide/kernel-parameters.rst).
    pub fn parameter<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let line = self.command_line.known().map_or("", String::as_str);
        let same = |key: &str| {
            key.len() == name.len()
                && key
                    .bytes()
                    .zip(name.bytes())
                    .all(|(a, b)| a == b || matches!((a, b), (b'-', b'_') | (b'_', b'-')))
        };
        line.split_ascii_whitespace().take_while(|word| *word != "--").filter_map(move |word| {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            same(key).then_some(value)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::source::fake::{Entry, FakeHost};

    #[test]
    fn parameters_are_found_in_either_spelling_and_not_behind_the_separator() {
        let line = "quiet intel_iommu=on,sm_on a-b=1 -- intel_iommu=off";
        let kernel = collect(&FakeHost::new(&[("/proc/cmdline", Entry::Text(line))]).source());
        assert_eq!(kernel.parameter("intel_iommu").collect::<Vec<_>>(), ["on,sm_on"]);
        assert_eq!(kernel.parameter("a_b").collect::<Vec<_>>(), ["1"]);
        assert_eq!(kernel.parameter("iommu").count(), 0);
    }
}
