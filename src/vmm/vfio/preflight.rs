//! What sysfs and procfs say about a function that is to be passed through: enough to check it before the kernel is asked,
//! and to explain a refusal afterwards. Linux: Documentation/ABI/testing/sysfs-kernel-iommu_groups.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::spec::pci::PciAddress;
use crate::vmm::vfio::error::{Member, VfioError};

/// Drivers that leave a group viable beside vfio drivers: they do no DMA, or manage it themselves
/// (`driver_managed_dma` in Linux: drivers/pci/pci-stub.c, drivers/pci/pcie/portdrv.c).
const HARMLESS_DRIVERS: [&str; 2] = ["pci-stub", "pcieport"];

/// The kernel's file systems, under a root that tests replace.
#[derive(Debug, Clone)]
pub(super) struct Host {
    root: PathBuf,
}

/// A function that is bound to a VFIO driver and has a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    pub address: PciAddress,
    pub group: u32,
}

fn link_name(path: &Path) -> Option<String> {
    Some(fs::read_link(path).ok()?.file_name()?.to_str()?.to_owned())
}

/// vfio-pci and its variants for certain devices (mlx5_vfio_pci, hisi-acc-vfio-pci, ..).
fn is_vfio(driver: &str) -> bool {
    driver.contains("vfio")
}

impl Host {
    pub(super) fn live() -> Self {
        Self { root: PathBuf::from("/") }
    }

    #[cfg(test)]
    pub(super) fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    fn device(&self, address: &str) -> PathBuf {
        self.root.join("sys/bus/pci/devices").join(address)
    }

    fn driver(&self, address: &str) -> Option<String> {
        link_name(&self.device(address).join("driver"))
    }

    /// Checks that `address` exists, has a group and is bound to a VFIO driver.
    pub(super) fn candidate(&self, address: PciAddress) -> Result<Candidate, VfioError> {
        let name = address.to_string();
        if !self.device(&name).exists() {
            return Err(VfioError::NoSuchDevice { address });
        }
        let group = link_name(&self.device(&name).join("iommu_group"))
            .and_then(|name| name.parse().ok())
            .ok_or(VfioError::NoGroup { address })?;
        match self.driver(&name) {
            Some(driver) if is_vfio(&driver) => Ok(Candidate { address, group }),
            driver => Err(VfioError::NotBound { address, driver }),
        }
    }

    /// The members of `group` whose drivers keep it from being viable, in the order of their addresses.
    pub(super) fn hindrances(&self, group: u32) -> Vec<Member> {
        let path = self.root.join(format!("sys/kernel/iommu_groups/{group}/devices"));
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        let mut members: Vec<Member> = entries
            .filter_map(|entry| {
                let address = entry.file_name().into_string().ok()?;
                let driver = self.driver(&address)?;
                (!is_vfio(&driver) && !HARMLESS_DRIVERS.contains(&driver.as_str()))
                    .then_some(Member { address, driver })
            })
            .collect();
        members.sort_by(|a, b| a.address.cmp(&b.address));
        members
    }

    /// The reserved regions of `group` that firmware wants mapped one to one, as `0x..-0x..`. Regions that the kernel may
    /// relax (`direct-relaxable`) do not count.
    pub(super) fn direct_regions(&self, group: u32) -> Vec<String> {
        let path = self.root.join(format!("sys/kernel/iommu_groups/{group}/reserved_regions"));
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines()
            .filter_map(|line| match line.split_whitespace().collect::<Vec<_>>()[..] {
                [start, end, "direct"] => Some(format!("{start}-{end}")),
                _ => None,
            })
            .collect()
    }

    /// All reserved regions of `group`, whatever for.
    pub(super) fn reserved(&self, group: u32) -> Vec<Range<u64>> {
        let path = self.root.join(format!("sys/kernel/iommu_groups/{group}/reserved_regions"));
        let text = fs::read_to_string(path).unwrap_or_default();
        let number = |text: &str| u64::from_str_radix(text.strip_prefix("0x")?, 16).ok();
        text.lines()
            .filter_map(|line| {
                let mut words = line.split_whitespace();
                let (start, last) = (number(words.next()?)?, number(words.next()?)?);
                Some(start..last.saturating_add(1))
            })
            .collect()
    }

    /// The processes that hold /dev/vfio/`group` open; those of other users are seen by root only.
    pub(super) fn holders(&self, group: u32) -> Vec<u32> {
        let target = PathBuf::from(format!("/dev/vfio/{group}"));
        let holds = |process: &Path| {
            let descriptors = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
            descriptors.filter_map(|fd| fs::read_link(fd.path()).ok()).any(|link| link == target)
        };
        let processes = fs::read_dir(self.root.join("proc")).into_iter().flatten().flatten();
        let mut pids: Vec<u32> = processes
            .filter_map(|entry| {
                let pid = entry.file_name().to_str()?.parse().ok()?;
                holds(&entry.path()).then_some(pid)
            })
            .collect();
        pids.sort_unstable();
        pids
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn host() -> (tempfile::TempDir, Host) {
        let root = tempfile::tempdir().unwrap();
        let host = Host::at(root.path());
        (root, host)
    }

    fn add(root: &Path, address: &str, driver: Option<&str>, group: Option<u32>) {
        let device = root.join("sys/bus/pci/devices").join(address);
        fs::create_dir_all(&device).unwrap();
        if let Some(driver) = driver {
            symlink(format!("../../../bus/pci/drivers/{driver}"), device.join("driver")).unwrap();
        }
        if let Some(group) = group {
            symlink(format!("../../../kernel/iommu_groups/{group}"), device.join("iommu_group")).unwrap();
            let members = root.join(format!("sys/kernel/iommu_groups/{group}/devices"));
            fs::create_dir_all(&members).unwrap();
            symlink(&device, members.join(address)).unwrap();
        }
    }

    #[test]
    fn a_function_must_exist_have_a_group_and_be_bound_to_vfio() {
        let (root, host) = host();
        add(root.path(), "0000:01:00.0", Some("vfio-pci"), Some(7));
        add(root.path(), "0000:01:00.1", Some("igb"), Some(7));
        add(root.path(), "0000:01:00.2", None, Some(7));
        add(root.path(), "0000:01:00.3", Some("vfio-pci"), None);
        let candidate = |text: &str| host.candidate(text.parse().unwrap());
        assert_eq!(candidate("01:00.0").unwrap().group, 7);
        let message = |text| candidate(text).unwrap_err().to_string();
        assert_eq!(
            message("01:00.1"),
            "0000:01:00.1 is bound to igb, not bound to vfio-pci; bind it with `thruway bind 0000:01:00.1`"
        );
        assert!(message("01:00.2").starts_with("0000:01:00.2 is without a driver, not bound"));
        assert!(message("01:00.3").contains("has no IOMMU group"));
        assert_eq!(message("01:00.4"), "there is no PCI function 0000:01:00.4 on this host");
    }

    #[test]
    fn hindrances_are_the_members_that_the_host_uses() {
        let (root, host) = host();
        add(root.path(), "0000:02:00.1", Some("snd_hda_intel"), Some(3));
        add(root.path(), "0000:02:00.0", Some("nouveau"), Some(3));
        add(root.path(), "0000:00:01.0", Some("pcieport"), Some(3));
        add(root.path(), "0000:02:00.2", Some("mlx5_vfio_pci"), Some(3));
        add(root.path(), "0000:02:00.3", None, Some(3));
        let error = VfioError::NotViable {
            address: "02:00.2".parse().unwrap(),
            group: 3,
            members: host.hindrances(3),
        };
        assert!(
            error.to_string().contains(
                "the host still uses 0000:02:00.0 (driver nouveau), 0000:02:00.1 (driver snd_hda_intel);"
            ),
            "{error}"
        );
        assert!(host.hindrances(4).is_empty());
    }

    #[test]
    fn only_regions_that_are_not_relaxable_count_as_direct() {
        let (root, host) = host();
        let group = root.path().join("sys/kernel/iommu_groups/5");
        fs::create_dir_all(&group).unwrap();
        let text = "0x00000000bdf83000 0x00000000bdf95fff direct\n0x00000000000c0000 0x00000000000cffff \
                    direct-relaxable\n0x00000000fee00000 0x00000000feefffff msi\n";
        fs::write(group.join("reserved_regions"), text).unwrap();
        assert_eq!(host.direct_regions(5), ["0x00000000bdf83000-0x00000000bdf95fff"]);
        let all = [0xBDF8_3000..0xBDF9_6000, 0xC_0000..0xD_0000, 0xFEE0_0000..0xFEF0_0000];
        assert_eq!(host.reserved(5), all);
        assert!(host.reserved(6).is_empty());
    }

    #[test]
    fn holders_are_found_by_their_descriptors() {
        let (root, host) = host();
        for (pid, target) in [("12", "/dev/vfio/9"), ("7", "/dev/vfio/9"), ("8", "/dev/vfio/90")] {
            let fds = root.path().join("proc").join(pid).join("fd");
            fs::create_dir_all(&fds).unwrap();
            symlink(target, fds.join("3")).unwrap();
        }
        assert_eq!(host.holders(9), [7, 12]);
    }
}
