//! How vCPUs are arranged in sockets, dies, cores and threads, and the APIC IDs that follow from it.
//!
//! An APIC ID is a number with one field for each level, each as wide as a power of two needs (Intel SDM vol. 3, 9.9.1;
//! AMD APM vol. 3, E.4.7). So the IDs have gaps where a level does not have a power of two of members. With at most
//! [`MAX_CPUS`] vCPUs all of them are below 128: no vCPU needs x2APIC IDs.

use crate::vmm::config::MAX_CPUS;

/// An arrangement of 1 to [`MAX_CPUS`] vCPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Topology {
    sockets: u8,
    dies: u8,
    cores: u8,
    threads: u8,
}

impl Topology {
    /// `sockets` of `dies` each of `cores` each of `threads` each. `None` if a number is zero, or if these are more than
    /// [`MAX_CPUS`] vCPUs.
    #[must_use]
    pub fn new([sockets, dies, cores, threads]: [u8; 4]) -> Option<Self> {
        let count = [dies, cores, threads]
            .into_iter()
            .try_fold(sockets, |product, members| product.checked_mul(members))?;
        (1..=MAX_CPUS).contains(&count).then_some(Self { sockets, dies, cores, threads })
    }

    /// One vCPU.
    #[must_use]
    pub fn single() -> Self {
        Self { sockets: 1, dies: 1, cores: 1, threads: 1 }
    }

    /// vCPUs.
    #[must_use]
    pub fn count(self) -> u8 {
        self.sockets * self.per_package()
    }

    /// Sockets.
    #[must_use]
    pub fn sockets(self) -> u8 {
        self.sockets
    }

    /// Dies of a socket.
    #[must_use]
    pub fn dies(self) -> u8 {
        self.dies
    }

    /// Cores of a die.
    #[must_use]
    pub fn cores(self) -> u8 {
        self.cores
    }

    /// Threads of a core.
    #[must_use]
    pub fn threads(self) -> u8 {
        self.threads
    }

    /// vCPUs of a die.
    #[must_use]
    pub fn per_die(self) -> u8 {
        self.cores * self.threads
    }

    /// vCPUs of a socket.
    #[must_use]
    pub fn per_package(self) -> u8 {
        self.dies * self.per_die()
    }

    /// How far an APIC ID is shifted to become that of the core.
    #[must_use]
    pub fn core_shift(self) -> u32 {
        width(self.threads)
    }

    /// How far an APIC ID is shifted to become that of the die.
    #[must_use]
    pub fn die_shift(self) -> u32 {
        self.core_shift() + width(self.cores)
    }

    /// How far an APIC ID is shifted to become that of the socket.
    #[must_use]
    pub fn package_shift(self) -> u32 {
        self.die_shift() + width(self.dies)
    }

    /// The APIC ID of vCPU `index`. vCPUs are numbered thread by thread, core by core, die by die, socket by socket.
    #[must_use]
    pub fn apic_id(self, index: u8) -> u8 {
        let thread = index % self.threads;
        let core = index / self.threads % self.cores;
        let die = index / self.per_die() % self.dies;
        let socket = index / self.per_package();
        socket << self.package_shift() | die << self.die_shift() | core << self.core_shift() | thread
    }
}

/// Bits that number `members`.
fn width(members: u8) -> u32 {
    members.next_power_of_two().trailing_zeros()
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    /// Every arrangement that there is.
    pub(crate) fn all() -> impl Iterator<Item = Topology> {
        let numbers = || 1..=MAX_CPUS;
        numbers().flat_map(move |sockets| {
            numbers()
                .take_while(move |dies| u32::from(sockets) * u32::from(*dies) <= MAX_CPUS.into())
                .flat_map(move |dies| {
                    numbers().flat_map(move |cores| {
                        numbers().filter_map(move |threads| Topology::new([sockets, dies, cores, threads]))
                    })
                })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn zero_and_more_than_the_most_are_no_arrangement() {
        for numbers in [[0, 1, 1, 1], [1, 1, 1, 0], [65, 1, 1, 1], [5, 1, 13, 1], [2, 2, 5, 4], [255; 4]] {
            assert_eq!(Topology::new(numbers), None, "{numbers:?}");
        }
        assert_eq!(Topology::new([2, 2, 8, 2]).unwrap().count(), 64);
    }

    #[test]
    fn fields_are_as_wide_as_powers_of_two() {
        let topology = Topology::new([2, 3, 5, 2]).unwrap();
        assert_eq!((topology.core_shift(), topology.die_shift(), topology.package_shift()), (1, 4, 6));
        assert_eq!(topology.apic_id(0), 0);
        assert_eq!(topology.apic_id(9), 0b00_1001, "the last thread of die 0");
        assert_eq!(topology.apic_id(10), 0b01_0000);
        assert_eq!(topology.apic_id(30), 0b100_0000);
        assert_eq!(topology.apic_id(59), 0b110_1001);
    }

    #[test]
    fn apic_ids_of_every_topology_ascend_below_128() {
        let mut seen = 0;
        for topology in testing::all() {
            let ids: Vec<u8> = (0..topology.count()).map(|index| topology.apic_id(index)).collect();
            assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "{topology:?}: {ids:?}");
            assert!(*ids.last().unwrap() < 128, "{topology:?}: {ids:?}");
            // Members of a level are those whose IDs agree above it.
            for (shift, members) in [
                (topology.core_shift(), topology.threads()),
                (topology.die_shift(), topology.per_die()),
                (topology.package_shift(), topology.per_package()),
            ] {
                let groups: BTreeSet<u8> = ids.iter().map(|id| id >> shift).collect();
                assert_eq!(groups.len() * usize::from(members), ids.len(), "{topology:?}");
            }
            seen += 1;
        }
        assert!(seen > 1000, "{seen}");
    }
}
