//! The hot-plug controller of a root port's slot: attention button, power, presence, and how it interrupts.
//!
//! PCIe 6.0, 6.7 and 7.5.3.9 to 7.5.3.11. The registers stand in the port's configuration space; [`HotPlug::settle`] brings
//! them and the interrupt in line with each other after whatever changed. The slot has no latch and no power faults, and
//! acts on Slot Control at once.
//!
//! A guest that was asked to let a device go says that it did by its power: it switches it off, or where the slot has no
//! switch, the power indicator.

use std::fmt;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vmm_sys_util::eventfd::EventFd;

use crate::spec::pci::{Command, Status, header, msi};
use crate::spec::pcie::{express, link, slot};
use crate::vmm::bus::AccessSize;
use crate::vmm::interrupt::{InterruptLine, MsiSink};
use crate::vmm::pci::config_space::{ConfigSpace, ConfigSpaceError, touches};
use crate::vmm::pci::msi::Msi;

/// INTA#.
const PIN_A: u8 = 1;

/// Who switches a slot's power.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Power {
    /// Nobody: a device that comes has a link at once, and the guest takes it.
    #[default]
    Always,
    /// The guest, by a power controller. It has an empty slot without power, and Linux turns that on five seconds after the
    /// button was pressed.
    Switched,
}

/// What a slot's controller reaches the outside by.
pub struct Wiring {
    /// Who switches its power.
    pub power: Power,
    /// Where its messages go.
    pub msi: Arc<dyn MsiSink>,
    /// Its line, where the guest takes no messages.
    pub intx: InterruptLine,
    /// Signalled when the guest let the device go.
    pub let_go: Arc<EventFd>,
}

impl fmt::Debug for Wiring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wiring").field("intx", &self.intx).finish_non_exhaustive()
    }
}

/// A slot's controller.
pub(super) struct HotPlug {
    /// Where the Express capability begins.
    express: u16,
    /// With where its capability begins; none where the machine takes no messages.
    msi: Option<(Msi, u16)>,
    intx: InterruptLine,
    let_go: Arc<EventFd>,
    power: Power,
    /// As of the last look.
    was_let_go: bool,
    /// Something that was allowed to interrupt did not go away yet.
    requested: bool,
}

impl fmt::Debug for HotPlug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HotPlug").field("requested", &self.requested).finish_non_exhaustive()
    }
}

impl HotPlug {
    /// The controller of the slot whose Express capability begins at `at`; adds what it needs to `config`.
    pub(super) fn new(config: &mut ConfigSpace, at: u16, wiring: Wiring) -> Result<Self, ConfigSpaceError> {
        let Wiring { power, msi: sink, intx, let_go } = wiring;
        let changes = slot::BUTTON | slot::PRESENCE_CHANGED | slot::LINK_CHANGED;
        config.set_write_one_clears(at + express::SLOT_STATUS, &changes.to_le_bytes());
        config.define(header::INTERRUPT_PIN, &[PIN_A]);
        let msi = sink.route().is_ok().then(|| Msi::new(msi::control::ADDRESS_64, sink));
        let msi = match msi {
            Some(msi) => {
                let offset = config.add_capability(&msi.capability())?;
                Some((msi, offset))
            }
            None => None,
        };
        Ok(Self { express: at, msi, intx, let_go, power, was_let_go: true, requested: false })
    }

    /// Follows the guest's write of `size` at `offset`.
    pub(super) fn follow(&mut self, config: &mut ConfigSpace, offset: u16, size: AccessSize) {
        if let Some((msi, at)) = &self.msi
            && touches(offset, size, *at, msi.length())
        {
            msi.update(config, *at);
        }
        if touches(offset, size, self.express + express::SLOT_CONTROL, 4)
            || touches(offset, size, header::COMMAND, 2)
        {
            self.settle(config);
        }
    }

    fn control(&self, config: &ConfigSpace) -> u16 {
        word(config, self.express + express::SLOT_CONTROL)
    }

    /// Whether the guest uses nothing of what is in the slot, and says so.
    pub(super) fn is_let_go(&self, config: &ConfigSpace) -> bool {
        let control = self.control(config);
        match self.power {
            Power::Always => control & slot::POWER_INDICATOR == slot::POWER_INDICATOR_OFF,
            Power::Switched => control & slot::POWER_OFF != 0,
        }
    }

    /// Whether there is a device in the slot.
    pub(super) fn is_present(&self, config: &ConfigSpace) -> bool {
        word(config, self.express + express::SLOT_STATUS) & slot::PRESENT != 0
    }

    /// Whether there is a device in the slot, with power.
    pub(super) fn is_up(&self, config: &ConfigSpace) -> bool {
        word(config, self.express + link::STATUS) & link::ACTIVE != 0
    }

    /// A device came into the slot, or left it. Where the guest waits for the button, that is pressed for one that came.
    pub(super) fn set_presence(&mut self, config: &mut ConfigSpace, present: bool) {
        let at = self.express + express::SLOT_STATUS;
        let status = word(config, at);
        if (status & slot::PRESENT != 0) != present {
            let state = if present { status | slot::PRESENT } else { status & !slot::PRESENT };
            config.set(at, &(state | slot::PRESENCE_CHANGED).to_le_bytes());
        }
        self.settle(config);
        if present && !self.is_up(config) && self.control(config) & slot::PRESENCE_CHANGED == 0 {
            self.press_button(config);
        }
    }

    /// Presses the button, which asks the guest to let the device go; nothing happens where the guest does not listen to it.
    /// Whether it does.
    pub(super) fn press_button(&mut self, config: &mut ConfigSpace) -> bool {
        let listening = slot::INTERRUPT | slot::BUTTON;
        let listens = self.control(config) & listening == listening;
        if listens {
            let at = self.express + express::SLOT_STATUS;
            config.set(at, &(word(config, at) | slot::BUTTON).to_le_bytes());
            self.settle(config);
        }
        listens
    }

    /// After power-on, with a slot that is full or empty; `config` was reset. The guest is told of nothing.
    pub(super) fn reset(&mut self, config: &mut ConfigSpace, present: bool) {
        if let Some((msi, _)) = &self.msi {
            msi.reset();
        }
        let status = if present { slot::PRESENT } else { 0 };
        let at = self.express + express::SLOT_STATUS;
        config.set(at, &status.to_le_bytes());
        if present {
            // As firmware leaves a slot whose device it found.
            let control = self.control(config) & !slot::POWER_INDICATOR | slot::POWER_INDICATOR_ON;
            config.set(self.express + express::SLOT_CONTROL, &control.to_le_bytes());
        }
        self.settle(config);
        // That the link came up is no change for a guest that starts.
        config.set(at, &status.to_le_bytes());
    }

    /// The link follows power and presence, the interrupt what changed.
    fn settle(&mut self, config: &mut ConfigSpace) {
        let (link_at, status_at) = (self.express + link::STATUS, self.express + express::SLOT_STATUS);
        let present = self.is_present(config);
        let up = present && (self.power == Power::Always || self.control(config) & slot::POWER_OFF == 0);
        let link_status = word(config, link_at);
        if (link_status & link::ACTIVE != 0) != up {
            config.set(link_at, &(link_status ^ link::ACTIVE).to_le_bytes());
            config.set(status_at, &(word(config, status_at) | slot::LINK_CHANGED).to_le_bytes());
        }
        let let_go = self.is_let_go(config);
        if let_go && !self.was_let_go && present {
            // Full only if nobody has looked for very long, and then it is readable already.
            drop(self.let_go.write(1));
        }
        self.was_let_go = let_go;
        let (status, control) = (word(config, status_at), self.control(config));
        let mut causes = status & control & (slot::BUTTON | slot::PRESENCE_CHANGED);
        if status & slot::LINK_CHANGED != 0 && control & slot::LINK_CHANGED_ENABLE != 0 {
            causes |= slot::LINK_CHANGED;
        }
        let requested = causes != 0 && control & slot::INTERRUPT != 0;
        let by_message = self.msi.as_ref().filter(|(msi, _)| msi.enabled());
        match by_message {
            Some((msi, _)) if requested && !self.requested => msi.signal(0),
            _ => {}
        }
        let by_line = requested && by_message.is_none();
        self.intx.set_level(by_line && !config.command().contains(Command::INTX_DISABLE));
        let [mut low, _] = word(config, header::STATUS).to_le_bytes();
        let [pending, _] = Status::INTERRUPT.bits().to_le_bytes();
        low = if by_line { low | pending } else { low & !pending };
        config.set(header::STATUS, &[low]);
        self.requested = requested;
    }
}

fn word(config: &ConfigSpace, offset: u16) -> u16 {
    let [low, high, ..] = config.read(offset, AccessSize::Word).to_le_bytes();
    u16::from_le_bytes([low, high])
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Mutex;

    use super::*;
    use crate::sys::event::is_signalled;
    use crate::vmm::bus::Effects;
    use crate::vmm::interrupt::{Connection, LineController, MsiMessage};
    use crate::vmm::pci::root_port::RootPort;
    use crate::vmm::pci::vector::testing::{Call, RecordingSink};
    use crate::vmm::pci::{PciFunction, capability};
    use crate::vmm::{Lifecycle, Unsupported};

    #[derive(Default)]
    struct Levels(Mutex<Vec<bool>>);

    impl LineController for Levels {
        fn set_level(&self, _: u32, high: bool) -> io::Result<()> {
            self.0.lock().unwrap().push(high);
            Ok(())
        }
        fn connect(&self, _: u32, _: &EventFd, _: &EventFd) -> Result<Connection, Unsupported> {
            Err(Unsupported)
        }
    }

    struct Bench {
        port: RootPort,
        sink: RecordingSink,
        levels: Arc<Levels>,
        let_go: Arc<EventFd>,
        express: u16,
        msi: u16,
    }

    impl Bench {
        fn new(power: Power) -> Self {
            let (sink, levels) = (RecordingSink::default(), Arc::new(Levels::default()));
            let let_go = Arc::new(EventFd::new(libc::EFD_NONBLOCK).unwrap());
            let wiring = Wiring {
                power,
                msi: Arc::new(sink.clone()),
                intx: InterruptLine::new(16, Arc::clone(&levels) as _),
                let_go: Arc::clone(&let_go),
            };
            let port = RootPort::with_hot_plug(2, wiring).unwrap();
            let (express, msi) = (capability_of(&port, 0x10), capability_of(&port, 0x05));
            sink.take();
            Self { port, sink, levels, let_go, express, msi }
        }

        fn write(&self, register: u16, value: u16) -> Effects {
            self.port.config_write(register, AccessSize::Word, value.into())
        }

        fn control(&self, value: u16) -> Effects {
            self.write(self.express + express::SLOT_CONTROL, value)
        }

        fn status(&self) -> u16 {
            let value = self.port.config_read(self.express + express::SLOT_STATUS, AccessSize::Word);
            u16::try_from(value).unwrap()
        }

        fn link_is_active(&self) -> bool {
            let value = self.port.config_read(self.express + link::STATUS, AccessSize::Word);
            value & u32::from(link::ACTIVE) != 0
        }

        fn enable_messages(&self) {
            let _ = self.port.config_write(self.msi + msi::ADDRESS, AccessSize::Dword, 0xFEE0_0000);
            let _ = self.write(self.msi + msi::CONTROL, msi::control::ENABLE);
        }

        fn messages(&self) -> usize {
            let message = MsiMessage { address: 0xFEE0_0000, data: 0 };
            self.sink.take().iter().filter(|call| **call == Call::Signal(message)).count()
        }
    }

    fn image(port: &RootPort) -> Vec<u8> {
        (0..0x100).map(|at| port.config_read(at, AccessSize::Byte).to_le_bytes()[0]).collect()
    }

    fn capability_of(port: &RootPort, id: u8) -> u16 {
        let found = capability::capabilities(&image(port)).into_iter().find(|entry| entry.id.0 == id);
        found.unwrap().offset
    }

    #[test]
    fn firmware_keeps_memory_and_no_ports_for_a_slot() {
        let port = Bench::new(Power::Always).port;
        let (image, start) = (image(&port), usize::from(capability_of(&port, 0x09)));
        assert_eq!(image[start + 2..][..2], [32, 1], "length and type");
        assert_eq!(image[start + 4..][..28], [[0xFF; 4].as_slice(), &[0; 8], &[0xFF; 16]].concat());
    }

    const LISTEN: u16 = slot::INTERRUPT | slot::BUTTON | slot::PRESENCE_CHANGED | slot::LINK_CHANGED_ENABLE;

    const ON: u16 = LISTEN | slot::POWER_INDICATOR_ON;

    #[test]
    fn a_device_that_comes_has_a_link_and_is_told_by_one_message_until_the_guest_has_read_of_it() {
        let bench = Bench::new(Power::Always);
        bench.enable_messages();
        let _ = bench.control(LISTEN | slot::INDICATORS_OFF);
        assert_eq!((bench.status(), bench.messages()), (0, 0));
        bench.port.set_presence(true);
        assert_eq!(bench.status(), slot::PRESENT | slot::PRESENCE_CHANGED | slot::LINK_CHANGED);
        assert_eq!((bench.messages(), bench.link_is_active(), bench.port.is_up()), (1, true, true));
        bench.port.set_presence(true);
        assert_eq!(bench.messages(), 0);
        let _ = bench.write(bench.express + express::SLOT_STATUS, !0);
        assert_eq!(bench.status(), slot::PRESENT);
        bench.port.set_presence(false);
        assert_eq!((bench.status(), bench.messages()), (slot::PRESENCE_CHANGED | slot::LINK_CHANGED, 1));
        assert!(!bench.link_is_active() && !bench.port.is_up() && !is_signalled(&bench.let_go));
        assert!(bench.levels.0.lock().unwrap().is_empty(), "not by the line as well");
    }

    #[test]
    fn the_button_asks_and_the_power_indicator_answers() {
        let bench = Bench::new(Power::Always);
        bench.port.fill();
        assert_eq!(
            (bench.status(), bench.port.is_up(), bench.port.is_let_go()),
            (slot::PRESENT, true, false)
        );
        assert!(!bench.port.press_button(), "nobody listens");
        assert_eq!(bench.status(), slot::PRESENT);
        bench.enable_messages();
        let _ = bench.control(ON);
        assert!(bench.port.press_button());
        assert_eq!((bench.status() & slot::BUTTON, bench.messages()), (slot::BUTTON, 1));
        assert!(!is_signalled(&bench.let_go));
        let _ = bench.control(LISTEN | slot::POWER_INDICATOR_OFF);
        assert!(is_signalled(&bench.let_go) && bench.port.is_let_go() && bench.port.is_up());
    }

    #[test]
    fn a_guest_that_switches_power_is_asked_by_the_button_and_answers_by_the_switch() {
        let bench = Bench::new(Power::Switched);
        bench.enable_messages();
        let deaf_to_presence = LISTEN & !slot::PRESENCE_CHANGED;
        let _ = bench.control(deaf_to_presence | slot::POWER_OFF);
        bench.port.set_presence(true);
        assert_eq!(bench.status(), slot::PRESENT | slot::PRESENCE_CHANGED | slot::BUTTON);
        assert_eq!((bench.messages(), bench.link_is_active(), bench.port.is_up()), (1, false, false));
        let _ = bench.write(bench.express + express::SLOT_STATUS, !0);
        // With power the link comes up, which is an event of its own and makes the device reachable.
        assert!(bench.control(deaf_to_presence).contains(Effects::REMAP_BARS));
        assert_eq!(bench.status(), slot::PRESENT | slot::LINK_CHANGED);
        assert_eq!((bench.messages(), bench.link_is_active(), bench.port.is_up()), (1, true, true));
        assert!(!is_signalled(&bench.let_go) && !bench.port.is_let_go());
        let _ = bench.control(LISTEN | slot::POWER_OFF);
        assert!(is_signalled(&bench.let_go) && !bench.port.is_up());
    }

    #[test]
    fn without_messages_the_line_is_high_as_long_as_something_is_to_be_read() {
        let bench = Bench::new(Power::Always);
        let _ = bench.control(LISTEN);
        bench.port.set_presence(true);
        let pending = u32::from(Status::INTERRUPT.bits());
        assert_eq!(bench.port.config_read(header::STATUS, AccessSize::Word) & pending, pending);
        let _ = bench.write(header::COMMAND, Command::INTX_DISABLE.bits());
        let _ = bench.write(header::COMMAND, 0);
        let _ = bench.write(bench.express + express::SLOT_STATUS, !0);
        assert_eq!(*bench.levels.0.lock().unwrap(), [true, false, true, false]);
        assert_eq!(bench.port.config_read(header::STATUS, AccessSize::Word) & pending, 0);
    }

    #[test]
    fn a_reset_gives_power_and_leaves_the_slot_as_full_as_it_is() {
        let bench = Bench::new(Power::Switched);
        bench.enable_messages();
        let _ = bench.control(LISTEN | slot::POWER_OFF);
        bench.port.set_presence(true);
        bench.port.reset();
        assert_eq!((bench.status(), bench.port.is_up()), (slot::PRESENT, true));
        bench.sink.take();
        bench.port.set_presence(false);
        assert_eq!(bench.sink.take(), [], "nobody listens after a reset");
        bench.port.reset();
        assert_eq!((bench.status(), bench.port.is_up()), (0, false));
    }
}
