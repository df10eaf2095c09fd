//! What changes are about, so that those about the same thing are known as such.

use std::fmt;

use crate::spec::pci::PciAddress;
use crate::spec::units::ByteSize;

/// A thing of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    /// A PCI function.
    Function(PciAddress),
    /// Huge pages of one size.
    HugePages {
        /// Size of a page.
        size_bytes: u64,
        /// The node on which they are; all of the host if there is none.
        node: Option<u32>,
    },
    /// A file of the system's configuration.
    File(String),
    /// The arguments that the kernel gets in the next boots.
    KernelArguments,
    /// The governors of CPU frequencies.
    Governors,
    /// Which CPUs serve interrupts.
    Interrupts,
    /// CPUs that are set apart in our control group.
    IsolatedCpus,
    /// A kernel module, by its name in `/sys/module`.
    Module(String),
    /// The VFIO node of an IOMMU group.
    VfioNode(u32),
}

impl Object {
    /// Whether what is done to one can be seen at the other.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::HugePages { size_bytes, node }, Self::HugePages { size_bytes: size, node: other }) => {
                size_bytes == size && node.zip(*other).is_none_or(|(node, other)| node == other)
            }
            _ => self == other,
        }
    }
}

impl From<PciAddress> for Object {
    fn from(function: PciAddress) -> Self {
        Self::Function(function)
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Function(address) => address.fmt(f),
            Self::HugePages { size_bytes, node } => {
                write!(f, "the pool of {} huge pages", ByteSize::from_bytes(*size_bytes))?;
                node.map_or(Ok(()), |node| write!(f, " on node {node}"))
            }
            Self::File(path) => path.fmt(f),
            Self::KernelArguments => f.write_str("the kernel's arguments of the next boots"),
            Self::VfioNode(group) => write!(f, "/dev/vfio/{group}"),
            Self::Governors => f.write_str("the governors of CPU frequencies"),
            Self::Interrupts => f.write_str("the affinity of interrupts"),
            Self::IsolatedCpus => {
                write!(f, "the isolated CPUs (control group {})", super::isolate_cpus::GROUP)
            }
            Self::Module(name) => write!(f, "kernel module {name}"),
        }
    }
}

/// What a change concerns.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Footprint {
    /// What it changes.
    pub changes: Vec<Object>,
    /// Without which it would have nothing to change.
    pub needs: Vec<Object>,
}

impl Footprint {
    /// What keeps a change with this footprint from being taken back under a `later` one.
    #[must_use]
    pub fn under(&self, later: &Self) -> Option<Object> {
        let theirs = || later.changes.iter().chain(&later.needs);
        self.changes.iter().find(|mine| theirs().any(|other| mine.overlaps(other))).cloned()
    }

    /// Whether the two concern a thing in common.
    #[must_use]
    pub fn touches(&self, other: &Self) -> bool {
        self.under(other).is_some() || other.under(self).is_some()
    }

    /// The functions that it changes.
    pub fn functions(&self) -> impl Iterator<Item = PciAddress> {
        self.changes.iter().filter_map(|object| match object {
            Object::Function(address) => Some(*address),
            _ => None,
        })
    }
}
