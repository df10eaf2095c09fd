//! What a profile says of a machine's processors: how many, how they are arranged, what they can do, where they run.
//!
//! Written as a number, or as a mapping whose numbers multiply to the number of vCPUs.

use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize};

use crate::spec::cpu_feature::{self, Feature, Level};
use crate::spec::cpu_list::CpuList;
use crate::spec::spelling::closest;
use crate::vmm::config::{ConfigError, MAX_CPUS, ShortForm};
use crate::vmm::vcpu::topology::Topology;

/// Priorities of SCHED_FIFO that a vCPU can have (Linux: sched(7), 1 to 99). The machine's own thread has the next higher
/// one, so that a guest that spins can be stopped.
const PRIORITIES: std::ops::RangeInclusive<i64> = 1..=98;

/// A machine's processors.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a number of vCPUs, or a mapping that describes them")]
pub struct CpuConfig {
    /// Virtual CPUs, 1 to 64; left out, what the arrangement makes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<i64>,
    /// Sockets; 1 if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sockets: Option<i64>,
    /// Dies of each socket; 1 if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dies: Option<i64>,
    /// Cores of each die; left out, as many as `count` needs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cores: Option<i64>,
    /// Threads of each core; 1 if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<i64>,
    /// What they can do.
    #[serde(skip_serializing_if = "is_default")]
    pub model: CpuModel,
    /// Features that are there or not, whatever the model says.
    #[serde(skip_serializing_if = "is_default")]
    pub features: Features,
    /// For each vCPU the host's CPUs that it may run on, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pin: Vec<CpuList>,
    /// The vCPUs' real-time priority (SCHED_FIFO), 1 to 98; left out, they share the host's CPUs as other programs do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub realtime_priority: Option<i64>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What a machine's processors can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum CpuModel {
    /// Whatever KVM offers on this host, but nested virtualization.
    #[default]
    #[serde(rename = "host")]
    Host,
    /// What every x86-64 processor can do.
    #[serde(rename = "x86-64-v1")]
    V1,
    /// Up to SSE4.2.
    #[serde(rename = "x86-64-v2")]
    V2,
    /// Up to AVX2.
    #[serde(rename = "x86-64-v3")]
    V3,
    /// Up to AVX-512.
    #[serde(rename = "x86-64-v4")]
    V4,
}

impl CpuModel {
    /// The level of the psABI that it is; none for [`Self::Host`].
    #[must_use]
    pub fn level(self) -> Option<Level> {
        match self {
            Self::Host => None,
            Self::V1 => Some(Level::V1),
            Self::V2 => Some(Level::V2),
            Self::V3 => Some(Level::V3),
            Self::V4 => Some(Level::V4),
        }
    }
}

/// Features by name, each with whether it is there. All names are known.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Features(BTreeMap<String, bool>);

/// A name that no feature has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is no feature of a processor{hint}")]
pub struct UnknownFeature {
    name: String,
    hint: String,
}

impl Features {
    /// These features, on or off.
    ///
    /// # Errors
    /// [`UnknownFeature`] with the name that was probably meant.
    pub fn new<S: Into<String>>(
        features: impl IntoIterator<Item = (S, bool)>,
    ) -> Result<Self, UnknownFeature> {
        let features: BTreeMap<String, bool> =
            features.into_iter().map(|(name, on)| (name.into(), on)).collect();
        match features.keys().find(|name| cpu_feature::find(name).is_none()) {
            None => Ok(Self(features)),
            Some(name) => {
                let known: Vec<&str> = cpu_feature::ALL.iter().map(|feature| feature.name).collect();
                let hint = closest(name, &known).map(|near| format!("; did you mean `{near}`?"));
                Err(UnknownFeature {
                    name: name.escape_debug().to_string(),
                    hint: hint.unwrap_or_else(|| "; names are those of /proc/cpuinfo".to_owned()),
                })
            }
        }
    }

    /// Those that are switched on, or those that are switched off.
    pub fn switched(&self, on: bool) -> impl Iterator<Item = &'static Feature> {
        self.0.iter().filter(move |(_, is_on)| **is_on == on).filter_map(|(name, _)| cpu_feature::find(name))
    }

    /// A feature that is switched off although one that is switched on needs it.
    fn contradiction(&self) -> Option<(&'static str, &'static str)> {
        self.switched(true).find_map(|feature| {
            let needs = cpu_feature::with_needs(feature);
            let off = needs.iter().find(|need| self.0.get(need.name) == Some(&false))?;
            Some((feature.name, off.name))
        })
    }
}

impl<'de> Deserialize<'de> for Features {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let features = BTreeMap::<String, bool>::deserialize(deserializer)?;
        Self::new(features).map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Features {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Features".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let known: serde_json::Map<String, serde_json::Value> = cpu_feature::ALL
            .iter()
            .map(|feature| (feature.name.to_owned(), serde_json::json!({ "type": "boolean" })))
            .collect();
        schemars::json_schema!({
            "description": "Features of processors by their names in /proc/cpuinfo, each with whether it is there",
            "type": "object",
            "properties": known,
            "additionalProperties": false
        })
    }
}

impl ShortForm for CpuConfig {
    type Value = i64;

    const EXPECTING: &'static str = "a number of vCPUs, or a mapping that describes them";

    fn from_value(count: i64) -> Self {
        Self { count: Some(count), ..Self::default() }
    }

    fn as_value(&self) -> Option<i64> {
        let count = self.count.or_else(|| (*self == Self::default()).then_some(1))?;
        (*self == Self::from_value(count) || *self == Self::default()).then_some(count)
    }

    fn value_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({ "type": "integer", "format": "int64", "minimum": 1, "maximum": MAX_CPUS })
    }
}

impl CpuConfig {
    /// The arrangement; for settings that [`Self::check`] finds wrong, a single vCPU.
    #[must_use]
    pub fn topology(&self) -> Topology {
        self.arrange().unwrap_or_else(|_| Topology::single())
    }

    /// vCPUs.
    #[must_use]
    pub fn count(&self) -> u8 {
        self.topology().count()
    }

    /// Whether the vCPUs are more than a plain number of cores in one socket.
    #[must_use]
    pub fn is_arranged(&self) -> bool {
        let topology = self.topology();
        topology.cores() != topology.count()
    }

    fn arrange(&self) -> Result<Topology, (&'static str, String)> {
        let most = i64::from(MAX_CPUS);
        let levels = [
            ("sockets", self.sockets),
            ("dies", self.dies),
            ("cores", self.cores),
            ("threads", self.threads),
        ];
        for (key, number) in [&[("count", self.count)], &levels[..]].concat() {
            if let Some(number) = number.filter(|number| !(1..=most).contains(number)) {
                return Err((key, format!("{number} is not between 1 and {most}")));
            }
        }
        let [sockets, dies, cores, threads] = levels.map(|(_, number)| number);
        let others = sockets.unwrap_or(1) * dies.unwrap_or(1) * threads.unwrap_or(1);
        let numbers = match (self.count, cores, sockets) {
            // Cores fill up, or sockets where the cores are told.
            (Some(count), None, _) if count % others == 0 => [sockets, dies, Some(count / others), threads],
            (Some(count), Some(cores), None) if count % (others * cores) == 0 => {
                [Some(count / (others * cores)), dies, Some(cores), threads]
            }
            _ => [sockets, dies, cores, threads],
        };
        let product: i64 = numbers.iter().map(|number| number.unwrap_or(1)).product();
        let spelled = || {
            let named = levels.iter().filter_map(|(key, number)| Some((key, (*number)?)));
            let named = named
                .map(|(key, number)| format!("{number} {}", if number == 1 { singular(key) } else { key }));
            named.collect::<Vec<_>>().join(" times ")
        };
        match self.count.filter(|count| *count != product) {
            Some(count) => {
                let problem = format!(
                    "{} do not make {count} vCPUs; mend one of the numbers, or leave one out",
                    spelled()
                );
                return Err(("count", problem));
            }
            None if product > most => {
                return Err(("", format!("{} are {product} vCPUs; a machine has at most {most}", spelled())));
            }
            None => {}
        }
        let small = numbers.map(|number| u8::try_from(number.unwrap_or(1)).unwrap_or(0));
        Topology::new(small).ok_or_else(|| ("", format!("{} are no arrangement", spelled())))
    }

    /// Everything that is wrong, under the key `cpus`.
    pub(in crate::vmm) fn check(&self, errors: &mut Vec<ConfigError>) {
        let mut wrong = |key: &str, problem: String| {
            let plain = key.is_empty() || (key == "count" && self.as_value().is_some());
            let setting = if plain { "cpus".to_owned() } else { format!("cpus.{key}") };
            errors.push(ConfigError::new(setting, problem));
        };
        let count = match self.arrange() {
            Ok(topology) => Some(usize::from(topology.count())),
            Err((key, problem)) => {
                wrong(key, problem);
                None
            }
        };
        if let Some((feature, need)) = self.features.contradiction() {
            wrong("features", format!("{feature} cannot be there without {need}, which is switched off"));
        }
        if let Some(count) = count.filter(|count| !self.pin.is_empty() && self.pin.len() != *count) {
            let places = self.pin.len();
            wrong("pin", format!("{places} entries for {count} vCPUs; write one for each, in their order"));
        }
        for (index, cpus) in self.pin.iter().enumerate() {
            if cpus.is_empty() {
                wrong(&format!("pin.{index}"), "no CPU is named; write for example 2, or \"2-3\"".to_owned());
            }
        }
        if let Some(priority) = self.realtime_priority.filter(|priority| !PRIORITIES.contains(priority)) {
            let (least, most) = (PRIORITIES.start(), PRIORITIES.end());
            wrong("realtime_priority", format!("{priority} is not between {least} and {most}"));
        }
    }

    /// The priority as the scheduler takes it.
    #[must_use]
    pub fn priority(&self) -> Option<u8> {
        self.realtime_priority.and_then(|priority| u8::try_from(priority).ok())
    }
}

fn singular(key: &str) -> &str {
    key.strip_suffix('s').unwrap_or(key)
}

impl fmt::Display for CpuConfig {
    /// How many there are.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.count().fmt(f)
    }
}

#[cfg(test)]
mod tests;
