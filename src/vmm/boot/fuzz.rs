//! Kernels of which somebody else chose every byte, for fuzzers and tests: refused, or loaded within RAM.

use std::io::Write;

use super::Payload;
use crate::vmm::config::{BootConfig, ModuleConfig, Protocol};
use crate::vmm::layout;
use crate::vmm::memory::GuestMemory;

const RAM_BYTES: u64 = 64 << 20;

/// Starts `kernel` as what it is, and as a multiboot image with a module, each with a RAM disk.
///
/// # Panics
/// The loader does.
pub fn fuzz(kernel: &[u8]) {
    let file = |content: &[u8]| {
        let mut file = tempfile::NamedTempFile::new().expect("a place for the file");
        file.write_all(content).expect("room for the file");
        file
    };
    let (kernel, other) = (file(kernel), file(b"of another file"));
    let other = other.path();
    for protocol in [Protocol::Auto, Protocol::Multiboot] {
        let module = ModuleConfig { file: other.to_owned(), cmdline: "text".to_owned() };
        let config = BootConfig {
            kernel: Some(kernel.path().to_owned()),
            initrd: Some(other.to_owned()),
            modules: if protocol == Protocol::Auto { Vec::new() } else { vec![module] },
            protocol,
            cmdline: "quiet".to_owned(),
            ..BootConfig::default()
        };
        let Ok(payload) = Payload::open(&config) else { continue };
        let memory = GuestMemory::new(RAM_BYTES).expect("RAM");
        let map = layout::memory_map(layout::ram_ranges(RAM_BYTES, 4096, &[]));
        let _ = payload.load(&memory, &map, 0xE_0000);
    }
}
