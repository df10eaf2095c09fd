//! `cargo bench --bench probe`: `thruway probe` on a tree of 1,000 PCI functions, its time and its peak memory.
//!
//! The tree is laid out as sysfs is: functions behind root ports, named by links, each in an IOMMU group of its own,
//! with a whole configuration space; half of them carry a disk or a network interface; 200 processes have open files.
//! With `-- --keep DIR` the tree is built in DIR and left there, for a profiler to look at.
//! The limit is 0.3 s for the fastest of 10 runs in each format, and of 10 plans on this host; above it the benchmark fails.

use std::error::Error;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use thruway::host::pci::PciDevice;
use thruway::host::source::TreeSource;
use thruway::setup::goal::{DeviceGoal, Goal, Selector};
use thruway::setup::guard::Consents;
use thruway::setup::plan::plan;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

const PORTS: usize = 40;
const FUNCTIONS_PER_PORT: usize = 24;
const FUNCTIONS: usize = PORTS * (1 + FUNCTIONS_PER_PORT);
const PROCESSES: usize = 200;
const FILES_PER_PROCESS: usize = 16;
const RUNS: usize = 10;
const LIMIT: Duration = Duration::from_millis(300);

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<ExitCode> {
    let directory = tempfile::tempdir()?;
    let mut arguments = std::env::args().skip_while(|argument| argument != "--keep").skip(1);
    let kept = arguments.next().map(PathBuf::from);
    let root = kept.as_deref().unwrap_or(directory.path());
    Tree { root }.build()?;

    let mut passed = true;
    println!("thruway probe --root, {FUNCTIONS} PCI functions, {RUNS} runs each");
    for format in ["table", "json", "yaml"] {
        let before = processor_time()?;
        let mut times = (0..RUNS).map(|_| time(root, format)).collect::<Result<Vec<_>>>()?;
        let processor = (processor_time()? - before) / u32::try_from(RUNS)?;
        times.sort_unstable();
        let (Some(fastest), Some(median)) = (times.first(), times.get(RUNS / 2)) else { continue };
        passed &= *fastest <= LIMIT;
        println!(
            "  {format:<6} fastest {:>6.1} ms  median {:>6.1} ms  processor time {:>6.1} ms",
            millis(*fastest),
            millis(*median),
            millis(processor)
        );
    }
    let mut times = (0..RUNS).map(|_| time_plan(root)).collect::<Result<Vec<_>>>()?;
    times.sort_unstable();
    if let (Some(fastest), Some(median)) = (times.first(), times.get(RUNS / 2)) {
        passed &= *fastest <= LIMIT;
        println!("  plan   fastest {:>6.1} ms  median {:>6.1} ms", millis(*fastest), millis(*median));
    }
    let peak_kib = getrusage(UsageWho::RUSAGE_CHILDREN)?.max_rss();
    println!(
        "  peak resident memory {peak_kib} KiB; limit {:.0} ms: {}",
        millis(LIMIT),
        if passed { "kept" } else { "missed" }
    );
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Time that all children so far spent on a processor, in their own code and in the kernel for them.
fn processor_time() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(Duration::from_micros(u64::try_from(micros)?))
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn time(root: &Path, format: &str) -> Result<Duration> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_thruway"));
    command.arg("probe").arg("--root").arg(root).args(["--format", format]).stdout(Stdio::null());
    let start = Instant::now();
    let status = command.status()?;
    let time = start.elapsed();
    if status.success() { Ok(time) } else { Err(format!("thruway probe ended with {status}").into()) }
}

/// From nothing to a plan that binds what nobody uses, as `thruway plan` does it, which reads live hosts only.
fn time_plan(root: &Path) -> Result<Duration> {
    let start = Instant::now();
    let facts = thruway::host::collect(&TreeSource::open(root)?);
    let goal = |device: &PciDevice| Goal {
        devices: vec![DeviceGoal::new(Selector::Address(device.address), "vfio-pci".to_owned())],
        ..Goal::default()
    };
    let mut devices = facts.pci.functions().iter();
    let planned = devices.find_map(|device| plan(&facts, &goal(device), &Consents::default()).ok());
    let time = start.elapsed();
    if planned.is_some_and(|plan| !plan.is_empty()) {
        Ok(time)
    } else {
        Err("there was nothing to plan".into())
    }
}

struct Tree<'a> {
    root: &'a Path,
}

impl Tree<'_> {
    fn file(&self, path: &str, content: impl AsRef<[u8]>) -> Result<()> {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().ok_or("no parent")?)?;
        Ok(fs::write(path, content)?)
    }

    fn link(&self, path: &str, target: &str) -> Result<()> {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().ok_or("no parent")?)?;
        Ok(symlink(target, path)?)
    }

    fn build(&self) -> Result<()> {
        let mut group = 0;
        for port in 0..PORTS {
            let address = format!("0000:{:02x}:{:02x}.0", port / 32, port % 32);
            let above = format!("sys/devices/pci0000:00/{address}");
            self.function(&above, &address, group, 0x06_04_00, "pcieport")?;
            group += 1;
            for index in 0..FUNCTIONS_PER_PORT {
                let address = format!("0000:{:02x}:{:02x}.{}", port + 0x40, index / 8, index % 8);
                let directory = format!("{above}/{address}");
                match index % 4 {
                    0 => {
                        self.function(&directory, &address, group, 0x01_08_02, "nvme")?;
                        self.disk(&directory, group)?;
                    }
                    1 => {
                        self.function(&directory, &address, group, 0x02_00_00, "igb")?;
                        self.interface(&directory, group)?;
                    }
                    _ => self.function(&directory, &address, group, 0x02_00_00, "vfio-pci")?,
                }
                group += 1;
            }
        }
        self.host()
    }

    fn function(&self, directory: &str, address: &str, group: usize, class: u32, driver: &str) -> Result<()> {
        let texts = [
            ("vendor", "0x8086\n".to_owned()),
            ("device", format!("{:#06x}\n", 0x1000 + group)),
            ("subsystem_vendor", "0x8086\n".to_owned()),
            ("subsystem_device", "0x0001\n".to_owned()),
            ("class", format!("{class:#08x}\n")),
            ("driver_override", "(null)\n".to_owned()),
            ("numa_node", "0\n".to_owned()),
            ("reset_method", "flr pm bus\n".to_owned()),
            ("power_state", "D0\n".to_owned()),
            ("d3cold_allowed", "1\n".to_owned()),
            ("enable", "1\n".to_owned()),
            ("irq", "16\n".to_owned()),
            ("resource", "0x0 0x0 0x0\n".repeat(13)),
        ];
        for (name, text) in texts {
            self.file(&format!("{directory}/{name}"), text)?;
        }
        self.file(&format!("{directory}/config"), config(class == 0x06_04_00))?;
        self.link(&format!("{directory}/driver"), &format!("/sys/bus/pci/drivers/{driver}"))?;
        self.link(&format!("{directory}/iommu_group"), &format!("/sys/kernel/iommu_groups/{group}"))?;
        self.link(&format!("sys/bus/pci/devices/{address}"), &format!("../../../../{directory}"))?;
        let group = format!("sys/kernel/iommu_groups/{group}");
        self.link(&format!("{group}/devices/{address}"), &format!("../../../../../{directory}"))?;
        self.file(&format!("{group}/type"), "DMA-FQ\n")?;
        self.file(&format!("{group}/reserved_regions"), "0x00000000fee00000 0x00000000feefffff msi\n")
    }

    fn disk(&self, above: &str, number: usize) -> Result<()> {
        let name = format!("nvme{number}n1");
        let directory = format!("{above}/nvme/nvme{number}/{name}");
        self.file(&format!("{directory}/size"), "2097152\n")?;
        self.file(&format!("{directory}/dev"), format!("259:{number}\n"))?;
        fs::create_dir_all(self.root.join(format!("{directory}/holders")))?;
        self.link(&format!("sys/class/block/{name}"), &format!("../../../{directory}"))
    }

    fn interface(&self, above: &str, number: usize) -> Result<()> {
        let name = format!("eth{number}");
        let directory = format!("{above}/net/{name}");
        self.file(&format!("{directory}/flags"), "0x1003\n")?;
        self.file(&format!("{directory}/operstate"), "up\n")?;
        self.link(&format!("sys/class/net/{name}"), &format!("../../../{directory}"))
    }

    fn host(&self) -> Result<()> {
        for pid in 1..=PROCESSES {
            self.file(&format!("proc/{pid}/comm"), "daemon\n")?;
            for descriptor in 0..FILES_PER_PROCESS {
                self.link(&format!("proc/{pid}/fd/{descriptor}"), "socket:[12345]")?;
            }
        }
        self.link("proc/1/fd/99", "/dev/vfio/3")?;
        self.file("proc/self/mountinfo", "1 0 259:1 / / rw - ext4 /dev/nvme1n1 rw\n")?;
        self.file("proc/swaps", "Filename Type Size Used Priority\n")?;
        self.file("proc/net/route", "Iface Destination Gateway Flags RefCnt Use Metric Mask\n")?;
        self.file("proc/interrupts", "24: 1 IR-PCI-MSI-0000:00:1c.0 0-edge PCIe PME\n")?;
        self.link("sys/class/iommu/dmar0", "../../devices/virtual/iommu/dmar0")?;
        let list = Path::new("/usr/share/misc/pci.ids");
        if list.exists() {
            self.file("usr/share/misc/pci.ids", fs::read(list)?)?;
        }
        Ok(())
    }
}

/// A whole configuration space with six conventional and four extended capabilities.
fn config(bridge: bool) -> Vec<u8> {
    let mut config = vec![0_u8; 4096];
    let mut put = |offset: usize, bytes: &[u8]| {
        if let Some(place) = config.get_mut(offset..offset + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    };
    put(0x06, &[0x10]);
    put(0x0E, &[u8::from(bridge)]);
    put(0x34, &[0x40]);
    for (offset, id, next) in [
        (0x40, 0x01, 0x50),
        (0x50, 0x05, 0x70),
        (0x70, 0x11, 0xA0),
        (0xA0, 0x10, 0xE0),
        (0xE0, 0x03, 0xF0),
        (0xF0, 0x09, 0),
    ] {
        put(offset, &[id, next]);
    }
    for (offset, header) in
        [(0x100, 0x1401_0001_u32), (0x140, 0x1501_0003), (0x150, 0x1601_000E), (0x160, 0x0001_000D)]
    {
        put(offset, &header.to_le_bytes());
    }
    config
}
