//! The board under a Linux guest: the clock interrupts, keys arrive, the power button shuts it down, consoles are where they were
//! asked for, interrupt pins reach it by either controller; what its tools show, and what its kernel complains of. Xen and
//! memtest86+ start, too.

use std::path::{Path, PathBuf};
use std::process::Command;

use thruway::rehearse::Options;

use super::{Lab, Run};
use crate::support::skip;

/// In the guest, which has programs of the emulated host as well.
const GUEST: &str = r#"
export PATH=$PATH:/usr/sbin:/usr/bin
mkdir -p /tmp/said
cd /tmp/said
/usr/bin/lspci -n -vvv >lspci 2>/dev/null
dmidecode >dmidecode
acpidump >acpidump
hwclock.host -u -r >hwclock
dmesg >dmesg
cp /proc/iomem /proc/ioports /proc/interrupts .
tar c . >/dev/vda
echo "complaints begin"
dmesg -r | grep -E '^<[0-4]>'
echo "complaints end"
grep -h ^N: /proc/bus/input/devices
echo "tables $(ls /sys/firmware/acpi/tables | tr '\n' ' ')"
echo "clocksources $(cat /sys/devices/system/clocksource/clocksource0/available_clocksource)"
echo "second $(cat /sys/class/tty/ttyS1/port 2>/dev/null)"
echo "by the second port" >/dev/ttyS1
# Open throughout: what waits in a terminal goes when its last user does.
exec 7<>/dev/hvc0
echo "by the first console" >&7
echo "listening"
read -r typed <&7
echo "typed $typed"
# The clock: what it tells is what was set, and its alarm comes
hwclock -u -w && echo "behind $(($(date +%s) - $(cat /sys/class/rtc/rtc0/since_epoch)))"
# By its interrupt, or by ACPI's event: where Linux has high precision timers, it takes the latter.
count() { awk '/ rtc0$/ { sum += $2 } FILENAME ~ /ff_rt_clk/ { sum += $1 } END { print sum }' /proc/interrupts /sys/firmware/acpi/interrupts/ff_rt_clk; }
before=$(count)
echo +2 >/sys/class/rtc/rtc0/wakealarm
for i in $(seq 100); do
    [ "$(count)" = "$before" ] || break
    sleep 0.1
done
echo "alarms $(($(count) - before))"
modprobe evdev
input() { echo "/dev/input/$(grep -A5 "N: Name=\"$1\"" /proc/bus/input/devices | sed -n 's/.*\(event[0-9]*\).*/\1/p')"; }
# As if the key A were struck: the controller hands on what it is told to (command D2h). Type, code and value of each event.
exec 8<"$(input "AT Translated Set 2 keyboard")"
port() { printf "$2" | dd of=/dev/port bs=1 seek=$1 2>/dev/null; }
port 100 '\322'
port 96 '\036'
echo "key $(head -c 72 <&8 | hexdump -v -e '12/2 "%04x " "\n"' | cut -d' ' -f9-11 | tr '\n' ',')"
port 100 '\322'
port 96 '\236'
button() { awk '{ print $1 }' /sys/firmware/acpi/interrupts/ff_pwr_btn; }
echo "ready"
head -c 24 "$(input "Power Button")" >/dev/null
echo "button $(button)"
"#;

/// In the emulated host, behind a line that sets `$HPET`. The guest gets programs of this machine behind its own files.
const HOST: &str = r#"
mkdir -p /tmp/tools/usr/sbin
cd /tmp/tools
for tool in lspci dmidecode acpidump hwclock; do
    path=$(PATH=/usr/sbin:/usr/bin:/sbin:/bin command -v $tool)
    cp --parents -L $path $(ldd $path | grep -o '/[^ ]*') .
done
mv .$path usr/sbin/hwclock.host
{ cat $LAB_IN/guest.initrd; find . | busybox cpio -o -H newc; } >/tmp/initrd 2>/dev/null
cd /
truncate -s 8M /tmp/said
cat >/tmp/vm.yaml <<END
schema: 1
name: board
machine:
  memory: 256MiB
  hpet: $HPET
  boot: {kernel: $LAB_KERNEL_VMLINUX, initrd: /tmp/initrd}
  serial: [stdio, {file: /tmp/second.log, limit: 1KiB}]
  devices:
  - virtio-console: {pty: {link: /tmp/console}}
  - virtio-rng: {}
  - virtio-block: {path: /tmp/said, format: raw}
  - vmgenid: {}
END
{
    sh -c 'echo $$ >/tmp/machine; exec thruway run /tmp/vm.yaml --cmdline "console=ttyS0 quiet panic=-1"' \
        </dev/null >"$LAB_OUT/guest" 2>"$LAB_OUT/errors"
    echo "status $?" >/tmp/status
} &
machine=$!
for i in $(seq 100); do [ -e /tmp/console ] && break; sleep 0.1; done
cat /tmp/console >/tmp/console.log &
reader=$!
printed() {
    until grep -q "^$1" "$LAB_OUT/guest" || [ -e /tmp/status ]; do sleep 0.2; done
}
# Not before: Linux throws away what comes while it still sets the console up.
printed listening
echo "by the host" >/tmp/console
printed ready
kill -USR2 "$(cat /tmp/machine)"
wait $machine
cat /tmp/status
echo "COM2: $(cat /tmp/second.log)"
kill $reader
echo "hvc0: $(cat /tmp/console.log)"
tar x -C "$LAB_OUT" </tmp/said
"#;

fn line<'a>(text: &'a str, start: &str) -> &'a str {
    text.lines()
        .map(str::trim)
        .find_map(|line| line.strip_prefix(start))
        .unwrap_or_else(|| panic!("no line begins with `{start}` in\n{text}"))
        .trim()
}

/// A processor that says that it has CPPC in an emulated host that has none, and what comes of an emulated host that comes too late
/// for a timer now and then.
const NOT_OF_THE_BOARD: [&str; 4] =
    ["amd_pstate", "hpet: Lost", "hrtimer: interrupt took", "clocksource: Long readout interval"];

/// Runs the guest with or without high precision timers; what the guest printed.
fn guest(lab: &Lab, hpet: &str) -> String {
    let files = vec![("guest.initrd".to_owned(), lab.guest_initrd(GUEST))];
    let script = format!("HPET={hpet}\n{HOST}");
    let run: Run = lab.run_with("no-iommu", Options { files, ..Options::default() }, &script);
    run.succeeded();
    let (host, guest) = (run.stdout(), run.file("guest"));
    println!("{host}\n{guest}\n{}", run.file("errors"));
    assert_eq!(line(&host, "status"), "0");
    assert_eq!(line(&host, "COM2:"), "by the second port");
    assert!(line(&host, "hvc0:").contains("by the first console"), "{host}");
    assert_eq!(line(&guest, "typed"), "by the host");
    assert!(line(&guest, "alarms").parse::<u32>().unwrap() >= 1);
    assert!(line(&guest, "behind").parse::<i32>().unwrap().abs() <= 1);
    assert_eq!(line(&guest, "button"), "1");
    // Scan code 1Eh, KEY_A down, and that this was all (Linux: include/uapi/linux/input-event-codes.h).
    assert_eq!(line(&guest, "key"), "0004 0004 001e,0001 001e 0001,0000 0000 0000,");
    check_tables(&run.file("acpidump"), hpet);
    check_tools(&run);
    for name in ["AT Translated Set 2 keyboard", "Power Button"] {
        assert!(guest.contains(name), "{name}");
    }
    let complaints = guest.lines().map(str::trim).skip_while(|line| *line != "complaints begin").skip(1);
    let complaints: Vec<&str> = complaints
        .take_while(|line| *line != "complaints end")
        .filter(|line| !NOT_OF_THE_BOARD.iter().any(|other| line.contains(other)))
        .collect();
    assert_eq!(complaints, [""; 0]);
    guest
}

/// ACPICA takes the tables apart and puts them together again, and has nothing to say.
fn check_tables(dump: &str, hpet: &str) {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name);
    std::fs::write(file("dump"), dump).unwrap();
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).current_dir(directory.path()).output().unwrap();
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{program} {arguments:?}: {text}");
        text
    };
    run("acpixtract", &["-a", "dump"]);
    let mut expected = vec!["apic", "dsdt", "facp", "facs", "mcfg", "spcr", "waet"];
    if hpet == "present" {
        expected.push("hpet");
    }
    for table in expected {
        let taken_apart = run("iasl", &["-d", &format!("{table}.dat")]);
        for word in ["Error", "Invalid", "Warning"] {
            assert!(!taken_apart.contains(word), "{table}: {taken_apart}");
        }
        let put_together = run("iasl", &[&format!("{table}.dsl")]);
        assert!(put_together.contains(" 0 Errors, 0 Warnings"), "{table}: {put_together}");
    }
}

/// What lspci, dmidecode and hwclock make of the board.
fn check_tools(run: &Run) {
    let (functions, smbios) = (run.file("lspci"), run.file("dmidecode"));
    println!("{functions}\n{smbios}\n{}", run.file("hwclock"));
    for function in [
        "00:00.0 0600: 8086:29c0",
        "00:03.0 0604: 1b36:000c",
        "00:1f.0 0601: 8086:2918",
        "03:00.0 0180: 1af4:1042",
    ] {
        assert!(functions.contains(function), "{function}: {functions}");
    }
    for wrong in ["<unreadable>", "<access denied>", "!!!", "<MAbort+", "<TAbort+"] {
        assert!(!functions.contains(wrong), "{wrong}: {functions}");
    }
    for entry in ["SMBIOS 3.0.0 present", "System is a virtual machine", "Size: 256 MB", "End Of Table"] {
        assert!(smbios.contains(entry), "{entry}: {smbios}");
    }
    for wrong in ["<OUT OF SPEC>", "<BAD INDEX>", "Wrong", "Invalid", "TRUNCATED"] {
        assert!(!smbios.contains(wrong), "{wrong}: {smbios}");
    }
    assert!(run.file("hwclock").starts_with("20"), "{}", run.file("hwclock"));
}

#[test]
fn linux_takes_the_board_without_complaint_and_shuts_down_at_the_button() {
    let Some(lab) = Lab::open() else { return };

    let guest = guest(lab, "absent");

    for table in ["APIC", "DSDT", "FACP", "FACS", "MCFG", "SPCR", "WAET"] {
        assert!(line(&guest, "tables").contains(table), "{table}");
    }
    assert!(!line(&guest, "clocksources").contains("hpet"));
    assert!(guest.contains("Explorer Mouse"), "{guest}");
}

#[test]
fn linux_uses_high_precision_timers_where_they_are() {
    let Some(lab) = Lab::open() else { return };

    let guest = guest(lab, "present");

    assert!(line(&guest, "tables").contains("HPET"));
    assert!(line(&guest, "clocksources").contains("hpet"));
}

/// Files of Debian packages, unpacked under the directory; none (said so) where they cannot be downloaded.
fn unpack(directory: &Path, packages: &[&str]) -> Option<()> {
    for package in packages {
        let run = |program: &str, arguments: &[&str]| {
            let output = Command::new(program).args(arguments).current_dir(directory).output();
            output.is_ok_and(|output| output.status.success())
        };
        let file = || {
            let files = std::fs::read_dir(directory).ok()?;
            let mut names = files.filter_map(|file| file.ok()?.file_name().into_string().ok());
            names.find(|name| name.starts_with(package.trim_end_matches('*')) && name.ends_with(".deb"))
        };
        if !run("apt-get", &["download", package]) {
            skip(&format!("the package {package} cannot be downloaded"));
            return None;
        }
        let file = file().unwrap();
        assert!(run("dpkg-deb", &["--extract", &file, "."]), "{file}");
    }
    Some(())
}

/// The file in `directory` whose name begins and ends so.
fn find(directory: &Path, start: &str, end: &str) -> PathBuf {
    let mut files = std::fs::read_dir(directory).unwrap().map(|file| file.unwrap().path());
    let fits = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with(start) && name.ends_with(end)
    };
    files.find(fits).unwrap()
}

/// In the emulated host: starts `$1` with `$2` and `$3` MiB until what it prints matches `$4`, and shows it.
const UNTIL: &str = r#"
until_printed() {
    thruway -v run --kernel "$LAB_IN/$1" --cmdline "$2" --memory "$3MiB" </dev/null >"/tmp/$1.log" 2>"/tmp/$1.err" &
    until grep -aqE "$4" "/tmp/$1.log" || ! kill -0 $! 2>/dev/null; do sleep 0.2; done
    kill -TERM $!
    wait $!
    echo "status $?"
    cat "/tmp/$1.log" "/tmp/$1.err"
}
"#;

#[test]
fn xen_prints_its_banner_and_memtest_tests_128_mib() {
    let Some(lab) = Lab::open() else { return };
    let directory = tempfile::tempdir().unwrap();
    let Some(()) = unpack(directory.path(), &["xen-hypervisor-4.17-amd64", "memtest86+"]) else { return };
    let boot = directory.path().join("boot");
    let packed = find(&boot, "xen-", ".gz");
    let xen = Command::new("gzip").arg("-dc").arg(packed).output().unwrap().stdout;
    let memtest = std::fs::read(find(&boot, "memtest86+", "x64.bin")).unwrap();
    let files = vec![("xen".to_owned(), xen), ("memtest".to_owned(), memtest)];

    let run = lab.run_with(
        "no-iommu",
        Options { files, ..Options::default() },
        &format!(
            "{UNTIL}
            until_printed xen 'no-real-mode com1=115200,8n1 console=com1 loglvl=all noreboot' 256 'dom0 kernel not specified'
            until_printed memtest 'console=ttyS0,115200' 128 'Test #?.*Address test|own address|Moving inv|Errors: 0 .*[1-9]%'
            "
        ),
    );

    run.succeeded();
    let text = run.stdout();
    println!("{text}");
    assert!(text.contains("(XEN) Xen version 4.17") && text.contains("(XEN) Bootloader: thruway"), "{text}");
    assert!(text.contains("protocol=\"multiboot\""), "{text}");
    assert!(text.contains("Memtest86+") && text.contains("128MB"), "{text}");
}

/// Reads and writes two disks, and shows their interrupts.
const PINS_GUEST: &str = r#"
set -e
for i in $(seq 100); do [ ! -b /dev/nvme0n1 ] || break; sleep 0.1; done
dd if=/dev/zero of=/dev/vda bs=4k count=64 conv=fsync 2>/dev/null
dd if=/dev/zero of=/dev/nvme0n1 bs=4k count=256 conv=fsync 2>/dev/null
grep -E 'virtio|nvme' /proc/interrupts | sed 's/^/irq /'
"#;

#[test]
fn a_guest_without_an_io_apic_gets_the_pins_of_its_functions_by_the_pic() {
    let Some(lab) = Lab::open() else { return };
    let files = vec![("guest.initrd".to_owned(), lab.guest_initrd(PINS_GUEST))];
    let guests =
        [("kernel", "noapic pci=nomsi"), ("split", "noapic pci=nomsi"), ("userspace", "noapic nolapic")];
    let run = |(number, (place, parameters)): (usize, (&str, &str))| {
        format!(
            "thruway run --kernel $LAB_KERNEL_VMLINUX --initrd $LAB_IN/guest.initrd --memory 128MiB --interrupts {place} \
             --disk /tmp/disk --vfio 0000:02:00.0 --cmdline 'console=ttyS0 quiet panic=-1 {parameters}' \
             </dev/null >$LAB_OUT/{number} 2>&1\necho {place} $?\n"
        )
    };
    let runs: String = guests.into_iter().enumerate().map(run).collect();
    let script = format!(
        "truncate -s 1M /tmp/disk
        modprobe vfio-pci
        echo vfio-pci >/sys/bus/pci/devices/0000:02:00.0/driver_override
        echo 0000:02:00.0 >/sys/bus/pci/devices/0000:02:00.0/driver/unbind
        echo 0000:02:00.0 >/sys/bus/pci/drivers_probe
        {runs}"
    );

    let run = lab.run_with("vtd-igb", Options { files, ..Options::default() }, &script);

    for (number, guest) in guests.into_iter().enumerate() {
        let text = run.file(&number.to_string());
        println!("{guest:?}\n{text}");
        for device in ["virtio", "nvme"] {
            let lines = text.lines().filter(|line| line.starts_with("irq ") && line.contains(device));
            let lines = lines.inspect(|line| assert!(line.contains("XT-PIC"), "{guest:?}: {text}"));
            let counts = lines.map(|line| line.split_whitespace().nth(2).unwrap().parse::<u32>().unwrap());
            assert!(counts.sum::<u32>() >= 5, "{guest:?}: {text}");
        }
    }
    assert_eq!(run.stdout(), "kernel 0\nsplit 0\nuserspace 0\n");
}
