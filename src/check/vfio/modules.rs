//! Modules of VFIO, what they are told, and when they are loaded.

use crate::check::{Outcome, Remedy};
use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::host::kernel::ModuleState;
use crate::host::vfio::PARAMETERS;

/// The evidence for where a module is.
fn place(facts: &HostFacts, name: &str, state: ModuleState) -> (String, &'static str) {
    let release = facts.kernel.release.known().map_or("*", String::as_str);
    match state {
        ModuleState::Loaded => (format!("/sys/module/{name}"), "loaded"),
        ModuleState::BuiltIn => (format!("/lib/modules/{release}/modules.builtin"), "a part of the kernel"),
        ModuleState::OnDisk => {
            (format!("/lib/modules/{release}/modules.dep"), "on disk, loaded when asked for")
        }
        ModuleState::Absent => (format!("/lib/modules/{release}/modules.dep"), "not there"),
    }
}

fn state<'a>(facts: &'a HostFacts, name: &str) -> &'a Fact<ModuleState> {
    facts.kernel.module_states.get(name).unwrap_or(&Fact::NotPresent)
}

fn missing(outcome: Outcome) -> Outcome {
    outcome
        .cause("the kernel was built without it, or its modules are in a package of their own")
        .remedy(Remedy::advice(
            "install the package with the rest of this kernel's modules (Ubuntu: linux-modules-extra; Debian's cloud \
             kernel: linux-image-amd64 in its place), or boot a kernel that has it",
        ))
}

/// What the configuration says of modules that no table tells of: where none of `options` is built, none of them is there.
fn not_built(facts: &HostFacts, options: &[&str], summary: &str) -> Option<Outcome> {
    let config = facts.kernel.config.known()?;
    if options.iter().any(|option| config.has(option)) {
        return None;
    }
    let evidence = |outcome: Outcome, option: &&str| {
        outcome.evidence(&config.source, format!("CONFIG_{option}: {}", config.build(option).word()))
    };
    Some(missing(options.iter().fold(Outcome::fail(summary), evidence)))
}

/// `vfio-pci-driver`
pub(super) fn driver(facts: &HostFacts) -> Outcome {
    const NAME: &str = "vfio_pci";
    const ABSENT: &str = "there is no driver vfio-pci";
    let state = match state(facts, NAME) {
        Fact::Known(state) => *state,
        unread => {
            return not_built(facts, &["VFIO_PCI"], ABSENT)
                .unwrap_or_else(|| Outcome::unread(unread, "whether there is a driver vfio-pci"));
        }
    };
    let (source, value) = place(facts, NAME, state);
    match state {
        ModuleState::Absent => missing(Outcome::fail(ABSENT).evidence(source, value)),
        _ => Outcome::pass("there is a driver vfio-pci").evidence(source, value),
    }
}

/// `vfio-backend`
pub(super) fn backend(facts: &HostFacts) -> Outcome {
    const NAMES: [&str; 2] = ["vfio_iommu_type1", "iommufd"];
    const ABSENT: &str = "VFIO can map no memory: there is neither vfio_iommu_type1 nor iommufd";
    let states = NAMES.map(|name| (name, state(facts, name)));
    let there = states.iter().filter_map(|(name, state)| match state {
        Fact::Known(ModuleState::Absent) => None,
        state => Some((*name, *state.known()?)),
    });
    let there: Vec<_> = there.collect();
    if !there.is_empty() {
        let names: Vec<_> = there.iter().map(|(name, _)| *name).collect();
        let pass = Outcome::pass(format!("VFIO can map memory, by {}", names.join(" or ")));
        return there.iter().fold(pass, |outcome, (name, state)| {
            let (source, value) = place(facts, name, *state);
            outcome.evidence(source, format!("{name}: {value}"))
        });
    }
    if let Some((_, unread)) = states.iter().find(|(_, state)| state.known().is_none()) {
        return not_built(facts, &["VFIO_IOMMU_TYPE1", "IOMMUFD"], ABSENT)
            .unwrap_or_else(|| Outcome::unread(unread, "whether VFIO can map memory"));
    }
    let (source, _) = place(facts, "", ModuleState::Absent);
    missing(Outcome::fail(ABSENT).evidence(source, "neither is there"))
}

/// `vfio-parameters`
pub(super) fn parameters(facts: &HostFacts) -> Outcome {
    const ODD: [(&str, &str); 3] = [
        (
            "nointxmask",
            "INTx is masked at the interrupt controller: a function whose line is shared cannot be handed out",
        ),
        ("disable_denylist", "functions that are known to harm the host are handed out"),
        (
            "enable_sriov",
            "who has a physical function may make virtual ones of it, which reach past its guest",
        ),
    ];
    let parameters = &facts.vfio.parameters;
    if parameters.values().all(|value| *value == Fact::NotPresent) {
        return Outcome::not_applicable("vfio-pci is not loaded").evidence(PARAMETERS, "not there");
    }
    let odd: Vec<_> =
        ODD.iter().filter(|(name, _)| parameters.get(name) == Some(&Fact::Known(true))).collect();
    let path = |name: &str| format!("{PARAMETERS}/{name}");
    if odd.is_empty() {
        if let Some(unread) = parameters.values().find(|value| value.is_unread()) {
            return Outcome::unread(unread, "what vfio-pci is told");
        }
        let pass = Outcome::pass("vfio-pci has its usual parameters");
        return ODD
            .iter()
            .filter(|(name, _)| parameters.get(name) != Some(&Fact::NotPresent))
            .fold(pass, |outcome, (name, _)| outcome.evidence(path(name), "N"));
    }
    let names: Vec<_> = odd.iter().map(|(name, _)| *name).collect();
    let causes: Vec<_> = odd.iter().map(|(name, cause)| format!("{name}: {cause}")).collect();
    let warn = Outcome::warn(format!("vfio-pci is told {}", names.join(", ")))
        .cause(causes.join("; "))
        .remedy(Remedy::advice(format!(
            "take {} out of /etc/modprobe.d and the kernel's command line unless a device of this host needs it, and \
             load vfio-pci anew",
            names.join(", ")
        )));
    names.iter().fold(warn, |outcome, name| outcome.evidence(path(name), "Y"))
}

/// `vfio-module-options`
pub(super) fn options(facts: &HostFacts) -> Outcome {
    const SUBJECT: &str = "what modprobe is told about vfio-pci";
    let settings = match &facts.kernel.modprobe {
        Fact::Known(settings) => settings,
        unread => return Outcome::unread(unread, SUBJECT),
    };
    let options: Vec<_> = settings
        .iter()
        .filter(|setting| setting.module == "vfio_pci" && setting.kind.word() == "options")
        .collect();
    if options.is_empty() {
        return Outcome::not_applicable("modprobe is told nothing about vfio-pci");
    }
    let state = match state(facts, "vfio_pci") {
        Fact::Known(state) => *state,
        unread => return Outcome::unread(unread, "whether vfio-pci is a part of the kernel"),
    };
    let outcome = if state == ModuleState::BuiltIn {
        let arguments: Vec<_> = options
            .iter()
            .flat_map(|setting| setting.text.split(' '))
            .map(|option| format!("vfio-pci.{option}"))
            .collect();
        Outcome::warn("options for vfio-pci do nothing: it is a part of the kernel")
            .cause("modprobe, which reads them, never loads it")
            .remedy(Remedy::kernel_argument(facts, &arguments.join(" ")))
    } else {
        Outcome::pass("options for vfio-pci reach it when it is loaded")
    };
    options.iter().fold(outcome, |outcome, setting| outcome.evidence(&setting.file, setting.line()))
}

/// `vfio-early-modules`
pub(super) fn early(facts: &HostFacts) -> Outcome {
    const GONE: &str = "vfio_virqfd";
    let early = match &facts.vfio.early_modules {
        Fact::Known(early) => early,
        unread => return Outcome::unread(unread, "which modules are loaded early"),
    };
    if early.is_empty() {
        return Outcome::not_applicable("no module of VFIO is named for the start of the system");
    }
    let is_gone = facts.kernel.version().map(|version| version >= (6, 2));
    let mut causes = Vec::new();
    let mut remedies = Vec::new();
    let mut evidence = Vec::new();
    for module in early {
        let file = &module.file;
        if module.module == GONE && is_gone == Some(true) {
            causes.push("there is no module vfio_virqfd since Linux 6.2".to_owned());
            remedies.push(Remedy::advice(format!(
                "take {GONE} out of {file}, and make the initial RAM file system again"
            )));
        } else if !module.is_read {
            causes.push(format!("{file} does not end with .conf, and is not read"));
            remedies.push(Remedy::command(
                format!("sudo mv {file} {file}.conf"),
                "then make the initial RAM file system again",
            ));
        } else {
            continue;
        }
        evidence.push((file.clone(), module.module.clone()));
    }
    if !causes.is_empty() {
        causes.dedup();
        let outcome = Outcome::warn("modules of VFIO that are named for the start are not loaded")
            .cause(causes.join("; "))
            .remedies(remedies);
        return evidence.into_iter().fold(outcome, |outcome, (file, name)| outcome.evidence(file, name));
    }
    if is_gone.is_none() && early.iter().any(|module| module.module == GONE) {
        return Outcome::unknown("whether this kernel has vfio_virqfd is not known: its version is not");
    }
    let pass = Outcome::pass("modules of VFIO that are loaded early exist");
    early.iter().fold(pass, |outcome, module| outcome.evidence(&module.file, &module.module))
}
