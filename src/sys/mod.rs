//! What the kernel ABI lets us do: the only room with `unsafe`. No policy; no raw descriptors or errno integers leave.

pub mod child;
pub mod cpuid;
pub mod event;
pub mod kernel_log;
pub mod kvm;
pub mod kvm_measure;
pub mod kvm_query;
pub mod kvm_stats;
pub mod lock;
pub mod mmap;
pub mod module;
pub mod netlink;
pub mod node;
pub mod private_dir;
pub mod process;
pub mod ram;
pub mod rlimit;
pub mod scatter;
pub mod schedule;
pub mod signal;
pub mod system_file;
pub mod tap;
pub mod terminal;
pub mod tool;
pub mod vfio;
