//! Exported machines, as the programs that they are for read them: a shell, libvirt's schema, systemd.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::support::{Run, skip, thruway};

/// A machine with every device, and names that mean something to those who read it next.
const PROFILE: &str = r#"
schema: 1
name: guest
machine:
  cpus: 2
  memory: 512MiB
  on_reboot: exit
  boot:
    kernel: "/srv/it's a kernel"
    initrd: /srv/initrd.img
    cmdline: "console=ttyS0 a=\"b c\" & <x> $HOME %n"
  devices:
    - virtio-block: {path: "/srv/a,b 'c' & <d>.img", format: raw, readonly: true, serial: one}
    - virtio-block: {path: /dev/vg/data, format: raw}
    - virtio-net: {tap: tap0, mac: "52:54:00:00:00:01"}
    - virtio-console: {file: /var/log/guest.log}
    - virtio-rng: {}
    - vfio-pci: {select: {address: "0000:01:10.2"}}
    - pvpanic: {}
"#;

/// Two devices that name their addresses, and one that has an expansion ROM.
const PLACES: &str = r#"
schema: 1
name: places
machine:
  boot: {kernel: /vmlinuz}
  devices:
    - virtio-net: {tap: tap0, guest_address: "02:00.0", rom: "/srv/a,b.rom"}
    - virtio-rng: {guest_address: "02:00.3"}
    - vfio-pci: {select: {address: "0000:01:10.2"}, rom: false}
"#;

/// What `export PROGRAM` prints of the profile at `path`.
fn export(program: &str, path: &Path) -> String {
    let run = run(program, path);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    run.stdout
}

fn run(program: &str, path: &Path) -> Run {
    thruway(["export", program, path.to_str().unwrap()])
}

/// A program that reads exports; `None` after saying that it is not here.
fn reader(program: &'static str) -> Option<Command> {
    let found = Command::new(program).arg("--version").output().is_ok();
    if !found {
        skip(&format!("{program} is not installed"));
    }
    found.then(|| Command::new(program))
}

fn profile(directory: &Path, text: &str) -> std::path::PathBuf {
    let path = directory.join("guest.yaml");
    fs::write(&path, text).unwrap();
    path
}

/// The words that `script` calls `program` with.
fn words(directory: &Path, program: &str, script: &str) -> Vec<String> {
    let stub = directory.join(program);
    fs::write(&stub, "#!/bin/sh\nprintf '%s\\n' \"$@\"\n").unwrap();
    fs::set_permissions(&stub, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", directory.display());
    let output = Command::new("/bin/sh").args(["-c", script]).env("PATH", path).output().unwrap();
    assert!(output.status.success(), "{script}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// Whether `option` stands right before `value`.
fn has(words: &[String], option: &str, value: &str) -> bool {
    words.windows(2).any(|pair| pair[0] == option && pair[1] == value)
}

#[test]
fn qemu_gets_every_name_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let script = export("qemu", &profile(directory.path(), PROFILE));

    let words = words(directory.path(), "qemu-system-x86_64", &script);

    for (option, value) in [
        ("-smp", "2"),
        ("-m", "512M"),
        ("-kernel", "/srv/it's a kernel"),
        ("-append", "console=ttyS0 a=\"b c\" & <x> $HOME %n"),
        (
            "-blockdev",
            "driver=raw,node-name=disk0,read-only=on,discard=unmap,file.driver=file,file.filename=/srv/a,,b 'c' & <d>.img",
        ),
        ("-device", "virtio-blk-pci,drive=disk0,serial=one"),
        (
            "-blockdev",
            "driver=raw,node-name=disk1,read-only=off,discard=unmap,file.driver=host_device,file.filename=/dev/vg/data",
        ),
        ("-netdev", "tap,id=net2,ifname=tap0,script=no,downscript=no"),
        ("-device", "virtio-net-pci,netdev=net2,mac=52:54:00:00:00:01"),
        ("-device", "vfio-pci,host=0000:01:10.2"),
        ("-device", "pvpanic"),
    ] {
        assert!(has(&words, option, value), "{option} {value}: {words:#?}");
    }
    assert!(words.contains(&"-no-reboot".to_owned()));
}

#[test]
fn cloud_hypervisor_gets_what_its_options_can_say_and_nothing_bent() {
    let directory = tempfile::tempdir().unwrap();
    let path = profile(directory.path(), PROFILE);
    let refused = run("cloud-hypervisor", &path);
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("rename the file"), "{}", refused.stderr);

    let script = export("cloud-hypervisor", &profile(directory.path(), &PROFILE.replace("a,b", "ab")));
    let words = words(directory.path(), "cloud-hypervisor", &script);

    for (option, value) in [
        ("--cpus", "boot=2"),
        ("--memory", "size=512M"),
        ("--kernel", "/srv/it's a kernel"),
        ("--console", "file=/var/log/guest.log"),
        ("--disk", "path=/srv/ab 'c' & <d>.img,readonly=on,serial=one"),
        ("--net", "tap=tap0,mac=52:54:00:00:00:01"),
        ("--device", "path=/sys/bus/pci/devices/0000:01:10.2"),
    ] {
        assert!(has(&words, option, value), "{option} {value}: {words:#?}");
    }
}

#[test]
fn libvirts_own_schema_takes_the_domain() {
    let (Some(mut validate), Some(_)) = (reader("virt-xml-validate"), reader("xmllint")) else { return };
    let directory = tempfile::tempdir().unwrap();
    let domain = export("libvirt", &profile(directory.path(), PROFILE));
    let path = directory.path().join("guest.xml");
    fs::write(&path, &domain).unwrap();

    let output = validate.arg(&path).arg("domain").output().unwrap();

    assert!(output.status.success(), "{}\n{domain}", String::from_utf8_lossy(&output.stderr));
    for part in [
        "<hostdev mode='subsystem' type='pci' managed='no'>",
        "<address domain='0x0000' bus='0x01' slot='0x10' function='0x2'/>",
        "<source file='/srv/a,b &#39;c&#39; &amp; &lt;d&gt;.img'/>",
        "<source dev='/dev/vg/data'/>",
        "<cmdline>console=ttyS0 a=&quot;b c&quot; &amp; &lt;x&gt; $HOME %n</cmdline>",
        "<on_reboot>destroy</on_reboot>",
    ] {
        assert!(domain.contains(part), "{part}\n{domain}");
    }
}

#[test]
fn systemd_finds_nothing_wrong_with_the_unit() {
    let Some(mut analyze) = reader("systemd-analyze") else { return };
    let directory = tempfile::tempdir().unwrap();
    let odd = directory.path().join("100% of $HOME");
    fs::create_dir(&odd).unwrap();
    let unit = export("systemd", &profile(&odd, PROFILE));
    let path = directory.path().join("thruway-guest.service");
    fs::write(&path, &unit).unwrap();

    let output = analyze.args(["verify", "--man=no"]).arg(&path).output().unwrap();

    // It looks at the units of this machine, too, and may complain of those.
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("thruway-guest.service"), "{said}\n{unit}");
    assert!(unit.contains("/100%% of $$HOME/guest.yaml\""), "{unit}");
    assert!(unit.contains("RestartForceExitStatus=10"));
}

#[test]
fn a_function_that_cannot_be_told_is_an_error_in_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let text = PROFILE.replace(r#"{address: "0000:01:10.2"}"#, "{netdev: none0}");

    let run = run("qemu", &profile(directory.path(), &text));

    assert_eq!(run.code, Some(2));
    let message = run.stderr;
    assert!(message.contains("network interface none0 is no PCI function of this host"), "{message}");
    assert!(message.contains("guest.yaml:18"), "{message}");
}

#[test]
fn what_an_export_leaves_out_is_said_in_it() {
    let directory = tempfile::tempdir().unwrap();
    let rich = "\
schema: 1
name: rich
machine:
  cpus: {count: 2, model: x86-64-v2, pin: ['0', '0']}
  memory: {size: 512MiB, hugepages: 2MiB}
  interrupts: split
  boot: {kernel: /srv/kernel}
";
    let plain = "schema: 1\nname: plain\nmachine:\n  cpus: 2\n  boot: {kernel: /srv/kernel}\n";
    for program in ["qemu", "libvirt", "cloud-hypervisor"] {
        let text = export(program, &profile(directory.path(), rich));
        let said = "this does not: cpus.model, cpus.pin, what memory is made of, interrupts";
        assert!(text.contains(said), "{program}: {text}");
        let plain = export(program, &profile(directory.path(), plain));
        assert!(!plain.contains("this does not"), "{program}: {plain}");
    }
}

#[test]
fn addresses_and_expansion_roms_are_said_as_each_program_says_them() {
    let directory = tempfile::tempdir().unwrap();
    let path = profile(directory.path(), PLACES);
    let words = words(directory.path(), "qemu-system-x86_64", &export("qemu", &path));
    for word in [
        "pcie-root-port,id=port1,bus=pcie.0,addr=1.0,chassis=1,slot=1",
        "pcie-root-port,id=port2,bus=pcie.0,addr=2.0,chassis=2,slot=2",
        "virtio-net-pci,netdev=net0,bus=port2,addr=0.0,multifunction=on,romfile=/srv/a,,b.rom",
        "virtio-rng-pci,bus=port2,addr=0.3",
        "vfio-pci,host=0000:01:10.2,rombar=0",
    ] {
        assert!(words.iter().any(|other| other == word), "{word}: {words:?}");
    }
    let domain = export("libvirt", &path);
    for line in [
        "<rom file='/srv/a,b.rom'/>\n      <address type='pci' domain='0x0000' bus='0x02' slot='0x00' function='0x0' multifunction='on'/>",
        "<address type='pci' domain='0x0000' bus='0x02' slot='0x00' function='0x3'/>\n    </rng>",
        "<rom enabled='no'/>\n    </hostdev>",
    ] {
        assert!(domain.contains(line), "{line}\n{domain}");
    }
    let refused = run("cloud-hypervisor", &path);
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("it gives devices no expansion ROM"), "{}", refused.stderr);
}
