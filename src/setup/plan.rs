//! From what is so and what should be so to the steps in between. Pure: reads facts, touches nothing.
//!
//! What is already so is dropped, because it is not ours to undo. The order is: huge pages (memory falls to pieces with
//! time), kernel modules, CPUs, ways of resetting, links up, automatic probing off, virtual functions, automatic probing as it was, settings of virtual functions,
//! drivers, those of new functions, access to nodes, interrupts (those of functions that stay), frequencies. A virtual function that does not exist yet is planned at the address
//! where the standard puts it (PCIe 6.0, 9.3.3.9 and 9.3.3.10: First VF Offset and VF Stride) and found again by its index
//! when the time comes; `apply` asks the guard about it then, because only then has it a group.

mod access;
mod costs;
mod huge_pages;
mod modules;
mod processors;
mod resets;
mod selected;
mod wanted;

use std::collections::BTreeSet;

use serde::Serialize;

use wanted::{Wanted, WantedDriver, WantedVfs, function, functions, is_recounted};

use super::action::bind_driver::{VfIndex, is_vfio};
use super::action::vf_config::VfSettings;
use super::action::{Action, BindDriver, Object, SetLink, VfAutoprobe, VfConfig, VfCount};
use super::goal::{Goal, Selector, wrong_kernel_argument};
use super::guard::{Consents, Guard, Objection};
use super::persist::{self, Persistence};
use crate::host::HostFacts;
use crate::host::boot::Boot;
use crate::host::fact::Fact;
use crate::host::pci::PciDevice;
use crate::host::select::{SelectError, resolve};
use crate::host::sriov::Sriov;
use crate::spec::pci::PciAddress;

/// What is to be done, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// The steps.
    pub steps: Vec<Step>,
    /// What was asked for and is so already.
    pub already: Vec<String>,
    /// The IOMMU groups of functions that are to be passed on, with all their members.
    pub groups: Vec<TouchedGroup>,
    /// Objections of the guard that the user consented to.
    pub consented: Vec<Objection>,
    /// What will not be as the user may expect.
    pub warnings: Vec<String>,
    /// What the host loses by it, each in one sentence.
    pub costs: Vec<String>,
    /// What is not so, and that only a boot can make so.
    pub needs_reboot: Vec<String>,
}

impl Plan {
    /// Whether nothing is to be done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// What it does, in one line.
    pub text: String,
    /// What it does.
    #[serde(flatten)]
    pub action: Action,
    /// Vendor and device ID of the function as the plan knew it; unknown of a function that is still to be created.
    #[serde(skip)]
    pub ids: Option<(u16, u16)>,
}

/// An IOMMU group of which a member is to be passed on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TouchedGroup {
    /// Number.
    pub id: u32,
    /// All members.
    pub members: Vec<Member>,
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Member {
    /// As the kernel names it.
    pub device: String,
    /// Vendor and name, if known.
    pub description: Option<String>,
    /// The driver that it has now.
    pub driver: Option<String>,
    /// What becomes of it.
    pub role: Role,
}

/// What becomes of a member of a touched group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It is to be bound, or is.
    Asked,
    /// A bridge: it stays, and does not count.
    Bridge,
    /// No driver of the host has it: it stays as it is.
    Free,
    /// The host uses it, and the user consented; it stays, and keeps the group from VFIO.
    Allowed,
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A selector names no function.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// A safety rule says no.
    #[error("refused by {}: {}", if .0.len() == 1 { "a safety rule" } else { "safety rules" }, .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Refused(Vec<Objection>),
    /// The host cannot do it.
    #[error("{subject}: {reason}")]
    Impossible {
        /// What it was to change.
        subject: Object,
        /// Why not, and what would help.
        reason: String,
    },
    /// It cannot be made to outlive a boot here.
    #[error("this cannot be persisted here: {reason}")]
    Unpersistable {
        /// Why not.
        reason: String,
        /// What to write by hand.
        by_hand: String,
    },
    /// What is asked for contradicts itself or makes no sense.
    #[error("{0}")]
    Invalid(String),
}

/// The steps from `facts` to `goal`.
///
/// # Errors
/// [`PlanError`]. All objections of the guard are reported at once.
pub fn plan(facts: &HostFacts, goal: &Goal, consents: &Consents) -> Result<Plan, PlanError> {
    let mut plan = plan_for_now(facts, goal, consents)?;
    let running = facts.kernel.command_line.known().map_or("", String::as_str);
    let has = |argument: &&String| running.split_whitespace().any(|word| word == argument.as_str());
    let (had, lacking): (Vec<_>, Vec<_>) = goal.kernel_arguments.iter().partition(has);
    plan.already.extend(had.iter().map(|argument| format!("the kernel has {argument}")));
    plan.needs_reboot.extend(
        lacking.iter().map(|argument| format!("the kernel gets {argument} by --persist, and at a boot")),
    );
    if !goal.memlock.is_empty() {
        plan.warnings.push("limits of locked memory are set only with --persist".to_owned());
    }
    Ok(plan)
}

/// The step that lets the next boot alone have the kernel arguments of `goal`, on a host that starts as `boot` says; nothing
/// else of `goal`.
///
/// # Errors
/// [`PlanError::Invalid`] and [`PlanError::Unpersistable`].
pub fn plan_trial_boot(
    facts: &HostFacts,
    boot: &Boot,
    name: &str,
    goal: &Goal,
    is_so: &dyn Fn(&Action) -> bool,
) -> Result<Plan, PlanError> {
    let goal = Goal { kernel_arguments: goal.kernel_arguments.clone(), ..Goal::default() };
    let mut plan = plan(facts, &goal, &Consents::default())?;
    plan.needs_reboot.clear();
    let Some(action) = persist::trial_boot(boot, name, &goal)? else {
        return Err(PlanError::Invalid(
            "it has no `host.kernel_arguments`, and a boot tries only those".to_owned(),
        ));
    };
    let text = action.to_string();
    if plan.already.len() == goal.kernel_arguments.len() {
        return Ok(plan);
    }
    plan.needs_reboot.push(text.clone());
    if is_so(&action) {
        plan.already.push(text);
    } else {
        plan.steps.push(Step { text, action, ids: None });
    }
    Ok(plan)
}

fn plan_for_now(facts: &HostFacts, goal: &Goal, consents: &Consents) -> Result<Plan, PlanError> {
    for argument in &goal.kernel_arguments {
        if let Some(problem) = wrong_kernel_argument(argument) {
            let argument = argument.escape_debug();
            return Err(PlanError::Invalid(format!("`{argument}` in `host.kernel_arguments`: {problem}")));
        }
    }
    Planner::run(facts, consents, &Wanted::of(facts, goal)?)
}

/// The steps from `facts` to `goal`, now and at every boot. `is_so` says of a step for the boots whether it is so already.
///
/// # Errors
/// [`PlanError`].
pub fn plan_for_good(
    facts: &HostFacts,
    boot: &Boot,
    consents: &Consents,
    wanted: &Persistence<'_>,
    is_so: &dyn Fn(&Action) -> bool,
) -> Result<Plan, PlanError> {
    let mut plan = plan_for_now(facts, wanted.goal, consents)?;
    for action in persist::steps(facts, boot, consents, wanted)? {
        let text = action.to_string();
        if is_so(&action) {
            plan.already.push(text);
            continue;
        }
        if matches!(action, Action::KernelArguments(_)) {
            plan.needs_reboot.push(text.clone());
        }
        plan.steps.push(Step { text, action, ids: None });
    }
    Ok(plan)
}

/// The steps that give functions back to the drivers that the kernel chooses for them.
///
/// # Errors
/// [`PlanError`].
pub fn release(facts: &HostFacts, selectors: &[Selector], consents: &Consents) -> Result<Plan, PlanError> {
    let goal = Goal::default();
    let mut wanted = Wanted { goal: &goal, pfs: Vec::new(), devices: Vec::new() };
    for selector in selectors {
        for device in functions(facts, selector)? {
            if wanted.devices.iter().all(|other| other.device.address != device.address) {
                wanted.devices.push(WantedDriver { device, driver: None });
            }
        }
    }
    Planner::run(facts, consents, &wanted)
}

struct Planner<'a> {
    facts: &'a HostFacts,
    consents: &'a Consents,
    taken: BTreeSet<PciAddress>,
    /// NUMA nodes of the huge pages that are asked for.
    nodes: BTreeSet<u32>,
    plan: Plan,
    objections: Vec<Objection>,
}

impl<'a> Planner<'a> {
    fn run(facts: &'a HostFacts, consents: &'a Consents, wanted: &Wanted<'a>) -> Result<Plan, PlanError> {
        let plan = Plan {
            steps: Vec::new(),
            already: Vec::new(),
            groups: Vec::new(),
            consented: Vec::new(),
            warnings: Vec::new(),
            costs: Vec::new(),
            needs_reboot: Vec::new(),
        };
        let taken = wanted.taken(facts);
        let nodes = wanted.goal.hugepages.iter().filter_map(|goal| goal.node).collect();
        let mut planner = Self { facts, consents, taken, nodes, plan, objections: Vec::new() };
        planner.huge_pages(&wanted.goal.hugepages)?;
        planner.modules(&wanted.goal.modules)?;
        planner.isolate(wanted.goal.isolate_cpus.as_ref())?;
        let resets = planner.resets(wanted)?;
        planner.resets_now(&resets)?;
        for pf in &wanted.pfs {
            planner.virtual_functions(pf)?;
        }
        for wanted in &wanted.devices {
            planner.bind(wanted.device, None, wanted.driver.clone())?;
        }
        planner.resets_later(resets);
        planner.access(wanted)?;
        planner.interrupts(wanted.goal.irq_affinity.as_ref())?;
        planner.governor(wanted.goal.governor.as_deref())?;
        planner.finish()
    }

    fn push(&mut self, action: Action, device: Option<&PciDevice>) {
        let ids = device.and_then(|device| Some((*device.vendor_id.known()?, *device.device_id.known()?)));
        self.plan.steps.push(Step { text: action.to_string(), action, ids });
    }

    fn guard(&self) -> Guard<'_> {
        Guard::new(self.facts, self.consents, &self.taken)
    }

    fn virtual_functions(&mut self, wanted: &WantedVfs<'a>) -> Result<(), PlanError> {
        let WantedVfs { pf, sriov, goal, drivers, settings } = wanted;
        let address = pf.address;
        let impossible = |reason: String| PlanError::Impossible { subject: address.into(), reason };
        let current = sriov.num_vfs.known().copied();
        let recount = current != Some(goal.count);
        if let Some(index) = settings.keys().next() {
            self.has_interface(pf, *index)?;
        }
        if goal.count > 0 {
            self.link_up(pf);
        }
        if recount {
            self.objections.extend(self.guard().against_vf_count(pf, goal.count));
            self.objections.extend(self.guard().against_destroying_vfs(pf));
            match pf.driver.known().map(String::as_str) {
                Some(driver) if is_vfio(driver) => {
                    return Err(impossible(format!(
                        "it is bound to {driver}, which creates no virtual functions here; thruway unbind {address} first"
                    )));
                }
                None if pf.driver == Fact::NotPresent => {
                    return Err(impossible(
                        "it has no driver, and only its driver creates virtual functions; load and bind that first"
                            .to_owned(),
                    ));
                }
                _ => {}
            }
        } else {
            self.plan.already.push(format!("{address} has {} virtual functions", goal.count));
        }
        let probes_now = sriov.drivers_autoprobe.known().copied();
        let probes_then = goal.autoprobe.or(probes_now);
        // No driver of the host is to take, for a moment, what a guest gets, nor to read an address before it is set.
        let waits =
            drivers.values().any(Option::is_some) || settings.values().any(|settings| settings.mac.is_some());
        let keep_off = recount && goal.count > 0 && waits && probes_now != Some(false);
        let during = if keep_off { Some(false) } else { goal.autoprobe.filter(|_| recount) };
        let autoprobe = |on| Action::VfAutoprobe(VfAutoprobe { pf: address, on });
        let mut so_far = probes_now;
        if let Some(on) = during.filter(|on| so_far != Some(*on)) {
            self.push(autoprobe(on), Some(pf));
            so_far = Some(on);
        }
        if recount {
            if current.is_some_and(|count| count != 0) {
                self.push(Action::VfCount(VfCount { pf: address, count: 0 }), Some(pf));
            }
            if goal.count != 0 {
                self.push(Action::VfCount(VfCount { pf: address, count: goal.count }), Some(pf));
            }
        }
        if let Some(on) = probes_then.filter(|on| so_far != Some(*on)) {
            self.push(autoprobe(on), Some(pf));
        }
        for (index, settings) in settings {
            self.configure(wanted, *index, settings)?;
        }
        for index in 0..goal.count {
            let driver = drivers.get(&index).cloned().flatten();
            if recount {
                if driver.is_some() || (keep_off && probes_then == Some(true)) {
                    let function = future(address, sriov, index)?;
                    self.bind_later(VfIndex { pf: address, index }, function, driver)?;
                }
            } else if let Some(driver) = driver {
                let device = self.existing(address, index)?;
                self.bind(device, Some(VfIndex { pf: address, index }), Some(driver))?;
            }
        }
        Ok(())
    }

    /// The function of virtual function `index` of `pf`, which exists.
    fn existing(&self, pf: PciAddress, index: u16) -> Result<&'a PciDevice, PlanError> {
        let pf = Box::new(Selector::Address(pf));
        function(self.facts, &Selector::Vf(super::goal::VfSelector { pf, index }))
    }

    /// Settings of virtual functions are kept by the driver of a network card.
    fn has_interface(&self, pf: &PciDevice, index: u16) -> Result<(), PlanError> {
        let reason = match &pf.usage.interfaces {
            Fact::Known(interfaces) if !interfaces.is_empty() => return Ok(()),
            Fact::Known(_) | Fact::NotPresent => format!(
                "it has no network interface, so it keeps no settings such as `mac` or `vlan` for its virtual \
                 function {index}; leave those out, or bind the network driver of {} first",
                pf.address
            ),
            _ => format!(
                "which network interfaces it has cannot be read, and those set up its virtual function {index}"
            ),
        };
        Err(PlanError::Impossible { subject: pf.address.into(), reason })
    }

    /// Settings of virtual function `index`, as far as they are not so already.
    fn configure(
        &mut self,
        wanted: &WantedVfs<'a>,
        index: u16,
        settings: &VfSettings,
    ) -> Result<(), PlanError> {
        let pf = wanted.pf.address;
        let vf = VfIndex { pf, index };
        if is_recounted(wanted) {
            let function = future(pf, wanted.sriov, index)?;
            self.push(Action::VfConfig(VfConfig { function, vf, settings: *settings }), None);
            return Ok(());
        }
        let device = self.existing(pf, index)?;
        let function = device.address;
        let link = wanted.sriov.vfs.iter().find(|vf| vf.index == index).and_then(|vf| vf.link.known());
        let missing = link.map_or(*settings, |link| settings.but(&VfSettings::from(link)));
        let so = settings.but(&missing);
        if !so.is_empty() {
            self.plan.already.push(format!("{function} (VF {index} of {pf}) has {so}"));
        }
        if !missing.is_empty() {
            let objections = self.guard().against_taking(device);
            self.objections.extend(objections);
            self.push(Action::VfConfig(VfConfig { function, vf, settings: missing }), Some(device));
        }
        Ok(())
    }

    /// A virtual function has no carrier while its physical function is down.
    fn link_up(&mut self, pf: &PciDevice) {
        for interface in pf.usage.interfaces.known().into_iter().flatten() {
            if interface.up == Fact::Known(true) {
                self.plan.already.push(format!("{} of {} is up", interface.name, pf.address));
            } else {
                let (function, interface) = (pf.address, interface.name.clone());
                self.push(Action::SetLink(SetLink { function, interface, up: true }), Some(pf));
            }
        }
    }

    fn bind_later(
        &mut self,
        vf: VfIndex,
        function: PciAddress,
        driver: Option<String>,
    ) -> Result<(), PlanError> {
        if driver.as_deref().is_some_and(is_vfio) && self.facts.iommu.dma_remapping == Fact::Known(false) {
            return Err(no_iommu(function));
        }
        self.push(Action::BindDriver(BindDriver { function, vf: Some(vf), driver }), None);
        Ok(())
    }

    fn bind(
        &mut self,
        device: &PciDevice,
        vf: Option<VfIndex>,
        driver: Option<String>,
    ) -> Result<(), PlanError> {
        let address = device.address;
        let now = device.driver.known();
        let passes = driver.as_deref().is_some_and(is_vfio);
        if passes {
            self.touch_group(device);
        }
        let already = match &driver {
            Some(name) => now == Some(name),
            None => device.driver_override == Fact::NotPresent && now.is_some_and(|now| !is_vfio(now)),
        };
        if already {
            let now = now.map_or("", String::as_str);
            self.plan.already.push(format!("{address} is bound to {now}"));
            return Ok(());
        }
        if passes && device.iommu_group == Fact::NotPresent && !device.is_bridge() {
            return Err(no_iommu(address));
        }
        let guard = self.guard();
        let found = if passes { guard.against_passing(device) } else { guard.against_taking(device) };
        if passes {
            let warnings = guard.warnings(device, &self.nodes);
            self.plan.warnings.extend(warnings.iter().map(ToString::to_string));
        }
        self.objections.extend(found);
        self.push(Action::BindDriver(BindDriver { function: address, vf, driver }), Some(device));
        Ok(())
    }

    fn touch_group(&mut self, device: &PciDevice) {
        let Some(group) = device.iommu_group.known().and_then(|id| self.facts.group(*id)) else { return };
        if self.plan.groups.iter().any(|touched| touched.id == group.id) {
            return;
        }
        let names = group.devices.known().cloned().unwrap_or_default();
        let members = names.into_iter().map(|name| {
            let address = name.parse::<PciAddress>().ok();
            let found = address.and_then(|address| self.facts.device(address));
            let role = match found {
                Some(found) if self.taken.contains(&found.address) => Role::Asked,
                Some(found) if found.is_bridge() => Role::Bridge,
                _ if group.blockers.iter().any(|blocker| blocker.device == name) => Role::Allowed,
                _ => Role::Free,
            };
            Member {
                description: found.and_then(|found| {
                    let parts = [found.vendor.as_deref(), found.device.as_deref()];
                    let text = parts.into_iter().flatten().collect::<Vec<_>>().join(" ");
                    (!text.is_empty()).then_some(text)
                }),
                driver: found.and_then(|found| found.driver.known().cloned()),
                device: name,
                role,
            }
        });
        let members: Vec<_> = members.collect();
        for member in members.iter().filter(|member| member.role == Role::Allowed) {
            self.plan.warnings.push(format!(
                "VFIO will not hand out group {} while {} has driver {}",
                group.id,
                member.device,
                member.driver.as_deref().unwrap_or("of the host"),
            ));
        }
        self.plan.groups.push(TouchedGroup { id: group.id, members });
    }

    fn finish(mut self) -> Result<Plan, PlanError> {
        self.objections.sort();
        self.objections.dedup();
        let (standing, consented) = self.consents.divide(std::mem::take(&mut self.objections));
        if !standing.is_empty() {
            return Err(PlanError::Refused(standing));
        }
        self.plan.consented = consented;
        self.plan.costs = costs::of(self.facts, &self.plan.steps);
        Ok(self.plan)
    }
}

fn no_iommu(subject: PciAddress) -> PlanError {
    let reason = "no IOMMU translates for it, so it cannot be passed to a guest; switch VT-d or AMD-Vi on in the \
                  firmware and in the kernel (`thruway probe` shows which is missing)";
    PlanError::Impossible { subject: subject.into(), reason: reason.to_owned() }
}

/// Where virtual function `index` of `pf` will be.
fn future(pf: PciAddress, sriov: &Sriov, index: u16) -> Result<PciAddress, PlanError> {
    predicted(pf, sriov, index).ok_or_else(|| PlanError::Impossible {
        subject: pf.into(),
        reason: format!("where its virtual function {index} will be cannot be told"),
    })
}

fn predicted(pf: PciAddress, sriov: &Sriov, index: u16) -> Option<PciAddress> {
    let (offset, stride) = (*sriov.offset.known()?, *sriov.stride.known()?);
    let distance = stride.checked_mul(index)?.checked_add(offset)?;
    Some(PciAddress::from_requester_id(pf.domain, pf.requester_id().checked_add(distance)?))
}

#[cfg(test)]
mod tests;
