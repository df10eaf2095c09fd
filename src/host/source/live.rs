//! The host that we run on.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;

use super::{CpuidLeaf, Fact, KvmAnswer, Source, fact_of_error, msr_name, read_to_limit, reason_of};
use crate::sys;

/// Reads the live host. Has no state; paths are used as they are.
#[derive(Debug, Clone, Copy, Default)]
pub struct LiveSource;

/// Where KVM is.
const KVM: &str = "/dev/kvm";

impl Source for LiveSource {
    fn read_limited(&self, path: &str, limit_bytes: u64) -> Fact<Vec<u8>> {
        match File::open(path) {
            Ok(file) => read_to_limit(&file, path, limit_bytes),
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
            Ok(reply) => match reply.create_vm {
                Ok(()) => Fact::Known(KvmAnswer { api_version: reply.api_version, creates_vm: true }),
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => Fact::Unreadable {
                    source: KVM.to_owned(),
                    reason: format!("{}: another hypervisor holds the CPU's extension", reason_of(&error)),
                },
                Err(_) => Fact::Known(KvmAnswer { api_version: reply.api_version, creates_vm: false }),
            },
            Err(error) => fact_of_error(KVM, &error),
        }
    }
}
