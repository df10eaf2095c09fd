//! From what a profile says to a machine that can be built: all errors at once, each with the path of its setting.

use std::convert::Infallible;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use crate::profile::schema::{Device, Machine, Profile, SCHEMA_VERSION};
use crate::setup::goal::{Selector, is_kernel_name, wrong_kernel_argument};
use crate::spec::cpu_list::CpuList;
use crate::spec::pci::PciAddress;
use crate::vmm::config::{
    BootConfig, ConfigError, DeviceConfig, HotplugConfig, MachineConfig, ModuleConfig, OnPci, PciSettings,
    RomConfig, SerialConfig, is_name,
};
use crate::vmm::vfio::VfioConfig;

/// The machine of `profile`. Relative paths are taken from `directory`; `lookup` says which function a selector names.
///
/// # Errors
/// Everything that is wrong with the profile, `host:` included. Settings are paths from the profile's root:
/// `machine.memory`, `host.sriov.0.count`.
pub fn resolve<E: Display>(
    profile: &Profile,
    directory: &Path,
    lookup: impl Fn(&Selector) -> Result<PciAddress, E>,
) -> Result<MachineConfig, Vec<ConfigError>> {
    let mut errors = check_outside_machine(profile);
    let kernel = profile.machine.boot.kernel.clone();
    let config = Gather { profile, directory, kernel, errors: &mut errors }
        .machine(|selector| lookup(selector).map(Some));
    if errors.is_empty() { Ok(config) } else { Err(errors) }
}

/// Everything that is wrong with `profile` and can be seen without a host: all but what selectors name. A machine
/// without a kernel is sound here, because `run` takes one from its flags too.
#[must_use]
pub fn check(profile: &Profile) -> Vec<ConfigError> {
    let mut errors = check_outside_machine(profile);
    let kernel = Some(profile.machine.boot.kernel.clone().unwrap_or_default());
    let by_address = |selector: &Selector| match selector {
        Selector::Address(address) => Ok::<_, Infallible>(Some(*address)),
        _ => Ok(None),
    };
    Gather { profile, directory: Path::new("/"), kernel, errors: &mut errors }.machine(by_address);
    errors
}

fn check_outside_machine(profile: &Profile) -> Vec<ConfigError> {
    let mut errors = Vec::new();
    let mut wrong = |setting: String, problem: String| errors.push(ConfigError { setting, problem });
    if profile.schema != SCHEMA_VERSION {
        let version = env!("CARGO_PKG_VERSION");
        wrong(
            "schema".to_owned(),
            format!("thruway {version} reads schema {SCHEMA_VERSION}, not {}", profile.schema),
        );
    }
    if !is_name(&profile.name) {
        let name = profile.name.escape_debug();
        wrong(
            "name".to_owned(),
            format!("`{name}` is not a name; write up to 64 of a-z, 0-9 and `-`, not `-` first"),
        );
    }
    for (index, device) in profile.host.devices.iter().enumerate() {
        if !is_driver(&device.driver) {
            let driver = device.driver.escape_debug();
            wrong(format!("host.devices.{index}.driver"), format!("`{driver}` is not the name of a driver"));
        }
        if let Some(problem) = device.problem() {
            wrong(format!("host.devices.{index}.reset_method"), problem);
        }
    }
    for (index, sriov) in profile.host.sriov.iter().enumerate() {
        for (position, vf) in sriov.vfs.iter().enumerate() {
            let at = |key: &str| format!("host.sriov.{index}.vfs.{position}.{key}");
            if vf.index >= sriov.count {
                wrong(
                    at("index"),
                    format!("there is no VF {} among {}; they count from 0", vf.index, sriov.count),
                );
            }
            if sriov.vfs.iter().take(position).any(|other| other.index == vf.index) {
                wrong(at("index"), format!("VF {} stands in this list already", vf.index));
            }
            if let Some(driver) = vf.driver.as_ref().filter(|driver| !is_driver(driver)) {
                wrong(at("driver"), format!("`{}` is not the name of a driver", driver.escape_debug()));
            }
        }
        for (position, key, problem) in sriov.wrong_settings() {
            wrong(format!("host.sriov.{index}.vfs.{position}.{key}"), problem);
        }
    }
    for (index, pages) in profile.host.hugepages.iter().enumerate() {
        if !pages.size.bytes().is_power_of_two() {
            wrong(
                format!("host.hugepages.{index}.size"),
                format!("{} is not the size of a page", pages.size),
            );
        }
        let mut earlier = profile.host.hugepages.iter().take(index);
        if let Some(problem) = earlier.find_map(|earlier| pages.conflict_with(earlier)) {
            wrong(format!("host.hugepages.{index}.size"), problem);
        }
    }
    for (index, memlock) in profile.host.memlock.iter().enumerate() {
        if let Some(problem) = memlock.problem() {
            wrong(format!("host.memlock.{index}"), problem.to_owned());
        }
    }
    for (index, argument) in profile.host.kernel_arguments.iter().enumerate() {
        if let Some(problem) = wrong_kernel_argument(argument) {
            wrong(format!("host.kernel_arguments.{index}"), problem.to_owned());
        }
    }
    for (index, access) in profile.host.access.iter().enumerate() {
        if let Some(problem) = access.problem() {
            wrong(format!("host.access.{index}"), problem.to_owned());
        }
    }
    let away_from = profile.host.irq_affinity.as_ref().map(|goal| &goal.away_from);
    for (key, cpus) in
        [("isolate_cpus", profile.host.isolate_cpus.as_ref()), ("irq_affinity.away_from", away_from)]
    {
        if cpus.is_some_and(CpuList::is_empty) {
            wrong(format!("host.{key}"), "no CPU is named; write for example \"2-3,6\"".to_owned());
        }
    }
    if let Some(governor) = profile.host.governor.as_ref().filter(|governor| !is_kernel_name(governor)) {
        let problem = format!("`{}` is not the name of a governor", governor.escape_debug());
        wrong("host.governor".to_owned(), problem);
    }
    for (index, module) in profile.host.modules.iter().enumerate() {
        if !is_kernel_name(module) {
            let problem = format!("`{}` is not the name of a kernel module", module.escape_debug());
            wrong(format!("host.modules.{index}"), problem);
        }
    }
    errors
}

/// A name that can be a directory under `/sys/bus/pci/drivers`.
fn is_driver(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

/// One device as a machine has it: relative paths are taken from `directory`, `lookup` says which function a selector names.
///
/// # Errors
/// That of `lookup`.
pub fn resolve_device<E>(
    device: Device,
    directory: &Path,
    lookup: impl FnOnce(&Selector) -> Result<PciAddress, E>,
) -> Result<DeviceConfig, E> {
    let absolute = |path: &mut PathBuf| *path = directory.join(&*path);
    let mut config = match device {
        Device::VirtioBlock(mut block) => {
            absolute(&mut block.device.path);
            DeviceConfig::VirtioBlock(block)
        }
        Device::VirtioNet(net) => DeviceConfig::VirtioNet(net),
        Device::VirtioConsole(mut console) => {
            console.device.paths_mut().into_iter().for_each(absolute);
            DeviceConfig::VirtioConsole(console)
        }
        Device::VirtioRng(rng) => DeviceConfig::VirtioRng(rng),
        Device::Pvpanic(pvpanic) => DeviceConfig::Pvpanic(pvpanic),
        Device::Vmgenid(identity) => DeviceConfig::Vmgenid(identity),
        Device::IsaDebugExit(port) => DeviceConfig::IsaDebugExit(port),
        Device::VfioPci(OnPci { device: function, pci }) => {
            let address = lookup(&function.select)?;
            DeviceConfig::VfioPci(OnPci { device: VfioConfig { address }, pci })
        }
    };
    if let Some(PciSettings { rom: RomConfig::File(path), .. }) = config.pci_mut() {
        absolute(path);
    }
    Ok(config)
}

struct Gather<'a> {
    profile: &'a Profile,
    directory: &'a Path,
    kernel: Option<PathBuf>,
    errors: &'a mut Vec<ConfigError>,
}

impl Gather<'_> {
    /// The machine, with everything that is wrong with it in `self.errors`.
    fn machine<E: Display>(
        self,
        lookup: impl Fn(&Selector) -> Result<Option<PciAddress>, E>,
    ) -> MachineConfig {
        let Machine {
            cpus,
            interrupts,
            memory,
            numa,
            boot,
            serial,
            hpet,
            smbios,
            on_reboot,
            hotplug,
            devices,
        } = &self.profile.machine;
        let absolute = |path: &PathBuf| self.directory.join(path);
        let mut configs = Vec::new();
        for (position, device) in devices.iter().enumerate() {
            let config = resolve_device(device.clone(), self.directory, |selector| {
                let found = lookup(selector).unwrap_or_else(|error| {
                    let setting = format!("machine.devices.{position}.vfio-pci.select");
                    self.errors.push(ConfigError::new(setting, error.to_string()));
                    None
                });
                Ok(found.unwrap_or_else(|| unknown(position)))
            });
            let Ok(config) = config.map_err(|never: Infallible| never);
            configs.push(config);
        }
        let mut memory = memory.clone();
        memory.file = memory.file.as_ref().map(absolute);
        let module = |module: &ModuleConfig| ModuleConfig {
            file: absolute(&module.file),
            cmdline: module.cmdline.clone(),
        };
        let mut serial = serial.clone();
        for path in serial.iter_mut().filter_map(|SerialConfig(target)| target.paths_mut()) {
            *path = absolute(path);
        }
        let config = MachineConfig {
            name: self.profile.name.clone(),
            cpus: cpus.clone(),
            interrupts: *interrupts,
            memory,
            numa: numa.clone(),
            boot: BootConfig {
                firmware: boot.firmware.as_ref().map(absolute),
                firmware_vars: boot.firmware_vars.as_ref().map(absolute),
                kernel: self.kernel.as_ref().map(absolute),
                initrd: boot.initrd.as_ref().map(absolute),
                cmdline: boot.cmdline.clone(),
                protocol: boot.protocol,
                modules: boot.modules.iter().map(module).collect(),
            },
            serial,
            hpet: *hpet,
            smbios: smbios.clone(),
            on_reboot: *on_reboot,
            hotplug: hotplug
                .as_ref()
                .map(|hotplug| HotplugConfig { socket: absolute(&hotplug.socket), ..hotplug.clone() }),
            devices: configs,
        };
        // The name was checked as the profile's.
        let wrong = config.check().into_iter().filter(|error| error.setting != "name");
        self.errors.extend(wrong.map(|ConfigError { setting, problem }| {
            let setting = format!("machine.{setting}");
            ConfigError { setting, problem }
        }));
        config
    }
}

/// Stands for the function of the device at `position` while nobody knows which one it is: no other device has it.
fn unknown(position: usize) -> PciAddress {
    let domain = u32::MAX - u32::try_from(position).unwrap_or(u32::MAX);
    PciAddress { domain, bus: 0, device: 0, function: 0 }
}
