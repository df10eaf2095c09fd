//! Where facts come from: the live host, a directory tree laid out like one, or a capture.
//!
//! Paths are always those of the live host (`/sys/bus/pci/devices`). Under a tree nothing comes from the live machine,
//! CPUID included: what is no file (CPUID, model-specific registers, KVM's answers) stands in the tree's
//! [`answers`] file, and what does not stand there is unread.

pub mod answers;
pub mod bundle;
mod live;
mod network;
mod patient;
mod record;
pub mod recording;
pub mod redact;
mod tree;

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::host::fact::Fact;

pub use crate::spec::cpuid::CpuidLeaf;
pub use bundle::{Bundle, BundleError};
pub use live::LiveSource;
pub use network::{Route, VfLink, VfLinks};
pub use patient::patiently;
pub use record::Recorder;
pub use tree::{TreeError, TreeSource};

/// Most bytes that [`Source::read`] takes of one file: more than any file of sysfs or procfs that we read holds.
pub const READ_LIMIT_BYTES: u64 = 1 << 20;

/// What KVM says when it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KvmAnswer {
    /// KVM_GET_API_VERSION; 12 is the only stable one.
    pub api_version: i32,
    /// Whether KVM_CREATE_VM succeeded.
    pub creates_vm: bool,
    /// Whether it failed because another hypervisor holds the processor's extension.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub busy: bool,
}

/// A device node: who owns it, and whether this user may open it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceNode {
    /// Permission bits, as chmod(1) takes them, read in octal.
    pub mode: u32,
    /// Number of the owner.
    pub uid: u32,
    /// Number of the group.
    pub gid: u32,
    /// Whether this user may open it for reading and writing, by owner, mode, access control list and privilege. A
    /// container can be kept from it all the same.
    pub may_open: bool,
}

/// Read access to a host. Reading has no side effects and no method panics or blocks for long; what fails is a
/// [`Fact`] that says so.
pub trait Source: Send + Sync {
    /// The bytes of a regular file. A file larger than `limit_bytes` is [`Fact::Unreadable`].
    fn read_limited(&self, path: &str, limit_bytes: u64) -> Fact<Vec<u8>>;

    /// As many of the first bytes of a regular file as are wanted, for files that cost time by the byte: `wanted` says of
    /// the bytes so far how many it takes in all, and is asked again until there are so many or the file has ended.
    fn read_wanted(&self, path: &str, wanted: &dyn Fn(&[u8]) -> usize) -> Fact<Vec<u8>> {
        self.read(path).map(|mut bytes| {
            bytes.truncate(length_wanted(&bytes, wanted));
            bytes
        })
    }

    /// The names in a directory, sorted. Names that are not UTF-8 are left out: no kernel interface has them.
    fn list(&self, path: &str) -> Fact<Vec<String>>;

    /// The target of a symbolic link, as it is written.
    fn link(&self, path: &str) -> Fact<String>;

    /// A leaf of the CPUID instruction, on the CPU that runs us. The caller asks for leaves in range only.
    fn cpuid(&self, leaf: u32, subleaf: u32) -> Fact<CpuidLeaf>;

    /// A model-specific register of CPU `cpu`.
    fn msr(&self, cpu: u32, register: u32) -> Fact<u64>;

    /// Opens /dev/kvm and asks it. [`Fact::NotPresent`] where there is no /dev/kvm.
    fn kvm(&self) -> Fact<KvmAnswer>;

    /// The kernel's own messages about what [`is_told_of_the_log`] names, oldest first; messages older than the log's
    /// buffer are gone.
    fn kernel_log(&self) -> Fact<Vec<String>>;

    /// The network interfaces that have virtual functions below them.
    fn vf_links(&self) -> Fact<Vec<VfLinks>>;

    /// The routes of all tables that lead over an interface, but those that every interface has by itself.
    fn routes(&self) -> Fact<Vec<Route>>;

    /// The device node at `path`, which is not opened.
    fn device_node(&self, path: &str) -> Fact<DeviceNode>;

    /// Whether names, numbers and addresses are placeholders here ([`redact`]).
    fn is_redacted(&self) -> bool {
        false
    }

    /// The bytes of a file of at most [`READ_LIMIT_BYTES`].
    fn read(&self, path: &str) -> Fact<Vec<u8>> {
        self.read_limited(path, READ_LIMIT_BYTES)
    }

    /// A file as text, without the final newline.
    fn text(&self, path: &str) -> Fact<String> {
        self.read(path).parse(path, |bytes| String::from_utf8(bytes).map_err(|_| "not UTF-8")).map(
            |mut text| {
                text.truncate(text.trim_end_matches('\n').len());
                text
            },
        )
    }

    /// The last component of a link's target: `vfio-pci` of `driver -> ../../bus/pci/drivers/vfio-pci`.
    fn link_name(&self, path: &str) -> Fact<String> {
        self.link(path).map(|target| target.rsplit('/').next().unwrap_or_default().to_owned())
    }
}

/// How many of `bytes` a reader takes who asks `wanted` each time.
fn length_wanted(bytes: &[u8], wanted: &dyn Fn(&[u8]) -> usize) -> usize {
    let mut length = 0;
    while let Some(start) = bytes.get(..length) {
        let next = wanted(start).min(bytes.len());
        if next <= length {
            break;
        }
        length = next;
    }
    length
}

/// Why what stands for a host cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A directory.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A file.
    #[error(transparent)]
    Bundle(#[from] BundleError),
}

/// Opens what stands for a host: a directory laid out like one, or the file of a capture.
///
/// # Errors
/// It is neither, or cannot be read.
pub fn open(path: &Path) -> Result<Box<dyn Source>, OpenError> {
    // What is not there is reported by whoever opens it.
    if path.metadata().is_ok_and(|metadata| !metadata.is_dir()) {
        return Ok(Box::new(Bundle::open(path)?));
    }
    Ok(Box::new(TreeSource::open(path)?))
}

/// What a model-specific register is called as the source of a fact.
fn msr_name(cpu: u32, register: u32) -> String {
    format!("MSR {register:#x} of CPU {cpu}")
}

/// Parts of kernel messages that have to do with virtualization. The rest of the log is nobody's business here, and
/// would go into captures.
const LOG_SUBJECTS: [&str; 22] = [
    "DMAR",
    "AMD-Vi",
    "iommu",
    "IOMMU",
    "virtio-iommu",
    "x2apic",
    "x86/cpu:",
    "SVM disabled",
    "kvm",
    "KVM",
    "VFIO",
    "vfio",
    "SR-IOV",
    "BAR ",
    "can't reserve",
    "ACS",
    "Secure boot",
    "lockdown",
    "FLR",
    "PCIe Bus Error",
    "not ready ",
    "power state",
];

/// Whether `message` of the kernel's log is kept. The command line is not: it says what somebody wished, in his words.
#[must_use]
pub fn is_told_of_the_log(message: &str) -> bool {
    let is_command_line = message.starts_with("Command line:") || message.starts_with("Kernel command line:");
    !is_command_line && LOG_SUBJECTS.iter().any(|subject| message.contains(subject))
}

/// What `error` from reading `source` is as a fact.
fn fact_of_error<T>(source: &str, error: &std::io::Error) -> Fact<T> {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => Fact::NotPresent,
        ErrorKind::PermissionDenied => Fact::Denied { source: source.to_owned() },
        _ => Fact::Unreadable { source: source.to_owned(), reason: reason_of(error) },
    }
}

/// The system's words for `error`, without the number that std appends.
fn reason_of(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split_once(" (os error").map_or(text.as_str(), |(words, _)| words);
    text.to_lowercase()
}

/// The fact that the file at `path` holds more than was asked for.
fn too_large<T>(path: &str, limit_bytes: u64) -> Fact<T> {
    Fact::Unreadable { source: path.to_owned(), reason: format!("larger than {limit_bytes} bytes") }
}

/// Reads `file` to its end, at most `limit_bytes`.
fn read_to_limit(mut file: &File, path: &str, limit_bytes: u64) -> Fact<Vec<u8>> {
    let mut page = [0; PAGE_BYTES];
    let first = match file.read(&mut page) {
        Ok(count) => count,
        Err(error) => return fact_of_error(path, &error),
    };
    let mut bytes = page.get(..first).unwrap_or(&page).to_vec();
    // Sysfs and file systems give less than was asked for at the end only, procfs also between its records.
    if first < PAGE_BYTES && !path.starts_with("/proc/") {
        return if first as u64 > limit_bytes { too_large(path, limit_bytes) } else { Fact::Known(bytes) };
    }
    match file.take(limit_bytes.saturating_sub(PAGE_BYTES as u64).saturating_add(1)).read_to_end(&mut bytes) {
        Ok(_) if bytes.len() as u64 > limit_bytes => too_large(path, limit_bytes),
        Ok(_) => Fact::Known(bytes),
        Err(error) => fact_of_error(path, &error),
    }
}

/// What sysfs gives of an attribute at most, in bytes.
const PAGE_BYTES: usize = 4096;
