//! Model-specific registers as firmware leaves them: memory types and fast strings.

use std::ops::Range;

use kvm_bindings::{Msrs, kvm_msr_entry};
use kvm_ioctls::VcpuFd;

use crate::spec::msr::{self, MISC_ENABLE, MISC_ENABLE_FAST_STRINGS, mtrr};
use crate::vmm::layout;

/// Ranges below 4 GiB that are not RAM, each a power of two long and aligned to it: ECAM, and everything above.
const UNCACHED: [Range<u64>; 2] = [layout::ECAM, layout::ECAM.end..layout::HIGH_RAM];

/// Registers and their values for a vCPU with `physical_bits` address bits.
fn values(physical_bits: u8) -> Vec<(u32, u64)> {
    let address_mask = (1u64 << physical_bits.clamp(32, 52)) - 1;
    let mut values = vec![(MISC_ENABLE, MISC_ENABLE_FAST_STRINGS)];
    let mut register = mtrr::BASE_0;
    for range in UNCACHED {
        let size = range.end - range.start;
        values.push((register, range.start | mtrr::UNCACHEABLE));
        values.push((register + 1, !(size - 1) & address_mask | mtrr::VALID));
        register += 2;
    }
    values.push((mtrr::DEFAULT_TYPE, mtrr::ENABLE | mtrr::WRITE_BACK));
    values
}

/// Sets them; the names of those that this host's KVM refuses. They are left out: the guest then sees none of them either.
pub(super) fn set_up(vcpu: &VcpuFd, physical_bits: u8) -> Vec<String> {
    let mut refused = Vec::new();
    for (index, data) in values(physical_bits) {
        let entry = kvm_msr_entry { index, data, ..Default::default() };
        let set = Msrs::from_entries(&[entry]).ok().and_then(|msrs| vcpu.set_msrs(&msrs).ok());
        if set != Some(1) {
            refused.push(match msr::name(index) {
                Some(name) => format!("{name} ({index:#x})"),
                None => format!("{index:#x}"),
            });
        }
    }
    refused
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_register_has_a_name() {
        for (index, _) in values(40) {
            assert!(msr::name(index).is_some(), "{index:#x}");
        }
        assert_eq!(msr::name(0x203).as_deref(), Some("IA32_MTRR_PHYSMASK1"));
        assert_eq!(msr::name(0x1234), None);
    }

    #[test]
    fn uncached_ranges_are_what_variable_ranges_can_express() {
        for range in UNCACHED {
            let size = range.end - range.start;
            assert!(size.is_power_of_two() && range.start % size == 0, "{range:x?}");
        }
        let values = values(40);
        assert_eq!(values[1], (0x200, 0xB000_0000));
        assert_eq!(values[2], (0x201, 0xFF_F000_0800));
        assert_eq!(values[4], (0x203, 0xFF_C000_0800));
        assert_eq!(values[5], (0x2FF, 0x806));
    }
}
