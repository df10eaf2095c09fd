//! A host function as a function of the machine: joins the virtual configuration space, BARs and interrupts.
//!
//! The device's own BARs stay decoded all the time; the guest's decode bits and power state decide what is mapped into the
//! guest. A reset that the guest asks for (function level reset) is carried out by the kernel, and our registers go back to
//! their values after power-on with it, as those of hardware would.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::spec::pci::{BAR_COUNT, Command, PciAddress, ROM_BAR, header};
use crate::sys::vfio::Interrupt;
use crate::vmm::Lifecycle;
use crate::vmm::bus::{AccessSize, Effects};
use crate::vmm::pci::msi::Msi;
use crate::vmm::pci::msix::MsixTable;
use crate::vmm::pci::rom::Rom;
use crate::vmm::pci::{Bar, BarKind, FunctionContext, PciFunction};
use crate::vmm::vfio::bars;
use crate::vmm::vfio::config::{
    BarRegister, HardwareConfig, Limits, Touched, VirtualConfig, header_fault, lay_out,
};
use crate::vmm::vfio::device::{CONFIG_REGION, HostFunction};
use crate::vmm::vfio::error::VfioError;
use crate::vmm::vfio::interrupts::{Interrupts, MsiUser, MsixUser};
use crate::vmm::vfio::{quirks, rom};

/// A passed-through function.
pub(super) struct VfioFunction {
    label: String,
    /// Before `host`, so that no mapping keeps the device open when it is closed.
    bars: [Option<Bar>; BAR_COUNT],
    rom: Option<Bar>,
    msi: Option<Msi>,
    msix: Option<Arc<MsixTable>>,
    interrupts: Arc<Interrupts>,
    host: Arc<dyn HostFunction>,
    /// Order: before the MSI and MSI-X tables' state.
    config: Mutex<VirtualConfig>,
}

/// The device's configuration space through VFIO.
struct Hardware<'a> {
    label: &'a str,
    host: &'a dyn HostFunction,
}

impl HardwareConfig for Hardware<'_> {
    fn read(&self, offset: u16, size: AccessSize) -> u32 {
        let mut data = [0; 4];
        let part = data.get_mut(..size.bytes().min(4)).unwrap_or_default();
        match self.host.read(CONFIG_REGION, u64::from(offset), part) {
            Ok(()) => u32::from_le_bytes(data),
            Err(error) => {
                tracing::debug!(function = self.label, offset, %error, "configuration read failed");
                u32::MAX
            }
        }
    }

    fn write(&self, offset: u16, size: AccessSize, value: u32) {
        let data = value.to_le_bytes();
        let part = data.get(..size.bytes().min(4)).unwrap_or_default();
        if let Err(error) = self.host.write(CONFIG_REGION, u64::from(offset), part) {
            tracing::debug!(function = self.label, offset, %error, "configuration write failed");
        }
    }
}

impl VfioFunction {
    /// Takes over the opened function at `address`: resets it, lays out its registers and enables INTx.
    pub(super) fn new(
        address: PciAddress,
        host: Arc<dyn HostFunction>,
        context: FunctionContext,
    ) -> Result<Arc<Self>, VfioError> {
        let label = format!("vfio({address})");
        let failed = |action| move |source| VfioError::Device { address, action, source };
        if host.resettable() {
            host.reset().map_err(failed("reset it"))?;
        } else {
            let neighbours: Vec<String> = host.reset_neighbours().iter().map(ToString::to_string).collect();
            tracing::warn!(
                function = label,
                bus_reset_would_hit = neighbours.join(", "),
                "the kernel cannot reset this function alone: it starts in the state in which its last user left it"
            );
        }
        let size = usize::try_from(host.region(CONFIG_REGION).size).unwrap_or(0).min(4096);
        let mut image = vec![0; size];
        host.read(CONFIG_REGION, 0, &mut image).map_err(failed("read its configuration space"))?;
        if let Some(reason) = header_fault(&image) {
            return Err(VfioError::Unsuitable { address, reason });
        }
        let registers = bar_registers(&image, &*host);
        let rom = match &context.rom {
            Rom::Own => rom::of_device(&label, &host),
            Rom::Hidden => None,
            Rom::Image(image) => Some(image.bar()),
        };
        let rom_size = rom.as_ref().map(|rom| rom.size);

        let messages = context.msi.route().is_ok();
        let limits = Limits {
            msi_vectors: if messages { host.interrupt_info(Interrupt::Msi).count } else { 0 },
            msix_vectors: if messages { host.interrupt_info(Interrupt::MsiX).count } else { 0 },
            intx: host.interrupt_info(Interrupt::Intx).count > 0,
            reset: host.resettable(),
        };
        let impossible =
            |_| VfioError::Unsuitable { address, reason: "has a BAR of a size that PCI does not know" };
        let mut config = lay_out(&image, &registers, rom_size, limits).map_err(impossible)?;
        let mut msix = msix_table(&config, &registers, &image, &context);
        if config.places().msix.is_some() && msix.is_none() {
            tracing::warn!(
                function = label,
                "MSI-X hidden: its table does not lie within the function's BARs"
            );
            let limits = Limits { msix_vectors: 0, ..limits };
            config = lay_out(&image, &registers, rom_size, limits).map_err(impossible)?;
        }
        let interrupts = Interrupts::new(label.clone(), Arc::clone(&host), context.intx);
        let msi = config.places().msi.map(|(offset, control)| {
            let msi = Msi::new(control, Arc::clone(&context.msi));
            config.define_capability(offset, &msi.capability());
            msi.set_user(Box::new(MsiUser(Arc::clone(&interrupts))));
            msi
        });
        if let Some((table, _)) = &msix {
            table.set_user(Box::new(MsixUser(Arc::clone(&interrupts))));
        }
        let (msix, overlays) = msix.take().unzip();
        let hardware = Hardware { label: &label, host: &*host };
        hardware.write(header::COMMAND, AccessSize::Word, u32::from(config.hardware_command().bits()));
        let bars = bars::build(&host, &registers, &overlays.unwrap_or_default());
        if config.has_intx() && !interrupts.offer_intx() {
            config.drop_intx();
        }
        let sends = [Interrupt::Msi, Interrupt::MsiX].iter().any(|kind| host.interrupt_info(*kind).count > 0);
        if sends && !messages && !config.has_intx() {
            let reason = "interrupts by messages alone, and a machine without an APIC (`interrupts: userspace`) takes none";
            return Err(VfioError::Unsuitable { address, reason });
        }
        Ok(Arc::new(Self { label, bars, rom, msi, msix, interrupts, host, config: Mutex::new(config) }))
    }

    fn lock(&self) -> MutexGuard<'_, VirtualConfig> {
        self.config.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hardware(&self) -> Hardware<'_> {
        Hardware { label: &self.label, host: &*self.host }
    }

    fn write_command(&self, command: Command) {
        self.hardware().write(header::COMMAND, AccessSize::Word, u32::from(command.bits()));
    }

    /// Stops interrupts and DMA, then resets the device. Our own registers stay as they are.
    fn quiesce_and_reset(&self) {
        if let Some(msi) = &self.msi {
            msi.reset();
        }
        if let Some(msix) = &self.msix {
            msix.reset();
        }
        self.interrupts.disable();
        self.write_command(Command::IO | Command::MEMORY);
        if self.host.resettable()
            && let Err(error) = self.host.reset()
        {
            tracing::error!(function = self.label, %error, "reset failed; the function keeps its state");
        }
    }

    /// The whole function as after power-on.
    fn reset_locked(&self, config: &mut VirtualConfig) {
        self.quiesce_and_reset();
        config.reset();
        self.write_command(config.hardware_command());
        self.interrupts.use_intx();
    }

    /// Follows the guest's interrupt registers.
    fn follow_interrupts(&self, config: &VirtualConfig, touched: Touched) {
        if touched.msi
            && let (Some(msi), Some((offset, _))) = (&self.msi, config.places().msi)
        {
            msi.update(config.space(), offset);
        }
        if touched.msix
            && let Some(msix) = &self.msix
        {
            msix.set_control(config.msix_control());
            if msix.enabled() {
                self.interrupts.enter_msix();
            }
        }
        if touched.msi || touched.msix {
            self.interrupts.use_intx();
        }
    }
}

/// The BARs of a function; the upper half of a 64-bit BAR is no BAR of its own.
fn bar_registers(image: &[u8], host: &dyn HostFunction) -> Vec<BarRegister> {
    let mut registers: Vec<BarRegister> = Vec::new();
    for index in 0..BAR_COUNT {
        let upper_half = registers
            .last()
            .is_some_and(|last| matches!(last.kind, BarKind::Memory64 { .. }) && last.index + 1 == index);
        if !upper_half && let Some(register) = BarRegister::new(image, index, host.region(index).size) {
            registers.push(register);
        }
    }
    registers
}

/// The MSI-X table of a function with what it lays over the BARs; `None` if there is none, or none where it says.
fn msix_table(
    config: &VirtualConfig,
    registers: &[BarRegister],
    image: &[u8],
    context: &FunctionContext,
) -> Option<(Arc<MsixTable>, Vec<bars::Overlay>)> {
    let facts = config.places().msix?;
    let table = MsixTable::new(facts.vectors, Arc::clone(&context.msi));
    if let Some(overlays) = bars::msix_overlays(&table, facts.place, registers) {
        return Some((table, overlays));
    }
    let [vendor0, vendor1, device0, device1, ..] = image else { return None };
    let (vendor, device) =
        (u16::from_le_bytes([*vendor0, *vendor1]), u16::from_le_bytes([*device0, *device1]));
    let mut place = facts.place;
    place.pba_offset = quirks::pending_bits_offset(vendor, device)?;
    let overlays = bars::msix_overlays(&table, place, registers)?;
    Some((table, overlays))
}

impl PciFunction for VfioFunction {
    fn label(&self) -> &str {
        &self.label
    }

    fn config_read(&self, offset: u16, size: AccessSize) -> u32 {
        let mut config = self.lock();
        if let Some(msi) = &self.msi {
            config.refresh_msi(msi);
        }
        config.read(offset, size, &self.hardware())
    }

    fn config_write(&self, offset: u16, size: AccessSize, value: u32) -> Effects {
        let mut config = self.lock();
        let (effects, touched) = config.write(offset, size, value, &self.hardware());
        if touched.reset {
            tracing::info!(function = self.label, "function level reset");
            self.reset_locked(&mut config);
            return effects | Effects::REMAP_BARS;
        }
        if touched.command {
            self.write_command(config.hardware_command());
        }
        self.follow_interrupts(&config, touched);
        effects
    }

    fn bar(&self, index: usize) -> Option<Bar> {
        if index == ROM_BAR {
            return self.rom.clone();
        }
        self.bars.get(index).cloned().flatten()
    }

    fn bar_address(&self, index: usize) -> u64 {
        self.lock().space().bar_address(index)
    }

    fn decode(&self) -> Command {
        self.lock().decode()
    }
}

impl Lifecycle for VfioFunction {
    fn reset(&self) {
        self.reset_locked(&mut self.lock());
    }
}

impl Drop for VfioFunction {
    /// The host gets the function back quiet and reset, whichever way the machine ended.
    fn drop(&mut self) {
        self.quiesce_and_reset();
    }
}

#[cfg(test)]
mod tests;
