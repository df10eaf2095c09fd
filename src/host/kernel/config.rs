//! The configuration that the kernel was built with, as far as virtualization and passthrough depend on it.
//!
//! The running kernel can carry its configuration (CONFIG_IKCONFIG_PROC); else distributions leave it beside the kernel
//! or its modules, under the kernel's release, so that it is the running kernel's there, too.

use std::collections::BTreeMap;
use std::io::Read;

use flate2::bufread::MultiGzDecoder;
use serde::Serialize;

use crate::host::fact::Fact;
use crate::host::source::{Bundle, READ_LIMIT_BYTES, Source};

/// Most bytes of an inflated configuration that are read; those of distributions have 300 KiB.
const LIMIT_BYTES: u64 = 4 << 20;

/// The options that are told, in alphabetical order.
const OPTIONS: [&str; 54] = [
    "AMD_IOMMU",
    "CGROUPS",
    "CGROUP_DEVICE",
    "CMA",
    "CPUSETS",
    "DRM_SIMPLEDRM",
    "FB_EFI",
    "FB_VESA",
    "HUGETLBFS",
    "HUGETLB_PAGE",
    "INTEL_IOMMU",
    "INTEL_IOMMU_DEFAULT_ON",
    "INTEL_IOMMU_SCALABLE_MODE_DEFAULT_ON",
    "INTEL_IOMMU_SVM",
    "IOMMUFD",
    "IOMMUFD_VFIO_CONTAINER",
    "IOMMU_DEFAULT_DMA_LAZY",
    "IOMMU_DEFAULT_DMA_STRICT",
    "IOMMU_DEFAULT_PASSTHROUGH",
    "IRQ_REMAP",
    "KSM",
    "KVM",
    "KVM_AMD",
    "KVM_AMD_SEV",
    "KVM_INTEL",
    "KVM_VFIO",
    "NO_HZ_FULL",
    "NUMA",
    "NUMA_BALANCING",
    "PCIEAER",
    "PCIEASPM",
    "PCIEPORTBUS",
    "PCI_ATS",
    "PCI_IOV",
    "PCI_MSI",
    "PCI_PASID",
    "PCI_PRI",
    "PCI_STUB",
    "RCU_NOCB_CPU",
    "STRICT_DEVMEM",
    "SYSFB",
    "SYSFB_SIMPLEFB",
    "TRANSPARENT_HUGEPAGE",
    "VFIO",
    "VFIO_DEVICE_CDEV",
    "VFIO_GROUP",
    "VFIO_IOMMU_TYPE1",
    "VFIO_NOIOMMU",
    "VFIO_PCI",
    "VFIO_PCI_VGA",
    "VHOST_NET",
    "VHOST_VSOCK",
    "VIRTIO_IOMMU",
    "X86_MSR",
];

/// How the kernel was built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KernelConfig {
    /// The file that says so.
    pub source: String,
    /// The options that matter here, without `CONFIG_`, by name.
    pub options: BTreeMap<&'static str, Build>,
}

/// What was built of an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Build {
    /// A part of the kernel.
    Y,
    /// A module.
    M,
    /// Nothing.
    N,
    /// The configuration does not mention it: this version does not know it, or what it needs is not built.
    Absent,
}

impl Build {
    /// As configurations write it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Y => "y",
            Self::M => "m",
            Self::N => "is not set",
            Self::Absent => "not mentioned",
        }
    }
}

impl KernelConfig {
    /// What was built of an option, named without `CONFIG_`.
    #[must_use]
    pub fn build(&self, option: &str) -> Build {
        self.options.get(option).copied().unwrap_or(Build::Absent)
    }

    /// Whether anything of `option` was built.
    #[must_use]
    pub fn has(&self, option: &str) -> bool {
        matches!(self.build(option), Build::Y | Build::M)
    }

    fn parse(source: &str, text: &str) -> Self {
        let mut options: BTreeMap<_, _> = OPTIONS.iter().map(|option| (*option, Build::Absent)).collect();
        for line in text.lines() {
            if let Some((name, build)) = line_of(line)
                && let Some(known) = options.get_mut(name)
            {
                *known = build;
            }
        }
        Self { source: source.to_owned(), options }
    }
}

/// `CONFIG_KVM=m`, or `# CONFIG_KVM is not set` (Linux: scripts/kconfig/confdata.c).
fn line_of(line: &str) -> Option<(&str, Build)> {
    if let Some(rest) = line.strip_prefix("# CONFIG_") {
        return Some((rest.strip_suffix(" is not set")?, Build::N));
    }
    let (name, value) = line.strip_prefix("CONFIG_")?.split_once('=')?;
    match value {
        "y" => Some((name, Build::Y)),
        "m" => Some((name, Build::M)),
        "n" => Some((name, Build::N)),
        _ => None,
    }
}

/// Where the configuration of kernel `release` may be, the running kernel's own first.
fn places(release: &Fact<String>) -> Vec<String> {
    let mut places = vec!["/proc/config.gz".to_owned()];
    // A release is one name: what has a slash in it is none, and leads elsewhere.
    if let Some(release) = release.known().filter(|release| !release.is_empty() && !release.contains('/')) {
        places.extend([
            format!("/boot/config-{release}"),
            format!("/usr/lib/modules/{release}/config"),
            format!("/lib/modules/{release}/config"),
            format!("/lib/modules/{release}/build/.config"),
        ]);
    }
    places
}

/// Reads the configuration; absent where it is at none of its places.
pub(super) fn collect(source: &dyn Source, release: &Fact<String>) -> Fact<KernelConfig> {
    let mut unread = Fact::NotPresent;
    for place in places(release) {
        match source.read_limited(&place, READ_LIMIT_BYTES) {
            Fact::NotPresent => {}
            bytes => match bytes.parse(&place, |bytes| text(&bytes)) {
                Fact::Known(text) => return Fact::Known(KernelConfig::parse(&place, &text)),
                other => unread = other.map(|text| KernelConfig::parse(&place, &text)),
            },
        }
    }
    unread
}

/// The text of a configuration, which may be compressed.
fn text(bytes: &[u8]) -> Result<String, String> {
    const GZIP: [u8; 2] = [0x1F, 0x8B]; // RFC 1952, 2.3.1
    let mut inflated = Vec::new();
    let plain = if bytes.starts_with(&GZIP) {
        let decoder = MultiGzDecoder::new(bytes);
        decoder.take(LIMIT_BYTES + 1).read_to_end(&mut inflated).map_err(|error| error.to_string())?;
        if inflated.len() as u64 > LIMIT_BYTES {
            return Err(format!("larger than {LIMIT_BYTES} bytes when inflated"));
        }
        &inflated
    } else {
        bytes
    };
    let text = std::str::from_utf8(plain).map_err(|_| "not UTF-8".to_owned())?;
    if text.lines().any(|line| line_of(line).is_some()) {
        Ok(text.to_owned())
    } else {
        Err("it holds no option of a kernel".to_owned())
    }
}

/// Shortens the configuration in a capture to the options that are told.
pub(super) fn abridge(bundle: &mut Bundle, release: &Fact<String>) {
    for place in places(release) {
        bundle.abridge(&place, |bytes| match text(bytes) {
            Ok(text) => text
                .lines()
                .filter(|line| line_of(line).is_some_and(|(name, _)| OPTIONS.contains(&name)))
                .flat_map(|line| [line.as_bytes(), b"\n"])
                .flatten()
                .copied()
                .collect(),
            Err(_) => bytes.to_vec(),
        });
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;
    use crate::host::source::Recorder;
    use crate::host::source::fake::{Entry, FakeHost};

    const TEXT: &str =
        "# Linux\nCONFIG_KVM=m\nCONFIG_VFIO=y\n# CONFIG_IOMMUFD is not set\nCONFIG_NR_CPUS=64\n";

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn read(entries: &[(&str, Entry<'_>)]) -> Fact<KernelConfig> {
        collect(&FakeHost::new(entries).source(), &Fact::Known("6.1".to_owned()))
    }

    #[test]
    fn the_four_answers_are_told_apart() {
        let config = read(&[("/boot/config-6.1", Entry::Text(TEXT))]).known().unwrap().clone();
        assert_eq!(config.source, "/boot/config-6.1");
        let of = |option| config.build(option);
        assert_eq!([of("KVM"), of("VFIO"), of("IOMMUFD")], [Build::M, Build::Y, Build::N]);
        assert_eq!(of("PCI_IOV"), Build::Absent);
        assert!(config.has("KVM") && !config.has("IOMMUFD"));
    }

    #[test]
    fn what_the_kernel_carries_itself_comes_first() {
        let own = gzip(b"CONFIG_KVM=y\n");
        let config =
            read(&[("/boot/config-6.1", Entry::Text(TEXT)), ("/proc/config.gz", Entry::Bytes(&own))]);
        assert_eq!(config.known().unwrap().build("KVM"), Build::Y);
    }

    #[test]
    fn what_is_no_configuration_is_unread_and_the_next_place_is_asked() {
        let bomb = gzip(&vec![b'#'; 8 << 20]);
        for bytes in [&bomb[..], &[0x1F, 0x8B, 8], b"\xFF\xFE", b"", b"# nothing\n"] {
            assert!(read(&[("/proc/config.gz", Entry::Bytes(bytes))]).is_unread(), "{bytes:.8?}");
            let both = [("/proc/config.gz", Entry::Bytes(bytes)), ("/boot/config-6.1", Entry::Text(TEXT))];
            assert!(read(&both).known().is_some());
        }
        assert_eq!(read(&[]), Fact::NotPresent);
        let elsewhere = collect(&FakeHost::new(&[]).source(), &Fact::Known("../x".to_owned()));
        assert_eq!(elsewhere, Fact::NotPresent);
    }

    #[test]
    fn a_capture_keeps_what_is_told_and_says_the_same() {
        let packed = gzip(TEXT.as_bytes());
        let host = FakeHost::new(&[("/proc/config.gz", Entry::Bytes(&packed))]);
        let source = host.source();
        let recorder = Recorder::new(&source);
        let release = Fact::Known("6.1".to_owned());
        let config = collect(&recorder, &release);
        let mut bundle = recorder.into_bundle();
        abridge(&mut bundle, &release);
        assert_eq!(collect(&bundle, &release), config);
        let kept = bundle.read("/proc/config.gz").known().unwrap().clone();
        assert_eq!(kept, b"CONFIG_KVM=m\nCONFIG_VFIO=y\n# CONFIG_IOMMUFD is not set\n");
    }

    #[test]
    fn options_are_sorted_and_named_once() {
        assert!(OPTIONS.is_sorted_by(|a, b| a < b));
    }
}
