//! What a machine did so far: exits by reason and vCPU, and KVM's own counters.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;

use crate::sys::kvm_stats::{Counter, Counters};
use crate::vmm::vcpu::exits::ExitCounts;

/// When somebody is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    /// A signal asked for it; the machine goes on.
    Asked,
    /// The machine has ended.
    End,
}

/// A machine's counters at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MachineStats {
    /// The machine's name.
    pub name: String,
    /// Since it was built, in milliseconds.
    pub uptime_ms: u64,
    /// KVM's counters of the whole machine by their names; unknown where KVM has none.
    pub kvm: Option<BTreeMap<String, Values>>,
    /// Each vCPU.
    pub vcpus: Vec<VcpuStats>,
}

/// A vCPU's counters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VcpuStats {
    /// Its number, from 0.
    pub index: u8,
    /// Its APIC ID.
    pub apic_id: u8,
    /// Returns to this program by reason.
    pub exits: BTreeMap<&'static str, u64>,
    /// KVM's counters of it by their names, exits that KVM dealt with among them; unknown where KVM has none.
    pub kvm: Option<BTreeMap<String, Values>>,
}

/// What a counter of KVM counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Values {
    /// A number.
    One(u64),
    /// The buckets of a histogram.
    Histogram(Vec<u64>),
}

impl From<Counter> for Values {
    fn from(counter: Counter) -> Self {
        match counter.values.as_slice() {
            [one] if !counter.is_histogram => Self::One(*one),
            _ => Self::Histogram(counter.values),
        }
    }
}

/// Where the counters of one vCPU are read.
#[derive(Debug)]
pub struct VcpuSource {
    /// Its APIC ID.
    pub apic_id: u8,
    /// Counted here.
    pub exits: Arc<ExitCounts>,
    /// Counted by KVM.
    pub kvm: Option<Counters>,
}

/// Where a machine's counters are read.
#[derive(Debug)]
pub struct Sources {
    start: Instant,
    kvm: Option<Counters>,
    vcpus: Vec<VcpuSource>,
}

impl Sources {
    /// From now on.
    #[must_use]
    pub fn new(kvm: Option<Counters>, vcpus: Vec<VcpuSource>) -> Self {
        Self { start: Instant::now(), kvm, vcpus }
    }

    /// What they are now, for the machine called `name`.
    #[must_use]
    pub fn read(&self, name: &str) -> MachineStats {
        MachineStats {
            name: name.to_owned(),
            uptime_ms: u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX),
            kvm: self.kvm.as_ref().and_then(values),
            vcpus: (0..).zip(&self.vcpus).map(|(index, source)| source.read(index)).collect(),
        }
    }
}

impl VcpuSource {
    fn read(&self, index: u8) -> VcpuStats {
        VcpuStats {
            index,
            apic_id: self.apic_id,
            exits: self.exits.iter().collect(),
            kvm: self.kvm.as_ref().and_then(values),
        }
    }
}

fn values(counters: &Counters) -> Option<BTreeMap<String, Values>> {
    let read = counters.read().inspect_err(|error| tracing::debug!(%error, "KVM's counters cannot be read"));
    Some(read.ok()?.into_iter().map(|counter| (counter.name.clone(), Values::from(counter))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_kvms_counters_says_that_they_are_unknown() {
        let vcpus = vec![VcpuSource { apic_id: 4, exits: Arc::default(), kvm: None }];
        let stats = serde_json::to_value(Sources::new(None, vcpus).read("x")).unwrap();
        assert_eq!((&stats["name"], &stats["kvm"]), (&"x".into(), &serde_json::Value::Null));
        assert_eq!(stats["vcpus"][0]["apic_id"], 4);
        assert_eq!(stats["vcpus"][0]["exits"]["mmio_read"], 0);
    }

    #[test]
    fn one_value_is_a_number_and_a_histogram_a_list_however_short() {
        let counter = |values, is_histogram| {
            let counter = Counter { name: String::new(), values, is_histogram };
            serde_json::to_string(&Values::from(counter)).unwrap()
        };
        assert_eq!(
            [counter(vec![7], false), counter(vec![7], true), counter(vec![1, 2], true)],
            ["7", "[7]", "[1,2]"]
        );
    }
}
