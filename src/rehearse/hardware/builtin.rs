//! The descriptions that come with the tool. To add one: a YAML file here, a row below, a test in `tests/it/lab`.

/// A description that comes with the tool.
#[derive(Debug, Clone, Copy)]
pub struct Builtin {
    /// What `--hardware` takes.
    pub name: &'static str,
    /// The YAML text.
    pub text: &'static str,
}

/// All of them.
pub const BUILTIN: [Builtin; 5] = [
    Builtin { name: "vtd-igb", text: include_str!("vtd-igb.yaml") },
    Builtin { name: "vtd-nvme", text: include_str!("vtd-nvme.yaml") },
    Builtin { name: "amdvi", text: include_str!("amdvi.yaml") },
    Builtin { name: "no-iommu", text: include_str!("no-iommu.yaml") },
    Builtin { name: "shared-group", text: include_str!("shared-group.yaml") },
];
