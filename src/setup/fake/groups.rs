//! CPUs and control groups of the host for tests: a partition that cannot be is taken, and says so when it is read
//! (Linux 6.12, tried in the emulated host).

use std::fs;
use std::io;

use super::{FakeKernel, errno};
use crate::host::topology::CPUS;
use crate::setup::action::isolate_cpus::ROOT;
use crate::spec::cpu_list::CpuList;

const SUBTREE: &str = "cgroup.subtree_control";
const FILES: [(&str, &str); 2] = [("cpuset.cpus", ""), ("cpuset.cpus.partition", "member")];

/// Whether writing to `path` is about control groups.
pub(super) fn are_at(path: &str) -> bool {
    path.starts_with(ROOT)
}

impl FakeKernel {
    /// This host with CPUs 0 to 3, and 4 offline, and control groups of version 2.
    pub(in crate::setup) fn with_cpus(self) -> Self {
        for (name, cpus) in [("online", "0-3"), ("offline", "4"), ("possible", "0-4"), ("isolated", "")] {
            self.put(&format!("{CPUS}/{name}"), cpus);
        }
        self.put(&format!("{ROOT}/cgroup.controllers"), "cpuset cpu memory");
        self.put(&format!("{ROOT}/{SUBTREE}"), "cpu memory");
        self.put(&format!("{ROOT}/cpuset.cpus.isolated"), "");
        self.make_group(&format!("{ROOT}/system.slice")).unwrap();
        self
    }

    /// What mkdir(2) does.
    pub(in crate::setup) fn make_group(&self, path: &str) -> io::Result<()> {
        fs::create_dir(self.at(path))?;
        self.put(&format!("{path}/cgroup.procs"), "");
        self.put(&format!("{path}/cgroup.stat"), "nr_descendants 0\nnr_dying_descendants 0");
        self.put(&format!("{path}/{SUBTREE}"), "");
        self.with_controllers();
        Ok(())
    }

    /// What rmdir(2) does.
    pub(super) fn remove_group(&self, path: &str) -> io::Result<()> {
        match self.text(&format!("{path}/cgroup.procs")) {
            None => Err(errno(libc::ENOENT)),
            Some(processes) if !processes.is_empty() => Err(errno(libc::EBUSY)),
            Some(_) => {
                fs::remove_dir_all(self.at(path))?;
                self.judge_partitions();
                Ok(())
            }
        }
    }

    fn groups(&self) -> Vec<String> {
        let entries = fs::read_dir(self.at(ROOT)).unwrap().map(|entry| entry.unwrap());
        let directories = entries.filter(|entry| entry.file_type().unwrap().is_dir());
        let mut groups: Vec<_> =
            directories.map(|entry| format!("{ROOT}/{}", entry.file_name().into_string().unwrap())).collect();
        groups.sort();
        groups
    }

    /// Groups have the files of a controller while the group above hands it on.
    fn with_controllers(&self) {
        let on = self.text(&format!("{ROOT}/{SUBTREE}")).unwrap().contains("cpuset");
        for group in self.groups() {
            for (name, text) in FILES {
                let path = format!("{group}/{name}");
                match (on, self.at(&path).exists()) {
                    (true, false) => self.put(&path, text),
                    (false, true) => fs::remove_file(self.at(&path)).unwrap(),
                    _ => {}
                }
            }
        }
        self.judge_partitions();
    }

    fn judge_partitions(&self) {
        let mut isolated = CpuList::default();
        for group in self.groups() {
            let path = format!("{group}/cpuset.cpus.partition");
            let Some(text) = self.text(&path) else { continue };
            let kind = text.split(' ').next().unwrap().to_owned();
            let cpus: CpuList = self.text(&format!("{group}/cpuset.cpus")).unwrap().parse().unwrap();
            let shared = self.groups().iter().filter(|other| **other != group).any(|other| {
                let other = self.text(&format!("{other}/cpuset.cpus")).unwrap().parse::<CpuList>().unwrap();
                !other.intersection(&cpus).is_empty()
            });
            let at_boot: CpuList = self.text(&format!("{CPUS}/isolated")).unwrap().parse().unwrap();
            if kind == "member" {
                continue;
            }
            if !at_boot.intersection(&cpus).is_empty() {
                self.put(
                    &path,
                    &format!("{kind} invalid (partition config conflicts with housekeeping setup)"),
                );
            } else if shared || cpus.is_empty() {
                self.put(&path, &format!("{kind} invalid (Cpu list in cpuset.cpus not exclusive)"));
            } else {
                self.put(&path, &kind);
                isolated = isolated.union(&cpus);
            }
        }
        self.put(&format!("{ROOT}/cpuset.cpus.isolated"), &isolated.to_string());
    }

    /// What the kernel does with `value` written to `path`.
    pub(super) fn groups_effect(&self, path: &str, value: &str) -> io::Result<()> {
        if !self.at(path).exists() {
            return Err(errno(libc::ENOENT));
        }
        let (group, name) = path.rsplit_once('/').unwrap();
        match (name, value) {
            (SUBTREE, "+cpuset") => {
                let now = self.text(path).unwrap();
                if !now.contains("cpuset") {
                    self.put(path, format!("cpuset {now}").trim_end());
                }
                self.with_controllers();
                Ok(())
            }
            (SUBTREE, "-cpuset") => {
                let held =
                    |group: &String| self.text(&format!("{group}/{SUBTREE}")).unwrap().contains("cpuset");
                if group == ROOT && self.groups().iter().any(held) {
                    return Err(errno(libc::EBUSY));
                }
                let now = self.text(path).unwrap();
                self.put(path, now.trim_start_matches("cpuset").trim_start());
                self.with_controllers();
                Ok(())
            }
            ("cpuset.cpus", _) => {
                let cpus: CpuList = value.parse().map_err(|_| errno(libc::EINVAL))?;
                self.put(path, &cpus.to_string());
                self.judge_partitions();
                Ok(())
            }
            ("cpuset.cpus.partition", "member" | "root" | "isolated") => {
                self.put(path, value);
                self.judge_partitions();
                Ok(())
            }
            _ => Err(errno(libc::EINVAL)),
        }
    }
}
