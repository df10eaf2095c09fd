//! The machine: everything that a [`MachineConfig`] asks for, built in one visible order.
//!
//! [`Machine::build`] is the list; what it makes goes away in the reverse order when the machine is dropped: vCPUs stop
//! first, then functions give their host devices back, then memory and the kernel's machine go.

mod chipset;
#[cfg(any(test, fuzzing))]
mod sweep;

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use crate::spec::pci::header;
use crate::sys::signal::{self, TerminationSignals, UserSignals};
use crate::vmm::Lifecycle;
use crate::vmm::acpi::srat::Node;
use crate::vmm::acpi::{AcpiError, Platform, Tables};
use crate::vmm::backend::console::ConsoleError;
use crate::vmm::boot::firmware::Told;
use crate::vmm::boot::{BootError, Entry, Programming, Start};
use crate::vmm::bus::{AccessSize, Bus, RangeError};
use crate::vmm::chipset::debug_exit::{self, DebugExit};
use crate::vmm::chipset::fw_cfg;
use crate::vmm::chipset::power::Power;
use crate::vmm::chipset::vmgenid::VmGenId;
use crate::vmm::config::{ConfigError, DeviceConfig, MachineConfig, OnReboot, places};
use crate::vmm::console::{self, Port};
use crate::vmm::control::{Inbox, Remote};
use crate::vmm::events::{Control, Order};
use crate::vmm::interrupt::Lines;
use crate::vmm::interrupt::irqchip::ChipState;
use crate::vmm::interrupt::pirq::{self, Router};
use crate::vmm::kvm::{KvmError, SlotGuard, Vm};
use crate::vmm::layout;
use crate::vmm::mapper::Mapper;
use crate::vmm::memory::{GuestMemory, MemoryError, Wanted, Watch};
use crate::vmm::numa;
use crate::vmm::pci::access::CONFIG_PORTS;
use crate::vmm::pci::lpc_bridge::{self, LpcBridge};
use crate::vmm::pci::rom::{Rom, RomError};
use crate::vmm::pci::root::{PciRoot, PciRootError, Place, Slot, Windows};
use crate::vmm::slots::Slots;
use crate::vmm::smbios;
use crate::vmm::stats::Sources;
use crate::vmm::vcpu::cpuid::{self, FeatureError, TscDeadline};
use crate::vmm::vcpu::placement::{self, PlacementError};
use crate::vmm::vcpu::{self, Coalesced, MachineCpu, Shared, Template};
use crate::vmm::vfio::{self, VfioError};
use crate::vmm::virtio::devices::VirtioError;

use chipset::Chipset;
#[cfg(fuzzing)]
pub use sweep::fuzz;

/// Why a machine cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The configuration is not valid.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Config(Vec<ConfigError>),
    /// Kernel, initrd or command line.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// KVM.
    #[error(transparent)]
    Kvm(#[from] KvmError),
    /// The processor that is asked for.
    #[error(transparent)]
    Features(#[from] FeatureError),
    /// Where vCPUs run.
    #[error(transparent)]
    Placement(#[from] PlacementError),
    /// Guest RAM.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// A device of the chipset does not find its place.
    #[error("cannot place a device")]
    Range(#[from] RangeError),
    /// PCI.
    #[error(transparent)]
    Pci(#[from] PciRootError),
    /// There is no room for a device's BARs.
    #[error("{setting}: {source}")]
    NoRoom {
        /// Which device, as in [`ConfigError`].
        setting: String,
        /// What does not fit.
        source: PciRootError,
    },
    /// An expansion ROM.
    #[error(transparent)]
    Rom(#[from] RomError),
    /// A virtio device.
    #[error(transparent)]
    Virtio(#[from] VirtioError),
    /// A passed-through function.
    #[error(transparent)]
    Vfio(#[from] VfioError),
    /// A console's place on the host.
    #[error(transparent)]
    Console(#[from] ConsoleError),
    /// ACPI tables.
    #[error(transparent)]
    Acpi(#[from] AcpiError),
    /// This process could not get what it needs.
    #[error("cannot {what}")]
    Process {
        /// What was tried.
        what: &'static str,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
}

fn process(what: &'static str) -> impl FnOnce(io::Error) -> BuildError {
    move |source| BuildError::Process { what, source }
}

/// What a reset goes back to.
#[derive(Debug)]
struct PowerOn {
    chips: ChipState,
}

/// A built machine, ready to [`run`](Self::run).
///
/// Fields are dropped in the order in which they stand here.
#[derive(Debug)]
pub struct Machine {
    pub(super) name: String,
    pub(super) on_reboot: OnReboot,
    /// Set up and not yet started.
    pub(super) cpus: Vec<MachineCpu>,
    pub(super) threads: Vec<JoinHandle<()>>,
    pub(super) shared: Arc<Shared>,
    pub(super) ports: Vec<Port>,
    pub(super) stats: Sources,
    /// Made after the other signals, so that it stands before them.
    pub(super) user_signals: UserSignals,
    pub(super) signals: TerminationSignals,
    /// Of the vCPUs.
    pub(super) priority: Option<u8>,
    /// Until when KVM collects writes; see [`Coalesced`].
    pub(super) coalesces_until: Option<Instant>,
    pub(super) inbox: Inbox,
    pub(super) slots: Slots,
    pub(super) power: Arc<Power>,
    pub(super) debug_exit: Option<Arc<DebugExit>>,
    chipset: Chipset,
    router: Router,
    start: Start,
    tables: Tables,
    smbios: smbios::Tables,
    power_on: Option<PowerOn>,
    memory: Arc<GuestMemory>,
    /// Guest RAM in the kernel's machine.
    _ram: Vec<SlotGuard>,
    vm: Arc<Vm>,
}

impl Machine {
    /// Builds everything and loads the payload; no guest instruction has run yet.
    ///
    /// # Errors
    /// [`BuildError`]; what was built until then is gone, and host devices are given back.
    pub fn build(config: &MachineConfig) -> Result<Self, BuildError> {
        Self::build_watched(config, &|_, _| ())
    }

    /// Like [`Self::build`]; `progress` is told how many bytes of guest RAM were taken from the host, of how many, if they are
    /// taken before the start.
    ///
    /// # Errors
    /// As [`Self::build`].
    pub fn build_watched(config: &MachineConfig, progress: &dyn Fn(u64, u64)) -> Result<Self, BuildError> {
        let errors = config.check();
        if !errors.is_empty() {
            return Err(BuildError::Config(errors));
        }
        // Before any thread exists: all inherit the mask.
        let signals = TerminationSignals::new().map_err(process("take over signals"))?;
        let user_signals = UserSignals::new().map_err(process("take over signals"))?;
        signal::install_kick_handler().map_err(process("install a signal handler"))?;

        // What can be wrong with files is found before a device is touched.
        let start = Start::open(&config.boot)?;
        let programming = start.programming();
        let roms = roms(&config.devices)?;
        if let Start::Firmware(firmware) = &start {
            firmware.check_interrupts(config.interrupts).map_err(BootError::from)?;
        }

        // KVM, RAM and slots; the interrupt controllers come with the machine.
        let vm = Vm::new(config.interrupts)?;
        let topology = config.cpus.topology();
        vm.check_vcpus(topology)?;
        let placements = placement::plan(&config.cpus)?;
        let supported = vm.supported_cpuid().map_err(KvmError::call("list its CPUID leaves"))?;
        let deadline = TscDeadline(vm.has(kvm_ioctls::Cap::TscDeadlineTimer));
        let selected = cpuid::select(&supported, deadline, &config.cpus)?;
        let watch = Watch { progress, stop: &|| signals.take().is_some() };
        let passed: Vec<_> = config
            .devices
            .iter()
            .filter_map(|device| match device {
                DeviceConfig::VfioPci(function) => Some(function.address),
                _ => None,
            })
            .collect();
        let wanted = Wanted {
            config: &config.memory,
            nodes: &config.numa,
            holes: &vfio::unreachable(passed.iter().copied()),
            is_pinned: !passed.is_empty(),
            physical_bits: cpuid::physical_bits(&selected),
        };
        let memory = Arc::new(GuestMemory::build(&wanted, watch)?);
        let ram = vm.map_ram(&memory).map_err(KvmError::call("take guest RAM"))?;

        // Buses and the PCI root.
        let (pio, mmio) = (Arc::new(Bus::default()), Arc::new(Bus::default()));
        let windows = Windows {
            pio: layout::PIO,
            mmio32: layout::MMIO32,
            mmio64: match programming {
                Programming::Done => layout::mmio64(memory.end(), cpuid::physical_bits(&selected)),
                Programming::ByFirmware => {
                    layout::mmio64_of_firmware(memory.end(), cpuid::physical_bits(&selected))
                }
            },
        };
        let mapper: Arc<dyn Mapper> = Arc::clone(&vm) as _;
        let root = PciRoot::new(windows.clone(), Arc::clone(&mmio), Arc::clone(&pio), Arc::clone(&mapper));
        let lines = Lines::new(&(Arc::new(vm.irqchip().clone()) as _));
        let router = lines.router().clone();
        let lpc_bridge = Slot::new(lpc_bridge::DEVICE, 0).expect("a device number below 32");
        root.insert(Place::on_root(lpc_bridge), Arc::new(LpcBridge::new(programming, router.clone())))?;
        let shared = Arc::new(Shared {
            pio,
            mmio,
            root,
            control: Arc::new(Control::new().map_err(process("make an eventfd"))?),
            irqchip: vm.irqchip().clone(),
            coalesced: Coalesced::default(),
        });

        // Chipset.
        let mut consoles = Vec::new();
        let has = |kind: &str| config.devices.iter().any(|device| device.kind() == kind);
        let (has_pvpanic, has_vmgenid) = (has("pvpanic"), has("vmgenid"));
        let mut chipset = Chipset::new(&shared, has_pvpanic)?;
        chipset.add_serial_ports(config, &shared, &lines, &mut consoles)?;
        if has_vmgenid {
            let identity = VmGenId::new(&*vm).map_err(process("make a generation identity"))?;
            chipset.devices.push(Arc::new(identity));
        }
        let debug_exit = has("isa-debug-exit").then(Arc::<DebugExit>::default);
        if let Some(port) = &debug_exit {
            chipset.add(&shared.pio, debug_exit::PORT.into(), debug_exit::LENGTH, port)?;
        }
        let timer = chipset.add_interrupt_chips(&shared, &lines)?;
        let power = chipset.add_interrupting(config, &shared, &lines, timer)?;

        // virtio and passed-through functions, in the order of the configuration.
        let slots = Slots::new(config, &roms, &vm, &memory, &shared.root, lines, &mut consoles)?;

        // BARs, then the tables that describe the result.
        shared.root.place_bars().map_err(|error| no_room(error, config))?;
        if programming == Programming::Done {
            set_interrupt_lines(&shared.root, &router);
        }
        let tables = Tables::build(&Platform {
            apic_ids: (0..topology.count()).map(|index| topology.apic_id(index)).collect(),
            nodes: nodes(config, &memory),
            distances: numa::distances(&config.numa),
            interrupts: config.interrupts,
            windows,
            last_bus: shared.root.last_bus(),
            interrupt_devices: shared.root.ports(),
            pvpanic: has_pvpanic,
            vmgenid: has_vmgenid,
            hpet: config.hpet,
            serial_ports: config.serial.len(),
        })?;
        let smbios = smbios::Tables::build(&smbios::Described {
            config: &config.smbios,
            topology,
            processor_id: cpuid::processor_id(&selected),
            ram: &memory.ranges(),
            interface: start.interface(),
        });
        if let Start::Firmware(firmware) = &start {
            let functions: Vec<_> = slots.devices().collect();
            firmware.warn_of_blank_disks(&functions);
            let told = Told {
                cpu_count: topology.count(),
                memory: &memory,
                tables: &tables,
                smbios: &smbios,
                identity: &config.smbios,
                devices: &functions,
            };
            let fw_cfg = fw_cfg::FwCfg::new(told.items(firmware), Arc::clone(&memory));
            chipset.add_firmware(&shared, firmware.place(&mapper).map_err(BootError::from)?, fw_cfg)?;
        }

        // vCPUs and the payload's entry.
        let resets = config.on_reboot == OnReboot::Reset;
        let msr_indexes = resets.then(|| vm.msr_indexes()).transpose();
        let template = Template {
            topology,
            selected,
            placements,
            programming,
            msr_indexes: msr_indexes.map_err(KvmError::call("list its registers"))?,
        };
        let cpus = (0..topology.count())
            .map(|id| MachineCpu::new(&vm, id, &template))
            .collect::<Result<Vec<_>, _>>()
            .map_err(KvmError::call("create a vCPU"))?;
        let stats = Sources::new(vm.counters(), cpus.iter().map(|cpu| cpu.stats(topology)).collect());
        let coalesces = coalesce_config_address(&vm, &shared, &cpus);
        let chips = resets.then(|| vm.irqchip().state()).transpose();
        let chips = chips.map_err(KvmError::call("read its interrupt controllers"))?;
        let power_on = chips.map(|chips| PowerOn { chips });

        // Last, since a terminal becomes raw by it: messages of what failed above come out straight.
        let ports = console::open(consoles)?;
        let machine = Self {
            name: config.name.clone(),
            on_reboot: config.on_reboot,
            cpus,
            threads: Vec::new(),
            shared,
            ports,
            stats,
            user_signals,
            signals,
            priority: config.cpus.priority(),
            coalesces_until: coalesces.then(|| Instant::now() + Coalesced::LIFETIME),
            inbox: Inbox::new().map_err(process("make an eventfd"))?,
            slots,
            power,
            debug_exit,
            chipset,
            router,
            start,
            tables,
            smbios,
            power_on,
            memory,
            _ram: ram,
            vm,
        };
        let entry = machine.load()?;
        for cpu in &machine.cpus {
            cpu.enter(entry).map_err(KvmError::call("set a vCPU's registers"))?;
        }
        Ok(machine)
    }

    /// Puts tables and payload into RAM, or what a PC shows of its firmware there.
    fn load(&self) -> Result<Entry, BuildError> {
        let payload = match (&self.start, &self.chipset.firmware) {
            (Start::Kernel(payload), _) => payload,
            (Start::Firmware(_), Some(firmware)) => return Ok(firmware.load(&self.memory)?),
            (Start::Firmware(_), None) => return Err(BootError::Nothing.into()),
        };
        self.tables.write(&self.memory)?;
        self.smbios.write(&self.memory).map_err(BootError::from)?;
        let map = layout::memory_map(self.memory.ranges());
        Ok(payload.load(&self.memory, &map, self.tables.root_pointer())?)
    }

    /// Looks after writes that KVM collected, and ends the collecting in time.
    pub(super) fn look_after_coalesced(&mut self) {
        let Some(until) = self.coalesces_until else { return };
        let shared = &self.shared;
        let effects = if Instant::now() < until {
            shared.coalesced.carry_out(&shared.pio)
        } else {
            self.coalesces_until = None;
            if let Err(error) = self.vm.stop_coalescing_ports(config_address(), CONFIG_ADDRESS_BYTES) {
                tracing::warn!(%error, "KVM goes on to collect writes to PCI's address port");
                return;
            }
            shared.coalesced.end(&shared.pio)
        };
        vcpu::carry_out(effects, shared);
    }

    /// Back to power-on and to the payload's first instruction, in place.
    ///
    /// # Errors
    /// What could not be brought back; the machine is of no use then.
    pub(super) fn reset(&mut self) -> Result<(), ResetError> {
        let control = &self.shared.control;
        control.order(Order::Park).map_err(ResetError::new("stop the vCPUs"))?;
        // Functions first: from here on nothing does DMA.
        self.slots.reset();
        self.shared.root.reset();
        if self.start.programming() == Programming::Done {
            set_interrupt_lines(&self.shared.root, &self.router);
        }
        self.chipset.reset();
        if let Some(power_on) = &self.power_on {
            self.vm
                .irqchip()
                .restore(&power_on.chips)
                .map_err(ResetError::new("reset interrupt controllers"))?;
        }
        self.memory.clear().map_err(ResetError::new("clear guest RAM"))?;
        let entry = self.load().map_err(ResetError::new("load the payload again"))?;
        control.order(Order::Reset(entry)).map_err(ResetError::new("reset the vCPUs"))?;
        control.tell(Order::Run);
        Ok(())
    }
}

/// A reset did not come to its end.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what}")]
pub struct ResetError {
    what: &'static str,
    #[source]
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl ResetError {
    fn new<E: Into<Box<dyn std::error::Error + Send + Sync>>>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self { what, source: source.into() }
    }
}

impl Machine {
    /// A handle by which other threads ask for changes while the machine runs.
    #[must_use]
    pub fn remote(&self) -> Remote {
        self.inbox.remote()
    }

    /// Ends the vCPUs' threads. Idempotent.
    pub(super) fn stop(&mut self) {
        self.shared.control.tell(Order::Quit);
        for thread in self.threads.drain(..) {
            // A panic was caught in the thread and reported as a request.
            drop(thread.join());
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Nothing runs when devices go.
        self.stop();
        // The buses hold devices that hold the buses.
        self.shared.pio.clear();
        self.shared.mmio.clear();
    }
}

/// What the tables tell of NUMA nodes.
fn nodes(config: &MachineConfig, memory: &GuestMemory) -> Vec<Node> {
    let topology = config.cpus.topology();
    let apic_id = |cpu: u32| u8::try_from(cpu).ok().map(|index| topology.apic_id(index));
    let parts = numa::share_out(&config.numa, &memory.ranges());
    let nodes = config.numa.iter().zip(parts);
    nodes
        .map(|(node, ranges)| Node { apic_ids: node.cpus.iter().filter_map(apic_id).collect(), ranges })
        .collect()
}

/// The expansion ROM of each device, none of those that are not on the PCI bus.
fn roms(devices: &[DeviceConfig]) -> Result<Vec<Option<Rom>>, RomError> {
    devices.iter().map(|device| device.pci().map(|pci| Rom::load(&pci.rom)).transpose()).collect()
}

/// Says in which device's BARs there was no room for, as far as it was one of the configuration's.
fn no_room(error: PciRootError, config: &MachineConfig) -> BuildError {
    let PciRootError::NoRoom { place, .. } = error else { return error.into() };
    let places = places(&config.devices, &mut Vec::new());
    let found = config.devices.iter().zip(places).zip(0..).find(|((_, other), _)| *other == Some(place));
    match found {
        Some(((device, _), index)) => {
            BuildError::NoRoom { setting: format!("devices.{index}.{}", device.kind()), source: error }
        }
        None => error.into(),
    }
}

/// Tells each function's driver which input of the PIC is its pin's, as firmware does (PCI 3.0, 6.2.4): an operating system
/// that asks no ACPI takes it from there.
fn set_interrupt_lines(root: &PciRoot, router: &Router) {
    for (place, function) in root.functions() {
        let [pin, ..] = function.config_read(header::INTERRUPT_PIN, AccessSize::Byte).to_le_bytes();
        let request = pin.checked_sub(1).map(|pin| pirq::request(place.wired_device(), pin));
        if let Some(input) = request.and_then(|request| router.pic_input(request)) {
            // No effect is asked for: the register moves nothing.
            let _ = function.config_write(header::INTERRUPT_LINE, AccessSize::Byte, input);
        }
    }
}

/// Bytes of PCI's address port.
const CONFIG_ADDRESS_BYTES: u32 = 4;

fn config_address() -> u16 {
    u16::try_from(CONFIG_PORTS).unwrap_or_default()
}

/// Lets KVM collect writes to PCI's address port, where it can: a matter of speed only. Whether it does.
fn coalesce_config_address(vm: &Vm, shared: &Shared, cpus: &[MachineCpu]) -> bool {
    let Some(first) = cpus.first() else { return false };
    let begun = first.coalesced_ring().and_then(|ring| {
        vm.coalesce_ports(config_address(), CONFIG_ADDRESS_BYTES)?;
        shared.coalesced.begin(ring);
        Ok(())
    });
    begun.inspect_err(|error| tracing::debug!(%error, "KVM does not collect writes")).is_ok()
}
