//! The board under a Linux guest: the clock interrupts, keyboard and mouse are found, the power button shuts it down, consoles
//! are where they were asked for; and what its kernel complains of. Xen and memtest86+ start, too.

use std::path::{Path, PathBuf};
use std::process::Command;

use thruway::rehearse::Options;

use super::{Lab, Run};
use crate::support::skip;

/// In the guest.
const GUEST: &str = r#"
echo "complaints begin"
dmesg -r | grep -E '^<[0-4]>'
echo "complaints end"
grep -h ^N: /proc/bus/input/devices
echo "tables $(ls /sys/firmware/acpi/tables | tr '\n' ' ')"
echo "clocksources $(cat /sys/devices/system/clocksource/clocksource0/available_clocksource)"
echo "second $(cat /sys/class/tty/ttyS1/port 2>/dev/null)"
echo "by the second port" >/dev/ttyS1
echo "by the first console" >/dev/hvc0
read -r typed </dev/hvc0
echo "typed $typed"
# The clock: what it tells is what was set, and its alarm comes
hwclock -u -w && echo "behind $(($(date +%s) - $(cat /sys/class/rtc/rtc0/since_epoch)))"
count() { awk '/ rtc0$/ { print $2 }' /proc/interrupts; }
before=$(count)
echo +2 >/sys/class/rtc/rtc0/wakealarm
for i in $(seq 100); do
    [ "$(count)" = "$before" ] || break
    sleep 0.1
done
echo "alarms $(($(count) - before))"
button() { awk '{ print $1 }' /sys/firmware/acpi/interrupts/ff_pwr_btn; }
event=$(grep -A5 'N: Name="Power Button"' /proc/bus/input/devices | sed -n 's/.*\(event[0-9]*\).*/\1/p')
echo "ready"
head -c 24 "/dev/input/$event" >/dev/null
echo "button $(button)"
"#;

/// In the emulated host, behind a line that sets `$PARAMETER`.
const HOST: &str = r#"
cat >/tmp/vm.yaml <<END
schema: 1
name: board
machine:
  memory: 256MiB
  boot: {kernel: $LAB_KERNEL_VMLINUX, initrd: $LAB_IN/guest.initrd}
  serial: [stdio, {file: /tmp/second.log, limit: 1KiB}]
  devices:
  - virtio-console: {pty: {link: /tmp/console}}
  - virtio-rng: {}
  - vmgenid: {}
END
{
    sh -c 'echo $$ >/tmp/machine; exec thruway run /tmp/vm.yaml --cmdline "console=ttyS0 quiet panic=-1 $PARAMETER"' \
        </dev/null >"$LAB_OUT/guest" 2>"$LAB_OUT/errors"
    echo "status $?" >/tmp/status
} &
machine=$!
for i in $(seq 100); do [ -e /tmp/console ] && break; sleep 0.1; done
cat /tmp/console >/tmp/console.log &
reader=$!
echo "by the host" >/tmp/console
for i in $(seq 1000); do
    grep -q '^ready' "$LAB_OUT/guest" && break
    [ ! -e /tmp/status ] || break
    sleep 0.2
done
kill -USR2 "$(cat /tmp/machine)"
wait $machine
cat /tmp/status
echo "COM2: $(cat /tmp/second.log)"
kill $reader
echo "hvc0: $(cat /tmp/console.log)"
"#;

fn line<'a>(text: &'a str, start: &str) -> &'a str {
    text.lines()
        .map(str::trim)
        .find_map(|line| line.strip_prefix(start))
        .unwrap_or_else(|| panic!("no line begins with `{start}` in\n{text}"))
        .trim()
}

/// Runs the guest with `parameter` on its command line; what the guest printed.
fn guest(lab: &Lab, parameter: &str) -> String {
    let files = vec![("guest.initrd".to_owned(), lab.guest_initrd(GUEST))];
    let script = format!("export PARAMETER='{parameter}'\n{HOST}");
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
    for name in ["AT Translated Set 2 keyboard", "Power Button"] {
        assert!(guest.contains(name), "{name}");
    }
    // A processor that says that it has CPPC and an emulated host that has none are not the board's.
    let complaints = guest.lines().map(str::trim).skip_while(|line| *line != "complaints begin").skip(1);
    let complaints: Vec<&str> = complaints
        .take_while(|line| *line != "complaints end")
        .filter(|line| !line.contains("amd_pstate"))
        .collect();
    assert_eq!(complaints, [""; 0]);
    guest
}

#[test]
fn linux_takes_the_board_without_complaint_and_shuts_down_at_the_button() {
    let Some(lab) = Lab::open() else { return };

    let guest = guest(lab, "");

    for table in ["APIC", "DSDT", "FACP", "FACS", "HPET", "MCFG", "SPCR", "WAET"] {
        assert!(line(&guest, "tables").contains(table), "{table}");
    }
    assert!(line(&guest, "clocksources").contains("hpet"));
    assert!(
        guest.contains("Explorer Mouse") || guest.contains("Wheel Mouse") || guest.contains("ImExPS/2"),
        "{guest}"
    );
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
    for i in $(seq 600); do
        grep -aqE "$4" "/tmp/$1.log" && break
        kill -0 $! 2>/dev/null || break
        sleep 0.2
    done
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
    assert!(text.contains("(XEN) Xen version 4.17") && text.contains("(XEN) Bootloader: thruway"), "{text}");
    assert!(text.contains("protocol=\"multiboot\""), "{text}");
    assert!(text.contains("Memtest86+") && text.contains("128MB"), "{text}");
}
