//! The host that we run on.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::Duration;

use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::net::if_::if_indextoname;
use nix::unistd::{AccessFlags, faccessat};

use super::{
    CpuidLeaf, DeviceNode, Fact, KvmAnswer, READ_LIMIT_BYTES, Route, Source, VfLink, VfLinks, fact_of_error,
    is_told_of_the_log, msr_name, read_to_limit,
};
use crate::sys;
use crate::sys::child::ChildError;
use crate::sys::netlink::{self, DumpedLink, DumpedVf};

/// Reads the live host. Has no state; paths are used as they are.
#[derive(Debug, Clone, Copy, Default)]
pub struct LiveSource;

/// How long a question over netlink may take.
const NETLINK_LIMIT: Duration = Duration::from_secs(1);
/// The source of what netlink answers.
const NETLINK: &str = "rtnetlink";

/// Where KVM is.
const KVM: &str = "/dev/kvm";

impl Source for LiveSource {
    fn read_limited(&self, path: &str, limit_bytes: u64) -> Fact<Vec<u8>> {
        match File::open(path) {
            Ok(file) => read_to_limit(&file, path, limit_bytes),
            Err(error) => fact_of_error(path, &error),
        }
    }

    fn read_wanted(&self, path: &str, wanted: &dyn Fn(&[u8]) -> usize) -> Fact<Vec<u8>> {
        match File::open(path).and_then(|file| read_wanted(&file, wanted)) {
            Ok(bytes) => Fact::Known(bytes),
            Err(error) => fact_of_error(path, &error),
        }
    }

    fn list(&self, path: &str) -> Fact<Vec<String>> {
        let names = fs::read_dir(path).and_then(|entries| {
            entries
                .filter_map(|entry| entry.map(|entry| entry.file_name().into_string().ok()).transpose())
                .collect::<io::Result<Vec<_>>>()
        });
        match names {
            Ok(mut names) => {
                names.sort_unstable();
                Fact::Known(names)
            }
            Err(error) => fact_of_error(path, &error),
        }
    }

    fn link(&self, path: &str) -> Fact<String> {
        match fs::read_link(path) {
            Ok(target) => Fact::Known(target).parse(path, |target| {
                target.into_os_string().into_string().map_err(|_| "the link's target is not UTF-8")
            }),
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                Fact::Unreadable { source: path.to_owned(), reason: "not a symbolic link".to_owned() }
            }
            Err(error) => fact_of_error(path, &error),
        }
    }

    fn cpuid(&self, leaf: u32, subleaf: u32) -> Fact<CpuidLeaf> {
        sys::cpuid::leaf(leaf, subleaf).map_or(Fact::NotPresent, Fact::Known)
    }

    fn msr(&self, cpu: u32, register: u32) -> Fact<u64> {
        let path = format!("/dev/cpu/{cpu}/msr");
        let mut value = [0; 8];
        match File::open(path).and_then(|file| file.read_exact_at(&mut value, u64::from(register))) {
            Ok(()) => Fact::Known(u64::from_le_bytes(value)),
            Err(error) => fact_of_error(&msr_name(cpu, register), &error),
        }
    }

    fn kvm(&self) -> Fact<KvmAnswer> {
        match sys::kvm_query::ask() {
            Ok(reply) => Fact::Known(KvmAnswer {
                api_version: reply.api_version,
                creates_vm: reply.create_vm.is_ok(),
                busy: reply.create_vm.is_err_and(|error| error.kind() == io::ErrorKind::ResourceBusy),
            }),
            Err(error) => fact_of_error(KVM, &error),
        }
    }

    fn kernel_log(&self) -> Fact<Vec<String>> {
        match sys::kernel_log::messages(is_told_of_the_log) {
            Ok(messages) => Fact::Known(messages),
            Err(error) => fact_of_error(sys::kernel_log::PATH, &error),
        }
    }

    fn vf_links(&self) -> Fact<Vec<VfLinks>> {
        fact_of_netlink(netlink::links(NETLINK_LIMIT))
            .map(|links| links.into_iter().filter(|link| !link.vfs.is_empty()).map(vf_links).collect())
    }

    fn routes(&self) -> Fact<Vec<Route>> {
        fact_of_netlink(netlink::routes(NETLINK_LIMIT)).map(|routes| {
            let mut names = BTreeMap::new();
            let named = routes.into_iter().filter(|route| !route.is_interface_own).filter_map(|route| {
                let index = route.interface_index;
                let name = names
                    .entry(index)
                    .or_insert_with(|| if_indextoname(index).ok().and_then(|name| name.into_string().ok()));
                let interface = name.clone().filter(|name| name != "lo")?;
                Some(Route { interface, table: route.table, default: route.is_default })
            });
            named.collect()
        })
    }

    fn device_node(&self, path: &str) -> Fact<DeviceNode> {
        match fs::metadata(path) {
            Ok(metadata) => Fact::Known(DeviceNode {
                mode: metadata.mode() & PERMISSIONS,
                uid: metadata.uid(),
                gid: metadata.gid(),
                may_open: faccessat(
                    AT_FDCWD,
                    path,
                    AccessFlags::R_OK | AccessFlags::W_OK,
                    AtFlags::AT_EACCESS,
                )
                .is_ok(),
            }),
            Err(error) => fact_of_error(path, &error),
        }
    }
}

fn read_wanted(file: &File, wanted: &dyn Fn(&[u8]) -> usize) -> io::Result<Vec<u8>> {
    let limit = usize::try_from(READ_LIMIT_BYTES).unwrap_or(usize::MAX);
    let mut bytes = Vec::new();
    loop {
        let more = wanted(&bytes).min(limit).saturating_sub(bytes.len());
        let before = bytes.len();
        file.take(more as u64).read_to_end(&mut bytes)?;
        if bytes.len() == before {
            return Ok(bytes); // nothing was wanted, or nothing is left
        }
    }
}

/// The bits of a file's mode that chmod(2) sets.
const PERMISSIONS: u32 = 0o7777;

fn fact_of_netlink<T>(answer: Result<T, ChildError>) -> Fact<T> {
    match answer {
        Ok(answer) => Fact::Known(answer),
        Err(ChildError::Refused(error)) => fact_of_error(NETLINK, &error),
        Err(error) => Fact::Unreadable { source: NETLINK.to_owned(), reason: error.to_string() },
    }
}

fn vf_links(link: DumpedLink) -> VfLinks {
    let vf = |vf: DumpedVf| {
        Some(VfLink {
            index: u16::try_from(vf.index).ok()?, // a physical function has at most 65,535 (PCIe 6.0, 9.3.3.5)
            mac: vf.mac.map(|mac| mac.to_string()),
            vlan: vf.vlan,
            vlan_priority: vf.vlan_priority,
            spoof_check: vf.spoof_check,
            trusted: vf.trusted,
            link_state: vf.link_state.map(str::to_owned),
            min_tx_rate_mbps: vf.min_tx_rate_mbps,
            max_tx_rate_mbps: vf.max_tx_rate_mbps,
        })
    };
    VfLinks { interface: link.name, vfs: link.vfs.into_iter().filter_map(vf).collect() }
}
