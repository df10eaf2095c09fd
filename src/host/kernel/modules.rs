//! Modules that virtualization and passthrough need: loaded, part of the kernel, on disk, or nowhere.
//!
//! Spec: modules.dep(5), modules.builtin(5); Linux: Documentation/ABI/stable/sysfs-module.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::host::fact::Fact;
use crate::host::source::{Bundle, Source};

/// Most bytes of depmod's tables that are read; those of distributions have less than a million.
const LIMIT_BYTES: u64 = 8 << 20;
/// The modules that are told, in alphabetical order.
const NAMES: [&str; 12] = [
    "iommufd",
    "kvm",
    "kvm_amd",
    "kvm_intel",
    "pci_stub",
    "vfio",
    "vfio_iommu_type1",
    "vfio_pci",
    "vfio_virqfd",
    "vhost_net",
    "vhost_vsock",
    "virtio_iommu",
];

/// Where a module is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ModuleState {
    /// A part of the kernel: options of modprobe do not reach it.
    BuiltIn,
    /// Loaded.
    Loaded,
    /// On disk, and not loaded.
    OnDisk,
    /// Nowhere.
    Absent,
}

/// Finds each module. `loaded` are the names below /sys/module that were listed.
pub(super) fn collect(
    source: &dyn Source,
    release: &Fact<String>,
    loaded: &Fact<Vec<String>>,
) -> BTreeMap<&'static str, Fact<ModuleState>> {
    let [built_in, on_disk] = tables(release).map(|path| path.and_then(|path| table(source, &path)));
    let state = |name: &'static str| {
        if built_in.known().is_some_and(|names| names.contains(name)) {
            return Fact::Known(ModuleState::BuiltIn);
        }
        match loaded {
            Fact::Known(loaded) if loaded.iter().any(|module| module == name) => {
                // Only modules that were loaded have a state (Linux: kernel/module/sysfs.c).
                let state = source.text(&format!("/sys/module/{name}/initstate"));
                return match (state, &built_in) {
                    (Fact::NotPresent, Fact::Known(_)) => Fact::Known(ModuleState::Loaded),
                    (Fact::NotPresent, _) => Fact::Known(ModuleState::BuiltIn),
                    (state, _) => state.map(|_| ModuleState::Loaded),
                };
            }
            Fact::Known(_) => {}
            unread => return unread.as_ref().map(|_| ModuleState::Absent),
        }
        match (&on_disk, &built_in) {
            (Fact::Known(names), _) if names.contains(name) => Fact::Known(ModuleState::OnDisk),
            (Fact::Known(_), Fact::Known(_)) => Fact::Known(ModuleState::Absent),
            (Fact::Known(_), unread) | (unread, _) => unread.as_ref().map(|_| ModuleState::Absent),
        }
    };
    NAMES.into_iter().map(|name| (name, state(name))).collect()
}

/// depmod's tables of what is part of the kernel and of what is on disk.
fn tables(release: &Fact<String>) -> [Fact<String>; 2] {
    ["modules.builtin", "modules.dep"].map(|table| {
        release.as_ref().and_then(|release| match release.contains('/') {
            false => Fact::Known(format!("/lib/modules/{release}/{table}")),
            true => Fact::NotPresent,
        })
    })
}

/// Which of [`NAMES`] the table at `path` lists. Where there is none, nobody can say: containers have no modules.
fn table(source: &dyn Source, path: &str) -> Fact<BTreeSet<&'static str>> {
    match source.read_limited(path, LIMIT_BYTES) {
        Fact::NotPresent => Fact::Unreadable {
            source: path.to_owned(),
            reason: "there is no such table of modules here".to_owned(),
        },
        bytes => bytes.map(|bytes| bytes.split(|byte| *byte == b'\n').filter_map(name_in).collect()),
    }
}

/// The module of a line, if it is one that is told: `kernel/drivers/vfio/pci/vfio-pci.ko.xz: ...`.
fn name_in(line: &[u8]) -> Option<&'static str> {
    let path = line.split(|byte| *byte == b':').next()?;
    let file = path.rsplit(|byte| *byte == b'/').next()?;
    let stem = file.split(|byte| *byte == b'.').next()?;
    let same = |name: &&str| {
        name.len() == stem.len() && name.bytes().zip(stem).all(|(a, b)| a == *b || (a, *b) == (b'_', b'-'))
    };
    NAMES.into_iter().find(same)
}

/// Shortens depmod's tables in a capture to the modules that are told.
pub(super) fn abridge(bundle: &mut Bundle, release: &Fact<String>) {
    for path in tables(release).iter().filter_map(Fact::known) {
        bundle.abridge(path, |bytes| {
            let lines = bytes.split(|byte| *byte == b'\n').filter(|line| name_in(line).is_some());
            lines.flat_map(|line| [line, b"\n"]).flatten().copied().collect()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::source::fake::{Entry, FakeHost};

    const DEP: &str = "kernel/drivers/vfio/pci/vfio-pci.ko.xz: kernel/drivers/vfio/vfio.ko.xz\n\
                       kernel/arch/x86/kvm/kvm.ko.zst:\nkernel/x/mykvm.ko:";

    fn states(entries: &[(&str, Entry<'_>)], loaded: &[&str]) -> BTreeMap<&'static str, Fact<ModuleState>> {
        let loaded = Fact::Known(loaded.iter().map(|name| (*name).to_owned()).collect());
        collect(&FakeHost::new(entries).source(), &Fact::Known("6.1".to_owned()), &loaded)
    }

    #[test]
    fn each_place_is_told() {
        let states = states(
            &[
                ("/lib/modules/6.1/modules.dep", Entry::Text(DEP)),
                ("/lib/modules/6.1/modules.builtin", Entry::Text("kernel/drivers/vfio/vfio.ko")),
                ("/sys/module/kvm/initstate", Entry::Text("live")),
            ],
            &["kvm", "vfio"],
        );
        let of = |name| states[name].clone();
        assert_eq!(of("vfio_pci"), Fact::Known(ModuleState::OnDisk));
        assert_eq!(of("vfio"), Fact::Known(ModuleState::BuiltIn));
        assert_eq!(of("kvm"), Fact::Known(ModuleState::Loaded));
        assert_eq!(of("iommufd"), Fact::Known(ModuleState::Absent));
    }

    #[test]
    fn without_tables_only_what_runs_is_known() {
        let states = states(&[("/sys/module/kvm/initstate", Entry::Text("live"))], &["kvm", "vfio"]);
        assert_eq!(states["kvm"], Fact::Known(ModuleState::Loaded));
        assert_eq!(states["vfio"], Fact::Known(ModuleState::BuiltIn));
        assert!(states["vfio_pci"].is_unread());
    }

    #[test]
    fn names_are_sorted_and_a_capture_keeps_their_lines() {
        assert!(NAMES.is_sorted_by(|a, b| a < b));
        let host = FakeHost::new(&[("/lib/modules/6.1/modules.dep", Entry::Text(DEP))]);
        let source = host.source();
        let recorder = crate::host::source::Recorder::new(&source);
        let release = Fact::Known("6.1".to_owned());
        let before = collect(&recorder, &release, &Fact::Known(Vec::new()));
        let mut bundle = recorder.into_bundle();
        abridge(&mut bundle, &release);
        assert_eq!(collect(&bundle, &release, &Fact::Known(Vec::new())), before);
        let kept = bundle.read("/lib/modules/6.1/modules.dep").known().unwrap().clone();
        assert!(!String::from_utf8(kept).unwrap().contains("mykvm"));
    }
}
