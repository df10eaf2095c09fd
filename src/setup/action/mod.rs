//! What setup can do to a host: one file for each action.
//!
//! An [`Action`] is what should be so. Observed on the host it becomes a [`Change`], which also knows what was so before,
//! and that is what the journal keeps: a change can be carried out, judged against what is there now, and taken back.
//! Each action obeys one law: state → apply → undo → same state, with a fault at any write in between.

mod attached;
pub mod bind_driver;
pub mod governor;
pub mod hugepages;
pub mod install;
pub mod irq_affinity;
pub mod isolate_cpus;
pub mod kernel_arguments;
pub mod load_module;
pub mod node_access;
mod object;
pub mod reset_methods;
pub mod set_link;
pub mod trial_boot;
pub mod vf_autoprobe;
pub mod vf_config;
pub mod vf_count;

use std::fmt;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::host::fact::Fact;
use crate::setup::control::{Control, ControlError};
use crate::spec::pci::PciAddress;

pub use bind_driver::BindDriver;
pub use governor::Governor;
pub use hugepages::Hugepages;
pub use install::Install;
pub use irq_affinity::IrqAffinity;
pub use isolate_cpus::IsolateCpus;
pub use kernel_arguments::KernelArguments;
pub use load_module::LoadModule;
pub use node_access::NodeAccess;
pub use object::{Footprint, Object};
pub use reset_methods::ResetMethods;
pub use set_link::SetLink;
pub use trial_boot::TrialBoot;
pub use vf_autoprobe::VfAutoprobe;
pub use vf_config::VfConfig;
pub use vf_count::VfCount;

/// How long a write to `bind`, `unbind`, `drivers_probe`, `driver_override` or a link may take.
pub const BIND_LIMIT: Duration = Duration::from_secs(10);
/// How long a write to `sriov_numvfs` may take: 125 functions were seen to need 65 s.
pub const VF_COUNT_LIMIT: Duration = Duration::from_secs(120);

/// How often and how far apart the kernel and udev are asked whether something has appeared.
const TRIES: u32 = 10;
const BETWEEN_TRIES: Duration = Duration::from_millis(500);

/// Why an action did not reach its state.
#[derive(Debug, thiserror::Error)]
pub enum ActionError {
    /// A write failed.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// What is there cannot be read, so nothing can be promised.
    #[error("cannot read {path}: {reason}")]
    Unread {
        /// What was to be read.
        path: String,
        /// Why it could not be.
        reason: String,
    },
    /// What it is about is not there (any more).
    #[error("{0} is not there")]
    Gone(Object),
    /// The writes succeeded, but what was asked is not so.
    #[error("{subject}: expected {expected}, found {found}")]
    NotReached {
        /// What was changed.
        subject: String,
        /// What should be so.
        expected: String,
        /// What is so.
        found: String,
    },
    /// Somebody uses what would have to go.
    #[error("{subject} is in use: {by}; end that first")]
    InUse {
        /// What is used.
        subject: Object,
        /// Who uses it.
        by: String,
    },
}

impl ActionError {
    /// The process that is stuck in a write which the kernel may still carry out.
    #[must_use]
    pub fn pending_pid(&self) -> Option<i32> {
        match self {
            Self::Control(error) => error.pending_pid(),
            _ => None,
        }
    }
}

/// How what is there now relates to a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// As it was before the change.
    Before,
    /// As the change left it.
    Applied,
    /// Somewhere on the change's own way: it was interrupted.
    Between,
    /// Somebody else changed it afterwards; says what is there.
    Drifted(String),
    /// What it is about is gone, and its state with it.
    Gone,
}

/// One kind of action.
trait Act: fmt::Debug {
    /// What it changes, as it is at one moment.
    type State: fmt::Debug + Clone + PartialEq + Serialize + DeserializeOwned;

    /// What is so now. [`ActionError::Gone`] if what it is about is not there.
    fn observe(&self, control: &dyn Control) -> Result<Self::State, ActionError>;

    /// Makes it so, from `prior`.
    fn act(&self, prior: &Self::State, control: &dyn Control) -> Result<(), ActionError>;

    /// Makes it as it was, from wherever [`Self::act`] or an earlier [`Self::revert`] stopped. Idempotent.
    fn revert(&self, prior: &Self::State, control: &dyn Control) -> Result<(), ActionError>;

    /// Fails with [`ActionError::InUse`] while somebody uses what [`Self::revert`] would take away. Changes nothing.
    fn may_revert(&self, _prior: &Self::State, _control: &dyn Control) -> Result<(), ActionError> {
        Ok(())
    }

    /// How `now` relates to the change from `prior`. If `now` is both, it is applied.
    fn standing(&self, prior: &Self::State, now: &Self::State) -> Standing;

    /// Whether `prior` leaves nothing to do.
    fn already(&self, prior: &Self::State) -> bool {
        self.standing(prior, prior) == Standing::Applied
    }

    /// What it concerns.
    fn footprint(&self, prior: &Self::State) -> Footprint;

    /// What it does, in one line.
    fn describe(&self) -> String;

    /// What taking it back does, in one line.
    fn describe_undo(&self, prior: &Self::State) -> String;
}

/// What should be so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Action {
    /// There are so many huge pages.
    Hugepages(Hugepages),
    /// CPUs are set apart.
    IsolateCpus(IsolateCpus),
    /// CPUs serve no interrupts.
    IrqAffinity(IrqAffinity),
    /// CPU frequencies are chosen by this governor.
    Governor(Governor),
    /// A kernel module is loaded.
    LoadModule(LoadModule),
    /// A network interface is up or down.
    SetLink(SetLink),
    /// The kernel does or does not probe drivers for virtual functions that it creates.
    VfAutoprobe(VfAutoprobe),
    /// A physical function has this many virtual functions.
    VfCount(VfCount),
    /// A virtual function has these settings.
    VfConfig(VfConfig),
    /// A function has this driver.
    BindDriver(BindDriver),
    /// Files of the system's configuration have this content.
    Install(Install),
    /// The kernel has these arguments in the next boots.
    KernelArguments(KernelArguments),
    /// The kernel has these arguments in the next boot alone.
    TrialBoot(TrialBoot),
    /// A function is reset in these ways.
    ResetMethods(ResetMethods),
    /// Somebody may open a function's VFIO node.
    NodeAccess(NodeAccess),
}

impl Action {
    /// Looks at the host: the change from what is so now to this action.
    ///
    /// # Errors
    /// [`ActionError::Unread`] or [`ActionError::Gone`].
    pub fn observe(&self, control: &dyn Control) -> Result<Change, ActionError> {
        Ok(match self.clone() {
            Self::Hugepages(action) => Change::Hugepages(observe(action, control)?),
            Self::IsolateCpus(action) => Change::IsolateCpus(observe(action, control)?),
            Self::IrqAffinity(action) => Change::IrqAffinity(observe(action, control)?),
            Self::Governor(action) => Change::Governor(observe(action, control)?),
            Self::LoadModule(action) => Change::LoadModule(observe(action, control)?),
            Self::SetLink(action) => Change::SetLink(observe(action, control)?),
            Self::VfAutoprobe(action) => Change::VfAutoprobe(observe(action, control)?),
            Self::VfCount(action) => Change::VfCount(observe(action, control)?),
            Self::VfConfig(action) => Change::VfConfig(observe(action.resolve(control)?, control)?),
            Self::BindDriver(action) => Change::BindDriver(observe(action.resolve(control)?, control)?),
            Self::Install(action) => Change::Install(observe(action, control)?),
            Self::KernelArguments(action) => Change::KernelArguments(observe(action, control)?),
            Self::TrialBoot(action) => Change::TrialBoot(observe(action, control)?),
            Self::ResetMethods(action) => Change::ResetMethods(observe(action.resolve(control)?, control)?),
            Self::NodeAccess(action) => Change::NodeAccess(observe(action.resolve(control)?, control)?),
        })
    }
}

impl Action {
    /// The function that it concerns, if it is about one; of one that is still to be created, where it will be.
    #[must_use]
    pub fn function(&self) -> Option<PciAddress> {
        match self {
            Self::Hugepages(_)
            | Self::IsolateCpus(_)
            | Self::IrqAffinity(_)
            | Self::Governor(_)
            | Self::LoadModule(_)
            | Self::Install(_)
            | Self::KernelArguments(_)
            | Self::TrialBoot(_) => None,
            Self::SetLink(action) => Some(action.function),
            Self::VfAutoprobe(action) => Some(action.pf),
            Self::VfCount(action) => Some(action.pf),
            Self::VfConfig(action) => Some(action.function),
            Self::BindDriver(action) => Some(action.function),
            Self::ResetMethods(action) => Some(action.function),
            Self::NodeAccess(action) => Some(action.function),
        }
    }
}

impl Action {
    /// Whether it outlives the boot in which it is made.
    #[must_use]
    pub fn outlives_boot(&self) -> bool {
        matches!(self, Self::Install(_) | Self::KernelArguments(_) | Self::TrialBoot(_))
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Hugepages(action) => action.describe(),
            Self::IsolateCpus(action) => action.describe(),
            Self::IrqAffinity(action) => action.describe(),
            Self::Governor(action) => action.describe(),
            Self::LoadModule(action) => action.describe(),
            Self::SetLink(action) => action.describe(),
            Self::VfAutoprobe(action) => action.describe(),
            Self::VfCount(action) => action.describe(),
            Self::VfConfig(action) => action.describe(),
            Self::BindDriver(action) => action.describe(),
            Self::Install(action) => action.describe(),
            Self::KernelArguments(action) => action.describe(),
            Self::TrialBoot(action) => action.describe(),
            Self::ResetMethods(action) => action.describe(),
            Self::NodeAccess(action) => action.describe(),
        };
        f.write_str(&text)
    }
}

/// An action and what was so before it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Change {
    /// See [`Action::Hugepages`].
    Hugepages(Changed<Hugepages, hugepages::PoolState>),
    /// See [`Action::IsolateCpus`].
    IsolateCpus(Changed<IsolateCpus, isolate_cpus::PartitionState>),
    /// See [`Action::IrqAffinity`].
    IrqAffinity(Changed<IrqAffinity, irq_affinity::AffinityState>),
    /// See [`Action::Governor`].
    Governor(Changed<Governor, governor::GovernorsState>),
    /// See [`Action::LoadModule`].
    LoadModule(Changed<LoadModule, load_module::ModuleState>),
    /// See [`Action::SetLink`].
    SetLink(Changed<SetLink, set_link::LinkState>),
    /// See [`Action::VfAutoprobe`].
    VfAutoprobe(Changed<VfAutoprobe, vf_autoprobe::AutoprobeState>),
    /// See [`Action::VfCount`].
    VfCount(Changed<VfCount, vf_count::VfsState>),
    /// See [`Action::VfConfig`].
    VfConfig(Changed<VfConfig, vf_config::VfState>),
    /// See [`Action::BindDriver`].
    BindDriver(Changed<BindDriver, bind_driver::FunctionState>),
    /// See [`Action::Install`].
    Install(Changed<Install, install::FilesState>),
    /// See [`Action::KernelArguments`].
    KernelArguments(Changed<KernelArguments, kernel_arguments::ArgumentsState>),
    /// See [`Action::TrialBoot`].
    TrialBoot(Changed<TrialBoot, trial_boot::TrialState>),
    /// See [`Action::ResetMethods`].
    ResetMethods(Changed<ResetMethods, reset_methods::MethodsState>),
    /// See [`Action::NodeAccess`].
    NodeAccess(Changed<NodeAccess, node_access::NodeState>),
}

/// One kind of action and what was so before it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Changed<A, S> {
    goal: A,
    prior: S,
}

fn observe<A: Act>(goal: A, control: &dyn Control) -> Result<Changed<A, A::State>, ActionError> {
    Ok(Changed { prior: goal.observe(control)?, goal })
}

/// What can be done with a change, whatever its kind.
trait Reversible {
    fn carry_out(&self, control: &dyn Control) -> Result<Standing, ActionError>;
    fn take_back(&self, control: &dyn Control) -> Result<(), ActionError>;
    fn may_take_back(&self, control: &dyn Control) -> Result<(), ActionError>;
    fn standing(&self, control: &dyn Control) -> Result<Standing, ActionError>;
    fn already(&self) -> bool;
    fn footprint(&self) -> Footprint;
    fn describe(&self) -> String;
    fn describe_undo(&self) -> String;
}

impl<A: Act> Reversible for Changed<A, A::State> {
    fn carry_out(&self, control: &dyn Control) -> Result<Standing, ActionError> {
        self.goal.act(&self.prior, control)?;
        Ok(self.goal.standing(&self.prior, &self.goal.observe(control)?))
    }

    fn take_back(&self, control: &dyn Control) -> Result<(), ActionError> {
        self.goal.revert(&self.prior, control)
    }

    fn may_take_back(&self, control: &dyn Control) -> Result<(), ActionError> {
        self.goal.may_revert(&self.prior, control)
    }

    fn standing(&self, control: &dyn Control) -> Result<Standing, ActionError> {
        match self.goal.observe(control) {
            Ok(now) if now == self.prior => Ok(Standing::Before),
            Ok(now) => Ok(self.goal.standing(&self.prior, &now)),
            Err(ActionError::Gone(_)) => Ok(Standing::Gone),
            Err(error) => Err(error),
        }
    }

    fn already(&self) -> bool {
        self.goal.already(&self.prior)
    }

    fn footprint(&self) -> Footprint {
        self.goal.footprint(&self.prior)
    }

    fn describe(&self) -> String {
        self.goal.describe()
    }

    fn describe_undo(&self) -> String {
        self.goal.describe_undo(&self.prior)
    }
}

impl Change {
    fn inner(&self) -> &dyn Reversible {
        match self {
            Self::Hugepages(change) => change,
            Self::IsolateCpus(change) => change,
            Self::IrqAffinity(change) => change,
            Self::Governor(change) => change,
            Self::LoadModule(change) => change,
            Self::SetLink(change) => change,
            Self::VfAutoprobe(change) => change,
            Self::VfCount(change) => change,
            Self::VfConfig(change) => change,
            Self::BindDriver(change) => change,
            Self::Install(change) => change,
            Self::KernelArguments(change) => change,
            Self::TrialBoot(change) => change,
            Self::ResetMethods(change) => change,
            Self::NodeAccess(change) => change,
        }
    }

    /// Whether there is nothing to change: it is already so.
    #[must_use]
    pub fn is_already_so(&self) -> bool {
        self.inner().already()
    }

    /// Makes it so, and reads back that it is.
    ///
    /// # Errors
    /// [`ActionError`]; what was done until then is for [`Self::take_back`].
    pub fn carry_out(&self, control: &dyn Control) -> Result<(), ActionError> {
        match self.inner().carry_out(control)? {
            Standing::Applied => Ok(()),
            other => Err(self.not_reached(self.describe(), &other)),
        }
    }

    /// Makes it as it was, and reads back that it is. Idempotent.
    ///
    /// # Errors
    /// [`ActionError`].
    pub fn take_back(&self, control: &dyn Control) -> Result<(), ActionError> {
        self.inner().take_back(control)?;
        match self.inner().standing(control)? {
            Standing::Before => Ok(()),
            other => Err(self.not_reached(self.inner().describe_undo(), &other)),
        }
    }

    /// Fails while somebody uses what [`Self::take_back`] would take away. Changes nothing.
    ///
    /// # Errors
    /// [`ActionError::InUse`], or [`ActionError::Unread`] if that cannot be told.
    pub fn may_take_back(&self, control: &dyn Control) -> Result<(), ActionError> {
        self.inner().may_take_back(control)
    }

    /// How what is there now relates to this change.
    ///
    /// # Errors
    /// [`ActionError::Unread`].
    pub fn standing(&self, control: &dyn Control) -> Result<Standing, ActionError> {
        self.inner().standing(control)
    }

    /// What it concerns.
    #[must_use]
    pub fn footprint(&self) -> Footprint {
        self.inner().footprint()
    }

    /// Whether this, done after `earlier`, decides what `earlier` had decided.
    #[must_use]
    pub fn supersedes(&self, earlier: &Self) -> bool {
        let (mine, theirs) = (self.footprint(), earlier.footprint());
        std::mem::discriminant(self) == std::mem::discriminant(earlier)
            && mine
                .changes
                .first()
                .zip(theirs.changes.first())
                .is_some_and(|(mine, theirs)| mine.overlaps(theirs))
    }

    /// The interface that goes down when it is taken back, and its function.
    #[must_use]
    pub fn downs(&self) -> Option<(PciAddress, &str)> {
        match self {
            Self::SetLink(Changed { goal, prior }) if !prior.is_up() => {
                Some((goal.function, goal.interface.as_str()))
            }
            _ => None,
        }
    }

    /// The functions that lose a driver, or go, when it is taken back.
    #[must_use]
    pub fn loses(&self) -> Vec<PciAddress> {
        match self {
            // The settings of one that a guest holds change under it, and one with a driver may lose it for a moment.
            Self::VfCount(_) | Self::VfConfig(_) | Self::BindDriver(_) => {
                self.footprint().functions().collect()
            }
            Self::Hugepages(_)
            | Self::IsolateCpus(_)
            | Self::IrqAffinity(_)
            | Self::Governor(_)
            | Self::LoadModule(_)
            | Self::SetLink(_)
            | Self::VfAutoprobe(_)
            | Self::ResetMethods(_)
            | Self::NodeAccess(_)
            | Self::Install(_)
            | Self::KernelArguments(_)
            | Self::TrialBoot(_) => Vec::new(),
        }
    }

    /// Whether it outlives the boot in which it is made.
    #[must_use]
    pub fn outlives_boot(&self) -> bool {
        matches!(self, Self::Install(_) | Self::KernelArguments(_) | Self::TrialBoot(_))
    }

    /// Whether it ends with the boot in which it is made, though its transaction lasts: nothing persists a link that is up.
    pub(super) fn ends_with_boot(&self) -> bool {
        matches!(self, Self::SetLink(_))
    }

    /// Whether it ends with its function, or with that function's driver, and does not keep anybody from taking that away.
    pub(super) fn ends_with_function(&self) -> bool {
        matches!(self, Self::VfConfig(_) | Self::ResetMethods(_) | Self::NodeAccess(_))
    }

    /// What it does, in one line.
    #[must_use]
    pub fn describe(&self) -> String {
        self.inner().describe()
    }

    /// What taking it back does, in one line.
    #[must_use]
    pub fn describe_undo(&self) -> String {
        self.inner().describe_undo()
    }

    fn not_reached(&self, subject: String, standing: &Standing) -> ActionError {
        let found = match standing {
            Standing::Before => "the state before".to_owned(),
            Standing::Applied => "the changed state".to_owned(),
            Standing::Between => "a state half way".to_owned(),
            Standing::Gone => "that it is gone".to_owned(),
            Standing::Drifted(found) => found.clone(),
        };
        ActionError::NotReached { subject, expected: "it to be so".to_owned(), found }
    }
}

/// The directory of a function.
fn device_path(address: PciAddress) -> String {
    format!("/sys/bus/pci/devices/{address}")
}

fn unread(path: &str, reason: &str) -> ActionError {
    ActionError::Unread { path: path.to_owned(), reason: reason.to_owned() }
}

/// A fact that an action cannot do without.
fn required<T>(path: &str, fact: Fact<T>) -> Result<T, ActionError> {
    match fact {
        Fact::Known(value) => Ok(value),
        Fact::NotPresent => Err(unread(path, "it does not exist")),
        Fact::Denied { .. } => Err(unread(path, "permission denied")),
        Fact::Unreadable { reason, .. } => Err(unread(path, &reason)),
    }
}

/// A fact that may be absent.
fn optional<T>(path: &str, fact: Fact<T>) -> Result<Option<T>, ActionError> {
    match fact {
        Fact::NotPresent => Ok(None),
        other => required(path, other).map(Some),
    }
}

/// Fails with [`ActionError::Gone`] unless the function is there.
fn present(control: &dyn Control, address: PciAddress) -> Result<(), ActionError> {
    let path = device_path(address);
    optional(&path, control.source().list(&path))?.map(|_| ()).ok_or(ActionError::Gone(address.into()))
}

/// Reads an attribute of a function as a number.
fn number<T: std::str::FromStr<Err: fmt::Display>>(
    control: &dyn Control,
    address: PciAddress,
    attribute: &str,
) -> Result<T, ActionError> {
    let path = format!("{}/{attribute}", device_path(address));
    required(&path, control.source().text(&path).parse(&path, |text| text.trim().parse::<T>()))
}
