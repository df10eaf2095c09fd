//! The chipset of a machine: which of its devices there are, where they lie, and whose line is whose.

use std::sync::Arc;

use super::{BuildError, process};
use crate::spec::acpi::{SCI, block};
use crate::vmm::Lifecycle;
use crate::vmm::boot::firmware::Placed;
use crate::vmm::bus::{Bus, BusDevice, RangeError};
use crate::vmm::chipset::clock::{Alarms, Clock, HostClock};
use crate::vmm::chipset::hpet::{HighPrecisionTimers, Hpet};
use crate::vmm::chipset::power::Power;
use crate::vmm::chipset::{debugcon, fw_cfg, hpet, i8042, port92, pvpanic, rtc, serial};
use crate::vmm::config::{MachineConfig, SerialConfig};
use crate::vmm::console::{Output, Wiring};
use crate::vmm::interrupt::irqchip::TIMER_INPUT;
use crate::vmm::interrupt::timer::{self, Timer};
use crate::vmm::interrupt::{Lines, ports};
use crate::vmm::layout;
use crate::vmm::pci::access::{CONFIG_PORTS, CONFIG_PORTS_LENGTH, ConfigPorts, Ecam};
use crate::vmm::vcpu::Shared;

/// Devices of the chipset, to be reset together.
pub(super) struct Chipset {
    pub(super) devices: Vec<Arc<dyn Lifecycle + Send + Sync>>,
    config_ports: Arc<ConfigPorts>,
    pub(super) firmware: Option<Placed>,
}

impl std::fmt::Debug for Chipset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chipset").field("devices", &self.devices.len()).finish_non_exhaustive()
    }
}

impl Chipset {
    /// The devices that every machine has, and the panic port where it is asked for.
    pub(super) fn new(shared: &Shared, has_pvpanic: bool) -> Result<Self, RangeError> {
        let config_ports = ConfigPorts::new(Arc::clone(&shared.root));
        let mut chipset = Self { devices: Vec::new(), config_ports, firmware: None };
        chipset.add(&shared.pio, port92::PORT.into(), 1, &Arc::new(port92::Port92::default()))?;
        if has_pvpanic {
            chipset.add(&shared.pio, pvpanic::PORT.into(), 1, &Arc::new(pvpanic::Pvpanic))?;
        }
        shared.pio.insert(CONFIG_PORTS, CONFIG_PORTS_LENGTH, Arc::clone(&chipset.config_ports) as _)?;
        let ecam = Ecam::new(Arc::clone(&shared.root));
        shared.mmio.insert(layout::ECAM.start, layout::ECAM.end - layout::ECAM.start, ecam)?;
        Ok(chipset)
    }

    /// Serial ports, with their consoles to be opened later.
    pub(super) fn add_serial_ports(
        &mut self,
        config: &MachineConfig,
        shared: &Shared,
        lines: &Lines,
        consoles: &mut Vec<Wiring>,
    ) -> Result<(), BuildError> {
        for (SerialConfig(target), (port, gsi)) in config.serial.iter().zip(serial::PORTS) {
            let output = Arc::new(Output::new().map_err(process("make an eventfd"))?);
            let serial = serial::Serial::new(lines.line(gsi), Arc::clone(&output));
            let serial = Arc::new(serial.map_err(process("make an eventfd"))?);
            self.add(&shared.pio, port.into(), serial::LENGTH, &serial)?;
            consoles.push(Wiring { target: target.clone(), output, receiver: serial });
        }
        Ok(())
    }

    /// The devices that have an interrupt line, and those in which something becomes due by itself.
    pub(super) fn add_interrupting(
        &mut self,
        config: &MachineConfig,
        shared: &Shared,
        lines: &Lines,
        timer: Option<Arc<Timer>>,
    ) -> Result<Arc<Power>, BuildError> {
        let clock: Arc<dyn Clock> = Arc::new(HostClock::default());
        let alarms = Arc::new(Alarms::new().map_err(process("start the clock"))?);
        let power = Power::new(Arc::clone(&clock), lines.line(SCI.into()), alarms.waker());
        let power = Arc::new(power);
        self.add(&shared.pio, layout::PM_BASE.into(), block::LENGTH.into(), &power)?;
        alarms.add(&power);
        let on_alarm = Box::new({
            let power = Arc::clone(&power);
            move || power.rtc_alarm()
        });
        let rtc = Arc::new(rtc::Rtc::new(Arc::clone(&clock), lines.line(rtc::GSI), alarms.waker(), on_alarm));
        self.add(&shared.pio, rtc::INDEX_PORT.into(), 2, &rtc)?;
        alarms.add(&rtc);
        if config.hpet == Hpet::Present {
            let line = |input: u8| {
                lines.line(if u32::from(input) == TIMER_INPUT { timer::GSI } else { input.into() })
            };
            let on_legacy = Box::new({
                let irqchip = shared.irqchip.clone();
                move |on| {
                    rtc.disconnect(on);
                    irqchip.silence_timer(on);
                    if let Some(timer) = &timer {
                        timer.silence(on);
                    }
                }
            });
            let hpet = Arc::new(HighPrecisionTimers::new(clock, line, alarms.waker(), on_legacy));
            self.add(&shared.mmio, hpet::BASE, hpet::LENGTH, &hpet)?;
            alarms.add(&hpet);
        }
        let (keyboard, mouse) = (lines.line(i8042::KEYBOARD_GSI), lines.line(i8042::MOUSE_GSI));
        let i8042 = Arc::new(i8042::I8042::new(keyboard, mouse));
        i8042.insert(&shared.pio)?;
        self.devices.push(i8042);
        self.devices.push(alarms);
        Ok(power)
    }

    /// The interrupt chips that are not in the kernel, and the timer that comes with them.
    pub(super) fn add_interrupt_chips(
        &mut self,
        shared: &Shared,
        lines: &Lines,
    ) -> Result<Option<Arc<Timer>>, BuildError> {
        let Some(chips) = shared.irqchip.chips() else { return Ok(None) };
        ports::insert(chips, &shared.pio, &shared.mmio)?;
        chips.on_asking({
            let control = Arc::clone(&shared.control);
            move || control.wake_first()
        });
        let timer = Timer::new(lines.line(timer::GSI)).map_err(process("start the timer"))?;
        timer.insert(&shared.pio)?;
        let timer = Arc::new(timer);
        self.devices.push(Arc::clone(&timer) as _);
        Ok(Some(timer))
    }

    /// What only firmware looks at: where it lies, and what it is told.
    pub(super) fn add_firmware(
        &mut self,
        shared: &Shared,
        firmware: Placed,
        fw_cfg: fw_cfg::FwCfg,
    ) -> Result<(), RangeError> {
        self.add(&shared.pio, fw_cfg::PORT.into(), fw_cfg::PORTS, &Arc::new(fw_cfg))?;
        self.add(&shared.pio, debugcon::PORT.into(), 1, &Arc::new(debugcon::DebugConsole::default()))?;
        if let Some(flash) = &firmware.flash {
            self.add(&shared.mmio, flash.address(), flash.size_bytes(), flash)?;
        }
        self.firmware = Some(firmware);
        Ok(())
    }

    pub(super) fn add<D: BusDevice + Lifecycle + 'static>(
        &mut self,
        bus: &Bus,
        start: u64,
        length: u64,
        device: &Arc<D>,
    ) -> Result<(), RangeError> {
        bus.insert(start, length, Arc::clone(device) as _)?;
        self.devices.push(Arc::clone(device) as _);
        Ok(())
    }

    pub(super) fn reset(&self) {
        for device in &self.devices {
            device.reset();
        }
        self.config_ports.reset();
    }
}
