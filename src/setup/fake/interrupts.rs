//! Interrupts of the host for tests: the kernel moves none that it places itself.

use std::io;

use super::{FakeKernel, errno};
use crate::host::interrupts::DEFAULT_AFFINITY;
use crate::spec::cpu_list::CpuList;

/// Whether writing to `path` is about interrupts.
pub(super) fn are_at(path: &str) -> bool {
    path.starts_with("/proc/irq/")
}

fn path(irq: u32) -> String {
    format!("/proc/irq/{irq}/smp_affinity_list")
}

impl FakeKernel {
    /// This host with CPUs, and interrupt 0, which stays where it is, 24, 25 and 26.
    pub(in crate::setup) fn with_interrupts(self) -> Self {
        let kernel = self.with_cpus();
        kernel.put(DEFAULT_AFFINITY, "f");
        for (irq, cpus) in [(0, "0-3"), (24, "2"), (25, "0-3"), (26, "0")] {
            kernel.put(&path(irq), cpus);
        }
        kernel
    }

    /// The CPUs of all interrupts, in the order of their numbers, and the mask of new ones.
    pub(in crate::setup) fn affinities(&self) -> Vec<String> {
        let of_irqs = [0, 24, 25, 26].iter().filter_map(|irq| self.text(&path(*irq)));
        of_irqs.chain(self.text(DEFAULT_AFFINITY)).collect()
    }

    /// An interrupt goes with its driver, or comes with the default.
    pub(in crate::setup) fn set_interrupt(&self, irq: u32, cpus: Option<&str>) {
        match cpus {
            Some(cpus) => self.put(&path(irq), cpus),
            None => std::fs::remove_dir_all(self.at(&format!("/proc/irq/{irq}"))).unwrap(),
        }
    }

    /// What the kernel does with `value` written to `path`.
    pub(super) fn interrupts_effect(&self, path: &str, value: &str) -> io::Result<()> {
        if !self.at(path).exists() {
            return Err(errno(libc::ENOENT));
        }
        let is_default = path == DEFAULT_AFFINITY;
        let cpus = if is_default { CpuList::parse_mask(value) } else { value.parse() };
        match cpus {
            _ if path.starts_with("/proc/irq/0/") => Err(errno(libc::EIO)),
            Ok(cpus) if !cpus.is_empty() => {
                self.put(path, &if is_default { cpus.to_mask() } else { cpus.to_string() });
                Ok(())
            }
            _ => Err(errno(libc::EINVAL)),
        }
    }
}
