//! Functions that vfio-pci is told to take by their IDs.

use crate::check::assignment::uses_in_words;
use crate::check::{Outcome, Remedy};
use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::host::pci::PciDevice;
use crate::host::vfio::{DeviceId, RequestedIds};

/// The IDs in effect, or the answer where there are none or nobody can say.
fn ids<'a>(facts: &'a HostFacts, subject: &str) -> Result<Vec<(&'a RequestedIds, &'a DeviceId)>, Outcome> {
    if facts.vfio.requested.is_unread() {
        return Err(Outcome::unread(&facts.vfio.requested, subject));
    }
    if facts.pci.devices.is_unread() {
        return Err(Outcome::unread(&facts.pci.devices, subject));
    }
    let ids: Vec<_> = facts.vfio.ids_in_effect().collect();
    if ids.is_empty() {
        return Err(Outcome::not_applicable("vfio-pci is told to take no function by its ID"));
    }
    Ok(ids)
}

/// The functions that the IDs in effect name.
fn functions<'a>(
    facts: &'a HostFacts,
    ids: &[(&'a RequestedIds, &'a DeviceId)],
) -> Vec<(&'a str, &'a PciDevice)> {
    let named =
        ids.iter().flat_map(|(list, id)| id.functions.iter().map(|address| (&*list.source, *address)));
    named.filter_map(|(source, address)| Some((source, facts.device(address)?))).collect()
}

fn texts(ids: &[(&RequestedIds, &DeviceId)]) -> String {
    ids.iter().map(|(_, id)| id.text.as_str()).collect::<Vec<_>>().join(", ")
}

fn with_ids(outcome: Outcome, ids: &[(&RequestedIds, &DeviceId)]) -> Outcome {
    ids.iter().fold(outcome, |outcome, (list, id)| outcome.evidence(&list.source, format!("ids={}", id.text)))
}

/// How one function is given to vfio-pci, and no other.
fn by_address(function: &PciDevice) -> Remedy {
    Remedy::command(
        format!("sudo thruway bind {}", function.address),
        "names the function by its address; an ID in the list is then not needed",
    )
}

/// `vfio-ids-known`
pub(super) fn known(facts: &HostFacts) -> Outcome {
    let ids = match ids(facts, "whether each ID is one of this host") {
        Ok(ids) => ids,
        Err(outcome) => return outcome,
    };
    let (malformed, unknown): (Vec<_>, Vec<_>) =
        ids.iter().filter(|(_, id)| id.functions.is_empty()).copied().partition(|(_, id)| !id.valid);
    if malformed.is_empty() && unknown.is_empty() {
        return with_ids(Outcome::pass("each ID for vfio-pci is one of this host"), &ids);
    }
    let mut causes = Vec::new();
    if !malformed.is_empty() {
        causes.push(format!("{} is no ID: one looks like 10de:2204", texts(&malformed)));
    }
    if !unknown.is_empty() {
        causes.push(format!("no function of this host has {}", texts(&unknown)));
    }
    let wrong: Vec<_> = malformed.into_iter().chain(unknown).collect();
    let sources: Vec<_> = wrong.iter().map(|(list, _)| list.source.as_str()).collect();
    let outcome = Outcome::warn(format!("vfio-pci is told to take what is not there: {}", texts(&wrong)))
        .cause(causes.join("; "))
        .remedy(Remedy::advice(format!(
            "`lspci -nn` shows the IDs of this host; correct the list in {}",
            sources.first().copied().unwrap_or_default()
        )));
    with_ids(outcome, &wrong)
}

/// `vfio-ids-unique`
pub(super) fn unique(facts: &HostFacts) -> Outcome {
    let ids = match ids(facts, "whether each ID is that of one function") {
        Ok(ids) => ids,
        Err(outcome) => return outcome,
    };
    let several: Vec<_> = ids.iter().filter(|(_, id)| id.functions.len() > 1).copied().collect();
    let Some((_, first)) = several.first() else {
        return with_ids(Outcome::pass("each ID for vfio-pci is that of one function"), &ids);
    };
    let names: Vec<_> = first.functions.iter().map(ToString::to_string).collect();
    let outcome = Outcome::warn(format!(
        "vfio-pci takes {} functions with the ID {}: {}",
        names.len(),
        first.text,
        names.join(", ")
    ))
    .cause("these functions are equal, and an ID cannot tell them apart");
    let outcome = match first.functions.last().and_then(|address| facts.device(*address)) {
        Some(function) => outcome.remedy(by_address(function)),
        None => outcome,
    };
    with_ids(outcome, &several)
}

/// `vfio-ids-in-use`
pub(super) fn in_use(facts: &HostFacts) -> Outcome {
    const SUBJECT: &str = "whether the host uses a function that vfio-pci is to take";
    let ids = match ids(facts, SUBJECT) {
        Ok(ids) => ids,
        Err(outcome) => return outcome,
    };
    let functions = functions(facts, &ids);
    let used: Vec<_> = functions
        .iter()
        .filter_map(|(source, function)| Some((*source, *function, uses_in_words(facts, function)?)))
        .collect();
    if used.is_empty() {
        for (_, function) in &functions {
            let usage = &function.usage;
            if usage.disks.is_unread() {
                return Outcome::unread(&usage.disks, SUBJECT);
            }
            if usage.interfaces.is_unread() {
                return Outcome::unread(&usage.interfaces, SUBJECT);
            }
        }
        return with_ids(Outcome::pass("the host uses no function that vfio-pci is to take"), &ids);
    }
    let names: Vec<_> = used.iter().map(|(_, function, _)| function.address.to_string()).collect();
    let outcome = Outcome::warn(format!("vfio-pci is told to take what the host uses: {}", names.join(", ")))
        .cause("at a boot where vfio-pci comes first, the host loses it")
        .remedy(Remedy::advice(
            "take the ID out of the list; a function that is to go to a guest is bound when the host does not use it \
             any more (`thruway plan` shows what that takes)",
        ));
    used.iter().fold(outcome, |outcome, (source, function, use_)| {
        outcome.evidence(*source, format!("{}: {use_}", function.address))
    })
}

/// Whether another driver than VFIO's, or none, has the function.
fn is_elsewhere(function: &PciDevice) -> bool {
    !function.driver.is_unread() && function.vfio_bound == Fact::Known(false)
}

/// `vfio-ids-bound`
pub(super) fn bound(facts: &HostFacts) -> Outcome {
    const SUBJECT: &str = "whether vfio-pci has the functions that it was told to take";
    let ids = match ids(facts, SUBJECT) {
        Ok(ids) => ids,
        Err(outcome) => return outcome,
    };
    let functions: Vec<_> = functions(facts, &ids)
        .into_iter()
        .map(|(_, function)| function)
        .filter(|function| !function.is_bridge())
        .collect();
    if functions.is_empty() {
        return Outcome::not_applicable("vfio-pci is told to take no function of this host");
    }
    let elsewhere: Vec<_> = functions.iter().filter(|function| is_elsewhere(function)).collect();
    let driver = |function: &PciDevice| match &function.driver {
        Fact::Known(driver) => driver.clone(),
        _ => "none".to_owned(),
    };
    let path = |function: &PciDevice| format!("/sys/bus/pci/devices/{}/driver", function.address);
    let Some(first) = elsewhere.first() else {
        if let Some(function) = functions.iter().find(|function| function.driver.is_unread()) {
            return Outcome::unread(&function.driver, SUBJECT);
        }
        let pass = Outcome::pass("vfio-pci has the functions that it was told to take");
        return functions
            .iter()
            .fold(pass, |outcome, function| outcome.evidence(path(function), driver(function)));
    };
    let names: Vec<_> =
        elsewhere.iter().map(|function| format!("{} ({})", function.address, driver(function))).collect();
    let outcome =
        Outcome::warn(format!("vfio-pci does not have what it was told to take: {}", names.join(", ")));
    let module = driver(first).replace('-', "_");
    let has_softdep = facts.kernel.modprobe.known().into_iter().flatten().any(|setting| {
        setting.kind.word() == "softdep"
            && setting.module == module
            && setting.text.replace('-', "_").contains("vfio_pci")
    });
    let outcome = if first.driver == Fact::NotPresent {
        outcome.cause("vfio-pci was not loaded, or the function came after it")
    } else if has_softdep {
        outcome.cause(
            "the function's own driver came first though a softdep asks for vfio-pci before it: it is a part of the \
             kernel, or the initial RAM file system was not made again",
        )
    } else {
        outcome.cause("the function's own driver came first, and no softdep asks for vfio-pci before it")
    };
    let outcome = outcome.remedy(by_address(first));
    let outcome = if first.driver == Fact::NotPresent || has_softdep {
        outcome
    } else {
        outcome.remedy(
            Remedy::command(
                format!("echo 'softdep {module} pre: vfio-pci' | sudo tee -a /etc/modprobe.d/vfio.conf"),
                "for the next boots; make the initial RAM file system again",
            )
            .after_reboot(),
        )
    };
    elsewhere.iter().fold(outcome, |outcome, function| outcome.evidence(path(function), driver(function)))
}
