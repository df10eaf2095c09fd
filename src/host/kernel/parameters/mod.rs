//! The arguments of the kernel's command line that have to do with virtualization and passthrough: what each does, and
//! whether this kernel on this machine takes it.
//!
//! Linux: Documentation/admin-guide/kernel-parameters.rst. The kernel says little about arguments that it does not know:
//! what looks like `name=value` goes to the first process as an environment variable, silently.

mod judge;
mod known;
mod rows;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::Serialize;

use super::Kernel;
use crate::host::cpu::Cpu;
use crate::host::iommu::Iommu;
use crate::host::kernel_log::KernelLog;
use crate::spec::spelling;
use judge::Host;
pub use known::Subject;
use known::{Known, Takes};

/// Most arguments that are told; a command line has at most 4,096 bytes (Linux: COMMAND_LINE_SIZE, arch/x86).
const MOST: usize = 256;

/// An argument of the command line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Parameter {
    /// Its name, as it stands there.
    pub name: String,
    /// What is behind the `=`; absent where there is none.
    pub value: Option<String>,
    /// What it is about.
    pub subject: Subject,
    /// What it asks for; absent where nobody knows it.
    pub meaning: Option<String>,
    /// What the kernel makes of it.
    pub effect: Effect,
    /// Why it is not taken; absent where it is.
    pub reason: Option<String>,
    /// The later argument that takes it back; absent where none does.
    pub taken_back_by: Option<String>,
}

/// What the kernel makes of an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// It is taken.
    Works,
    /// It does nothing: not on this machine, not with this kernel, or another one takes it back.
    Ignored,
    /// The parameter is known, and its value is not.
    WrongValue,
    /// Whether it does something cannot be told here.
    UnknownHere,
}

impl Parameter {
    /// As it stands on the command line.
    #[must_use]
    pub fn text(&self) -> String {
        match &self.value {
            Some(value) => format!("{}={value}", self.name),
            None => self.name.clone(),
        }
    }

    /// Whether it is parameter `name`, in whichever spelling.
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        normal(&self.name) == normal(name)
    }

    /// The words of its value.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.value.as_deref().unwrap_or_default().split(',').filter(|word| !word.is_empty())
    }
}

/// Dashes and underscores are the same to the kernel (Linux: kernel/params.c, `dash2underscore`).
fn normal(name: &str) -> String {
    name.replace('-', "_")
}

/// Name and value of each argument before `--`, quotes taken off (Linux: lib/cmdline.c, `next_arg`).
fn arguments(line: &str) -> Vec<(&str, Option<&str>)> {
    let mut found = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() && found.len() < MOST {
        let mut quoted = false;
        let end = rest
            .find(|character: char| {
                quoted ^= character == '"';
                character.is_ascii_whitespace() && !quoted
            })
            .unwrap_or(rest.len());
        let (word, behind) = rest.split_at(end);
        rest = behind.trim_start();
        let word = word.strip_prefix('"').map_or(word, |inside| inside.strip_suffix('"').unwrap_or(inside));
        if word == "--" {
            break;
        }
        // `ivrs_ioapic[32]=00:14.0` has its number in its name.
        let (name, value) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
        let value = value.map(|value| value.trim_matches('"'));
        if !name.is_empty() {
            found.push((name, value));
        }
    }
    found
}

/// The row of a parameter.
fn known(name: &str, value: Option<&str>) -> Option<&'static Known> {
    let name = normal(name.split('[').next().unwrap_or(name));
    let names_framebuffer = |known: &&Known| match known.takes {
        Takes::Words(words) => value.is_some_and(|value| words.iter().any(|word| word.is(value))),
        _ => false,
    };
    if name == "video" {
        return rows::FRAMEBUFFERS.iter().find(names_framebuffer);
    }
    rows::all().find(|known| normal(known.name) == name)
}

/// What was probably meant by a name that nobody knows.
fn meant(name: &str) -> Option<(&'static str, Subject)> {
    /// Shorter names have too many neighbours.
    const SHORTEST: usize = 6;
    let normal_name = normal(name).to_ascii_lowercase();
    let subject = |name: &str| rows::all().find(|known| known.name == name).map(|known| known.subject);
    if let Some((_, meant)) = rows::MISTAKES.iter().find(|(wrong, _)| *wrong == normal_name) {
        return Some((meant, subject(meant).unwrap_or(Subject::Iommu)));
    }
    if name.len() < SHORTEST {
        return None;
    }
    let may_be = |known: &&Known| {
        known.name.len() > SHORTEST && known.name.len().abs_diff(name.len()) <= slips(known.name)
    };
    let candidates = rows::all().filter(may_be);
    let near = candidates.map(|known| (spelling::distance(&normal_name, &normal(known.name)), known));
    let (_, known) = near
        .filter(|(distance, known)| *distance <= slips(known.name))
        .min_by_key(|(distance, _)| *distance)?;
    Some((known.name, known.subject))
}

/// How many slips of the finger are believed. Modules have parameters of similar names.
fn slips(name: &str) -> usize {
    if name.len() >= 10 && !name.contains('.') { 2 } else { 1 }
}

/// Explains the command line of `kernel`, once the rest of the host is known.
pub(in crate::host) fn explain(kernel: &mut Kernel, cpu: &Cpu, iommu: &Iommu, log: &KernelLog) {
    let host = Host { kernel, cpu, iommu, log };
    let parameters = kernel.command_line.as_ref().map(|line| parameters(line, &host));
    kernel.parameters = parameters;
}

fn parameters(line: &str, host: &Host<'_>) -> Vec<Parameter> {
    let mut found: Vec<(Parameter, Option<&'static Known>)> = Vec::new();
    for (name, value) in arguments(line) {
        let parameter = |subject, meaning, (effect, reason): (Effect, Option<String>)| Parameter {
            name: name.to_owned(),
            value: value.map(str::to_owned),
            subject,
            meaning,
            effect,
            reason,
            taken_back_by: None,
        };
        if let Some(known) = known(name, value) {
            let verdict = judge::judge(host, known, value);
            found.push((parameter(known.subject, Some(judge::meaning(known, value)), verdict), Some(known)));
        } else if let Some((meant, subject)) = meant(name) {
            let reason = format!("the kernel knows no `{name}`; `{meant}` was probably meant");
            found.push((parameter(subject, None, (Effect::Ignored, Some(reason))), None));
        } else if let Some(subject) = module_of(name) {
            let reason = "no such parameter of the module is known here".to_owned();
            found.push((parameter(subject, None, (Effect::UnknownHere, Some(reason))), None));
        }
    }
    take_back(&mut found);
    found.into_iter().map(|(parameter, _)| parameter).collect()
}

/// The subject of a parameter of a module that is known, whatever the parameter.
fn module_of(name: &str) -> Option<Subject> {
    match normal(name).split_once('.')?.0 {
        "vfio" | "vfio_pci" | "vfio_pci_core" | "vfio_iommu_type1" | "iommufd" => Some(Subject::Vfio),
        "kvm" | "kvm_intel" | "kvm_amd" => Some(Subject::Kvm),
        _ => None,
    }
}

/// Arguments that a later one takes back: the last one wins.
fn take_back(found: &mut [(Parameter, Option<&'static Known>)]) {
    let mut last: BTreeMap<String, String> = BTreeMap::new();
    for (parameter, known) in found.iter_mut().rev() {
        let Some(known) = known else { continue };
        if parameter.effect != Effect::Works {
            continue;
        }
        let opposites: Vec<_> = match known.takes {
            Takes::Words(words) => parameter
                .words()
                .filter_map(|text| words.iter().find(|word| word.is(text) && !word.opposite.is_empty()))
                .collect(),
            _ => Vec::new(),
        };
        let value_key = normal(known.name);
        let winner = match last.get(&value_key) {
            Some(later) if !known.each && *later != parameter.text() => Some(later.clone()),
            _ => {
                opposites.iter().find_map(|word| last.get(&format!("{value_key} {}", word.opposite))).cloned()
            }
        };
        if let Some(winner) = winner {
            parameter.effect = Effect::Ignored;
            parameter.reason = Some(format!("`{winner}` comes later and wins"));
            parameter.taken_back_by = Some(winner);
            continue;
        }
        if !known.each {
            last.insert(value_key.clone(), parameter.text());
        }
        for word in opposites {
            last.insert(format!("{value_key} {}", word.word), parameter.text());
        }
    }
}

impl Kernel {
    /// The arguments about `subject`.
    pub fn parameters_about(&self, subject: Subject) -> impl Iterator<Item = &Parameter> {
        self.parameters.known().into_iter().flatten().filter(move |parameter| parameter.subject == subject)
    }
}
