//! Whether the kernel of this host takes an argument, and what it asks for in words.

use super::Effect;
use super::known::{Known, Need, Takes, Word};
use crate::host::cpu::Cpu;
use crate::host::iommu::Iommu;
use crate::host::kernel::{Kernel, ModuleState};
use crate::host::kernel_log::KernelLog;
use crate::spec::spelling::closest;

/// What the effect of arguments depends on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Host<'a> {
    pub(super) kernel: &'a Kernel,
    pub(super) cpu: &'a Cpu,
    pub(super) iommu: &'a Iommu,
    pub(super) log: &'a KernelLog,
}

impl Host<'_> {
    fn vendor(&self) -> Option<&str> {
        self.cpu.vendor.known().map(String::as_str)
    }

    fn has_table(&self, table: &str) -> bool {
        self.iommu.acpi_tables.known().is_some_and(|tables| tables.iter().any(|name| name == table))
    }

    /// Processors whose virtualization kvm_intel drives; the rest of those with one is kvm_amd's.
    fn has_vtx(&self) -> Option<bool> {
        self.vendor().map(|vendor| matches!(vendor, "GenuineIntel" | "CentaurHauls" | "  Shanghai  "))
    }
}

type Verdict = (Effect, Option<String>);

fn ignored(reason: impl Into<String>) -> Verdict {
    (Effect::Ignored, Some(reason.into()))
}

fn unknown(reason: impl Into<String>) -> Verdict {
    (Effect::UnknownHere, Some(reason.into()))
}

fn wrong(reason: impl Into<String>) -> Verdict {
    (Effect::WrongValue, Some(reason.into()))
}

/// What an argument asks for.
pub(super) fn meaning(known: &Known, value: Option<&str>) -> String {
    let Takes::Words(words) = known.takes else { return known.meaning.to_owned() };
    let parts = value.unwrap_or_default().split(',');
    let meanings: Vec<_> =
        parts.filter_map(|part| words.iter().find(|word| word.is(part))).map(|word| word.meaning).collect();
    if meanings.is_empty() { known.meaning.to_owned() } else { meanings.join("; ") }
}

/// Whether the kernel takes an argument: its value first, then what it needs.
pub(super) fn judge(host: &Host<'_>, known: &Known, value: Option<&str>) -> Verdict {
    let text = || value.map_or_else(|| known.name.to_owned(), |value| format!("{}={value}", known.name));
    if let Some(reason) = wrong_value(known, value) {
        return wrong(reason);
    }
    if let Some(verdict) = known.needs.iter().find_map(|need| unmet(host, *need, &text())) {
        return verdict;
    }
    if let Takes::Words(words) = known.takes
        && let Some(verdict) = too_new(host, words, value.unwrap_or_default())
    {
        return verdict;
    }
    special(host, known, value.unwrap_or_default(), &text()).unwrap_or((Effect::Works, None))
}

/// What is wrong with a value, whatever the machine.
fn wrong_value(known: &Known, value: Option<&str>) -> Option<String> {
    let name = known.name;
    let given = value.unwrap_or_default();
    let is_number = |text: &str| {
        let hexadecimal = text.strip_prefix("0x").filter(|digits| !digits.is_empty());
        match hexadecimal {
            Some(digits) => digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
            None => !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()),
        }
    };
    match known.takes {
        Takes::Nothing | Takes::Text => None,
        Takes::Switch => {
            let first = given.to_ascii_lowercase();
            let is_switch = value.is_none()
                || first.starts_with(['y', 't', '1', 'n', 'f', '0'])
                || first.starts_with("on")
                || first.starts_with("of");
            (!is_switch).then(|| format!("`{name}` takes 0 or 1, and not `{given}`"))
        }
        Takes::Number => (!is_number(given)).then(|| format!("`{name}` takes a number, and not `{given}`")),
        Takes::Size => {
            let digits = given.strip_suffix(|unit: char| "kKmMgGtTpPeE".contains(unit)).unwrap_or(given);
            (!is_number(digits)).then(|| format!("`{name}` takes a size such as 2M or 1G, and not `{given}`"))
        }
        Takes::Cpus(flags) => {
            let is_part = |part: &str| {
                part.starts_with(|first: char| first.is_ascii_digit())
                    || matches!(part, "all" | "N")
                    || part.starts_with("N-")
                    || flags.contains(&part)
            };
            let bad = given.split(',').find(|part| !is_part(part));
            bad.map(|bad| format!("`{name}` takes a list of CPUs such as 2-5,8, and not `{bad}`"))
        }
        Takes::Words(words) => {
            let bad =
                given.split(',').find(|part| !part.is_empty() && !words.iter().any(|word| word.is(part)));
            match bad {
                Some(bad) => Some(wrong_word(name, words, bad)),
                None if given.is_empty() => Some(format!("`{name}` is nothing without a value")),
                None => None,
            }
        }
    }
}

fn wrong_word(name: &str, words: &[Word], bad: &str) -> String {
    if (name, bad) == ("amd_iommu", "on") {
        return "`amd_iommu=on` is no value that the kernel knows; AMD-Vi is on by itself".to_owned();
    }
    if name == "iommu" && matches!(bad, "on" | "1") {
        return format!("`iommu={bad}` is no value that the kernel knows, and switches nothing on");
    }
    // `intel_iommu=on,iommu=pt`
    if let Some((other, _)) = bad.split_once('=')
        && super::rows::all().any(|known| known.name == other)
    {
        return format!(
            "`{name}` knows no `{bad}`: a space has to stand before it, in the place of the comma"
        );
    }
    let names: Vec<_> = words.iter().map(|word| word.word).collect();
    match closest(bad, &names) {
        Some(near) => format!("`{name}` knows no `{bad}`; `{near}` was probably meant"),
        None => format!("`{name}` knows no `{bad}`"),
    }
}

/// Words that this version does not know yet.
fn too_new(host: &Host<'_>, words: &[Word], value: &str) -> Option<Verdict> {
    let version = host.kernel.version()?;
    let new = value.split(',').filter_map(|part| words.iter().find(|word| word.is(part)));
    let new = new.into_iter().find(|word| word.since > version)?;
    let (major, minor) = new.since;
    Some(ignored(format!("`{}` needs Linux {major}.{minor}", new.word.trim_end_matches('='))))
}

/// Why `need` is not met; `None` where it is, or where nobody can say that it is not.
fn unmet(host: &Host<'_>, need: Need, text: &str) -> Option<Verdict> {
    match need {
        Need::VtD => {
            host.has_table("IVRS").then(|| ignored(format!("`{text}` is for Intel's VT-d, and this is not")))
        }
        Need::AmdVi => (host.vendor() == Some("GenuineIntel") || host.has_table("DMAR"))
            .then(|| ignored(format!("`{text}` is for AMD-Vi, and this is not"))),
        Need::VtX => (host.has_vtx() == Some(false))
            .then(|| ignored(format!("`{text}` is for processors of Intel, and this is none"))),
        Need::AmdV => (host.has_vtx() == Some(true))
            .then(|| ignored(format!("`{text}` is for processors of AMD, and this is none"))),
        Need::Since(major, minor) => (host.kernel.version()? < (major, minor))
            .then(|| ignored(format!("`{text}` needs Linux {major}.{minor}"))),
        Need::Option(option) => {
            let config = host.kernel.config.known()?;
            (!config.has(option)).then(|| ignored(format!("the kernel is built without CONFIG_{option}")))
        }
        Need::Module(name) => {
            let state = host.kernel.module_states.get(name)?.known()?;
            (*state == ModuleState::Absent).then(|| ignored(format!("the kernel has no module {name}")))
        }
        Need::AcsPatch => acs_patch(host),
        Need::OldFramebuffer => old_framebuffer(host),
        Need::Dracut => dracut(host),
    }
}

/// Kernels with the patch say so in their log; stock ones say nothing about an argument that they do not know.
fn acs_patch(host: &Host<'_>) -> Option<Verdict> {
    if host.log.first(&["ACS overrides enabled"]).is_some() {
        return None;
    }
    const PATCHED: [&str; 6] = ["-pve", "truenas", "-zen", "cachyos", "xanmod", "liquorix"];
    let release = host.kernel.release.known().map_or("", String::as_str);
    if PATCHED.iter().any(|name| release.contains(name)) {
        return None;
    }
    // Without a message from the start of this boot, the one that is looked for may be gone, too.
    const OF_THE_START: [&str; 4] = ["DMAR", "AMD-Vi", "x86/cpu:", "iommu: Default domain type"];
    if host.log.first(&OF_THE_START).is_some() {
        return Some(ignored(
            "Linux has no such parameter; only kernels with a patch do, and this one's log says nothing of it",
        ));
    }
    Some(unknown("Linux has no such parameter; only kernels with a patch do"))
}

/// simpledrm takes the firmware's picture in the place of the drivers that `video=` can switch off.
fn old_framebuffer(host: &Host<'_>) -> Option<Verdict> {
    let Some(config) = host.kernel.config.known() else {
        return Some(unknown("it does nothing where simpledrm draws the console, which cannot be told here"));
    };
    (config.has("SYSFB_SIMPLEFB") && config.has("DRM_SIMPLEDRM"))
        .then(|| ignored("simpledrm draws the console of this kernel, and does not look at it"))
}

/// Only dracut reads `rd.driver.*`.
fn dracut(host: &Host<'_>) -> Option<Verdict> {
    let distribution = &host.kernel.distribution;
    if ["fedora", "rhel", "suse", "opensuse"].iter().any(|id| distribution.is_like(id)) {
        return None;
    }
    Some(unknown("only an initial RAM file system of dracut reads it"))
}

/// What no row can say.
fn special(host: &Host<'_>, known: &Known, value: &str, text: &str) -> Option<Verdict> {
    let has = |word: &str| value.split(',').any(|part| part == word);
    let asks = match known.name {
        "intel_iommu" if has("on") => Some(format!("`{text}` asks for an IOMMU, and none runs")),
        "iommu" if has("pt") => Some("`iommu=pt` switches no IOMMU on, and none runs".to_owned()),
        _ => None,
    };
    if let Some(reason) = asks {
        return match host.iommu.dma_remapping.known() {
            Some(true) => None,
            Some(false) => Some(ignored(reason)),
            None => Some(unknown("whether an IOMMU runs could not be read")),
        };
    }
    if known.name == "rd.driver.pre"
        && value.split(',').any(|module| module.replace('-', "_") == "vfio_virqfd")
        && host.kernel.version()? >= (6, 2)
    {
        return Some(ignored("there is no module vfio_virqfd since Linux 6.2; it is a part of vfio"));
    }
    None
}
