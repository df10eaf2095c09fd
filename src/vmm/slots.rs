//! The slots of the machine: root ports and what is in them, from the start or, where the machine has hot plug, at any time.
//!
//! Everything here happens on the machine's own thread. A guest that is asked to let a device go answers in its own time;
//! whoever asked waits for that outside of this file.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Weak};

use serde::{Deserialize, Serialize};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::spec::pci::header;
use crate::sys::event;
use crate::vmm::bus::AccessSize;
use crate::vmm::config::{DeviceConfig, MAX_PORTS, MachineConfig, places};
use crate::vmm::console::{InputQueue, Output, Wiring};
use crate::vmm::control::Reply;
use crate::vmm::interrupt::{Lines, MsiSink};
use crate::vmm::kvm::Vm;
use crate::vmm::machine::BuildError;
use crate::vmm::memory::GuestMemory;
use crate::vmm::pci::rom::Rom;
use crate::vmm::pci::root::{PciRoot, Place, Slot};
use crate::vmm::pci::root_port::RootPort;
use crate::vmm::pci::{FunctionContext, PciFunction, hotplug};
use crate::vmm::vfio::{self, VfioError};
use crate::vmm::virtio::devices::{self as virtio, VirtioConfig};

/// How a device leaves its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Departure {
    /// The guest is asked by the attention button, and lets it go.
    Asked,
    /// It is torn out.
    Surprise,
}

/// A slot, and what is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotState {
    /// Its number, which is the device number of its root port on bus 0, too.
    pub slot: u8,
    /// What is in it: one device, or several functions.
    pub devices: Vec<String>,
    /// The guest was asked to let it go.
    pub leaving: bool,
}

/// Why a slot cannot be filled or emptied.
#[derive(Debug, thiserror::Error)]
pub enum SlotError {
    /// The machine was started without.
    #[error("the machine has no hot plug; start it with `--hotplug SOCKET`")]
    NoHotPlug,
    /// All are full.
    #[error("no slot is free; start the machine with more (`spare_slots`), or detach something")]
    Full,
    /// The number is that of no slot.
    #[error("there is no slot {0}")]
    NoSlot(u8),
    /// The slot is full, or a function other than 0 was asked for.
    #[error("slot {0} takes one device, as function 0, and only while it is empty")]
    Taken(u8),
    /// Nothing is in the slot.
    #[error("slot {0} is empty")]
    Empty(u8),
    /// The guest was asked before.
    #[error("the guest was asked to let slot {0} go and has not answered; a surprise takes it out now")]
    Leaving(u8),
    /// The guest has no driver for the slot.
    #[error("the guest does not listen to the button of slot {0}; a surprise takes the device out now")]
    Deaf(u8),
    /// A device of this kind has to be there from the start.
    #[error("{0} cannot be plugged in; it has to be there from the start")]
    NotPluggable(&'static str),
    /// Its settings are wrong, or collide with another device's.
    #[error("{0}")]
    Config(String),
    /// What it needs of the host is not to be had.
    #[error(transparent)]
    Build(Box<BuildError>),
    /// The guest started again.
    #[error("the guest started again before it let slot {0} go")]
    Restarted(u8),
}

/// What makes functions, and where they go.
#[derive(Debug)]
pub(super) struct Slots {
    vm: Arc<Vm>,
    memory: Arc<GuestMemory>,
    root: Arc<PciRoot>,
    lines: Lines,
    /// That of all passed-through functions; it goes with the last of them.
    container: Weak<vfio::Container>,
    config: MachineConfig,
    /// Signalled when the guest let a device go; none without hot plug.
    let_go: Option<Arc<EventFd>>,
    /// By the number of the slot.
    ports: BTreeMap<u8, Arc<RootPort>>,
    /// In the order of the configuration, then of their arrival; their addresses are written down in them.
    devices: Vec<(Place, DeviceConfig)>,
    leaving: BTreeMap<u8, Reply>,
}

impl Slots {
    /// The slots of `config`'s machine, filled with its devices, which have `roms`; their consoles are added to `consoles`.
    pub(super) fn new(
        config: &MachineConfig,
        roms: &[Option<Rom>],
        vm: &Arc<Vm>,
        memory: &Arc<GuestMemory>,
        root: &Arc<PciRoot>,
        lines: Lines,
        consoles: &mut Vec<Wiring>,
    ) -> Result<Self, BuildError> {
        let let_go = match &config.hotplug {
            Some(_) => Some(Arc::new(EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).map_err(eventfd)?)),
            None => None,
        };
        let mut slots = Self {
            vm: Arc::clone(vm),
            memory: Arc::clone(memory),
            root: Arc::clone(root),
            lines,
            container: Weak::new(),
            config: MachineConfig { devices: Vec::new(), ..config.clone() },
            let_go,
            ports: BTreeMap::new(),
            devices: Vec::new(),
            leaving: BTreeMap::new(),
        };
        let places = places(&config.devices, &mut Vec::new());
        let last =
            places.iter().flatten().filter_map(|place| place.port()).map(Slot::device).max().unwrap_or(0);
        let spare = config.hotplug.as_ref().map_or(0, |hotplug| hotplug.spare_slots);
        for number in 1..=last.saturating_add(spare).min(MAX_PORTS) {
            slots.add_port(number)?;
        }
        for ((device, place), rom) in config.devices.iter().zip(places).zip(roms) {
            // What is not on the PCI bus is part of the chipset.
            let (Some(place), Some(rom)) = (place, rom) else { continue };
            let function = slots.function(place, device, rom, Some(consoles))?;
            slots.root.insert(place, function)?;
            if let Some(port) = slots.ports.get(&number_of(place)) {
                port.fill();
            }
            slots.devices.push((place, at(place, device.clone())));
        }
        Ok(slots)
    }

    fn add_port(&mut self, number: u8) -> Result<(), BuildError> {
        let port = match (&self.config.hotplug, &self.let_go) {
            (Some(config), Some(let_go)) => RootPort::with_hot_plug(
                number,
                hotplug::Wiring {
                    power: config.power,
                    msi: self.messages(),
                    intx: self.lines.intx(number),
                    let_go: Arc::clone(let_go),
                },
            ),
            _ => RootPort::new(number),
        };
        let port = Arc::new(port.expect("its capabilities fit"));
        self.root.insert_port(root_slot(number), &port)?;
        self.ports.insert(number, port);
        Ok(())
    }

    fn messages(&self) -> Arc<dyn MsiSink> {
        Arc::new(self.vm.irqchip().clone())
    }

    /// Makes the function of `device` for `place`. Where `consoles` is none, the machine runs already.
    fn function(
        &mut self,
        place: Place,
        device: &DeviceConfig,
        rom: &Rom,
        consoles: Option<&mut Vec<Wiring>>,
    ) -> Result<Arc<dyn PciFunction>, BuildError> {
        let context = FunctionContext {
            memory: Arc::clone(&self.memory),
            msi: self.messages(),
            intx: self.lines.intx(place.wired_device()),
            rom: rom.clone(),
        };
        let function = match device {
            DeviceConfig::VirtioBlock(config) => virtio::build(VirtioConfig::Block(config), context)?,
            DeviceConfig::VirtioNet(config) => virtio::build(VirtioConfig::Net(config), context)?,
            DeviceConfig::VirtioConsole(config) => {
                let output = Arc::new(Output::new().map_err(eventfd)?);
                let input = Arc::new(InputQueue::new().map_err(eventfd)?);
                let console =
                    virtio::console::Console::new(&config.device, Arc::clone(&output), Arc::clone(&input));
                if let Some(consoles) = consoles {
                    consoles.push(Wiring { target: config.device.clone(), output, receiver: input });
                }
                virtio::build(VirtioConfig::Console(&Arc::new(console)), context)?
            }
            DeviceConfig::VirtioRng(config) => virtio::build(VirtioConfig::Rng(config), context)?,
            DeviceConfig::VfioPci(config) => vfio::open(config, &self.container()?, context)?,
            DeviceConfig::Pvpanic(_) | DeviceConfig::Vmgenid(_) | DeviceConfig::IsaDebugExit(_) => {
                unreachable!("devices of the chipset are in no slot")
            }
        };
        if let Rom::Image(image) = rom {
            let id = |register| u16::try_from(function.config_read(register, AccessSize::Word)).unwrap_or(0);
            image.warn_unless_for(function.label(), id(header::VENDOR_ID), id(header::DEVICE_ID));
        }
        Ok(function)
    }

    /// The container that all passed-through functions share. KVM's part in it only speeds interrupts up.
    fn container(&mut self) -> Result<Arc<vfio::Container>, VfioError> {
        if let Some(container) = self.container.upgrade() {
            return Ok(container);
        }
        let device = self.vm.vfio_device();
        if let Err(error) = &device {
            tracing::warn!(%error, "KVM has no VFIO device; interrupts of passed-through functions are slower");
        }
        let container = vfio::Container::new(device.ok(), Arc::clone(&self.memory))?;
        self.container = Arc::downgrade(&container);
        Ok(container)
    }

    /// What is in the slots, in the order of the configuration.
    pub(super) fn devices(&self) -> impl Iterator<Item = (Place, &DeviceConfig)> {
        self.devices.iter().map(|(place, device)| (*place, device))
    }

    /// What is in slot `number`.
    fn inside(&self, number: u8) -> impl Iterator<Item = &DeviceConfig> {
        self.devices().filter(move |(place, _)| number_of(*place) == number).map(|(_, device)| device)
    }

    fn is_empty(&self, number: u8) -> bool {
        self.inside(number).next().is_none()
    }

    /// All slots.
    pub(super) fn list(&self) -> Vec<SlotState> {
        let state = |number: &u8| SlotState {
            slot: *number,
            devices: self.inside(*number).map(DeviceConfig::label).collect(),
            leaving: self.leaving.contains_key(number),
        };
        self.ports.keys().map(state).collect()
    }

    /// Puts `device` into the slot that its address says, or into the first that is free, and tells the guest. The number of
    /// the slot.
    pub(super) fn attach(&mut self, device: DeviceConfig) -> Result<u8, SlotError> {
        if self.let_go.is_none() {
            return Err(SlotError::NoHotPlug);
        }
        let Some(pci) = device.pci().filter(|_| device.is_pluggable()) else {
            return Err(SlotError::NotPluggable(device.kind()));
        };
        let place = match pci.guest_address {
            None => {
                let free = self.ports.keys().find(|number| self.is_empty(**number));
                place(*free.ok_or(SlotError::Full)?)
            }
            Some(address) if !self.ports.contains_key(&address.bus) || address.device != 0 => {
                return Err(SlotError::NoSlot(address.bus));
            }
            // Functions of one device come and go together.
            Some(address) if !self.is_empty(address.bus) || address.function != 0 => {
                return Err(SlotError::Taken(address.bus));
            }
            Some(address) => place(address.bus),
        };
        let number = number_of(place);
        let rom = Rom::load(&pci.rom).map_err(|error| built(error.into()))?;
        let device = at(place, device);
        self.check(&device)?;
        let function = self.function(place, &device, &rom, None).map_err(built)?;
        self.root.plug(place, function).map_err(|error| built(error.into()))?;
        tracing::info!(machine = self.config.name, slot = number, device = device.label(), "attached");
        self.devices.push((place, device));
        Ok(number)
    }

    /// What is wrong with `device` beside those that are there.
    fn check(&self, device: &DeviceConfig) -> Result<(), SlotError> {
        let devices = self.devices().map(|(_, device)| device).chain([device]).cloned().collect();
        // A slot that is spare no more is not counted as one beside those in use.
        let errors = MachineConfig { devices, hotplug: None, ..self.config.clone() }.check();
        match errors.first() {
            None => Ok(()),
            Some(error) => Err(SlotError::Config(error.problem.clone())),
        }
    }

    /// Takes the device out of slot `number`, or asks the guest to let it go; `reply` is answered when it is out, or when it is
    /// known that it will not be.
    pub(super) fn detach(&mut self, number: u8, departure: Departure, reply: Reply) {
        match self.may_leave(number, departure) {
            Err(error) => reply.refuse(error),
            Ok(Leaves::Now) => {
                self.take_out(number);
                reply.slot(number);
            }
            Ok(Leaves::Later) => {
                self.leaving.insert(number, reply);
            }
        }
    }

    fn may_leave(&self, number: u8, departure: Departure) -> Result<Leaves, SlotError> {
        if self.let_go.is_none() {
            return Err(SlotError::NoHotPlug);
        }
        let port = self.ports.get(&number).ok_or(SlotError::NoSlot(number))?;
        if self.is_empty(number) {
            return Err(SlotError::Empty(number));
        }
        // The guest can have let it go before it was asked.
        if departure == Departure::Surprise || port.is_let_go() {
            return Ok(Leaves::Now);
        }
        if self.leaving.contains_key(&number) {
            return Err(SlotError::Leaving(number));
        }
        if port.press_button() { Ok(Leaves::Later) } else { Err(SlotError::Deaf(number)) }
    }

    /// Empties slot `number`, and tells whoever waits for it.
    fn take_out(&mut self, number: u8) {
        self.root.unplug(root_slot(number));
        for device in self.inside(number) {
            tracing::info!(machine = self.config.name, slot = number, device = device.label(), "detached");
        }
        self.devices.retain(|(place, _)| number_of(*place) != number);
        if let Some(reply) = self.leaving.remove(&number) {
            reply.slot(number);
        }
    }

    /// Readable when the guest let a device go; none without hot plug.
    pub(super) fn let_go(&self) -> Option<BorrowedFd<'_>> {
        self.let_go.as_deref().map(event::borrow)
    }

    /// Takes out what the guest was asked to let go, and did.
    pub(super) fn settle(&mut self) {
        if let Some(let_go) = &self.let_go {
            drop(let_go.read());
        }
        let is_gone = |number: &&u8| self.ports.get(number).is_none_or(|port| port.is_let_go());
        let gone = self.leaving.keys().filter(is_gone);
        for number in gone.copied().collect::<Vec<_>>() {
            self.take_out(number);
        }
    }

    /// The machine was reset: what was asked is forgotten.
    pub(super) fn reset(&mut self) {
        for (number, reply) in std::mem::take(&mut self.leaving) {
            reply.refuse(SlotError::Restarted(number));
        }
    }
}

enum Leaves {
    Now,
    /// When the guest lets it go.
    Later,
}

fn eventfd(source: io::Error) -> BuildError {
    BuildError::Process { what: "make an eventfd", source }
}

fn built(error: BuildError) -> SlotError {
    SlotError::Build(Box::new(error))
}

fn root_slot(number: u8) -> Slot {
    Slot::new(number, 0).expect("the configuration was checked: at most 30 slots")
}

/// Writes down in `device` that it is at `place`.
fn at(place: Place, mut device: DeviceConfig) -> DeviceConfig {
    if let Some(pci) = device.pci_mut() {
        pci.guest_address = Some(place.address());
    }
    device
}

fn number_of(place: Place) -> u8 {
    place.wired_device()
}

fn place(number: u8) -> Place {
    Place::behind(root_slot(number), 0).expect("function 0")
}
