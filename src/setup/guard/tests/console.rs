//! Displays, sound, keyboards, USB and the serial console.

use super::*;

const DISPLAY: u32 = 0x03_0000;
const USB: u32 = 0x0C_0330;
const KEYS: &str = "B: KEY=402000000 3803078f800d001 feffffdfffefffff fffffffffffffffe";
const KEYBOARD_BELOW: &str = "S: Sysfs=/devices/pci0000:00/0000:02:00.0/usb1/1-2/1-2:1.0/input/input5";
const KEYBOARD_ELSEWHERE: &str = "S: Sysfs=/devices/platform/i8042/serio0/input/input1";

fn remote() -> Consents {
    Consents { remote_session: true, ..Consents::default() }
}

/// A function of `class` in the place of the drive, on a host that lists the input devices at `places`.
fn with_keyboards(class: u32, places: &[&str]) -> FakeKernel {
    let kernel = with(of_class(class));
    let devices: Vec<_> = places.iter().map(|place| format!("{place}\n{KEYS}\n")).collect();
    kernel.put("/proc/bus/input/devices", &devices.join("\n"));
    kernel
}

/// A USB device below the drive's place, with `driver` for its interface.
fn plug(kernel: &FakeKernel, name: &str, driver: &str) {
    for (name, leaf) in [(name.to_owned(), String::new()), (format!("{name}:1.0"), format!("/{name}:1.0"))] {
        let place = format!("0000:02:00.0/usb1/{}{leaf}", name.split(':').next().unwrap());
        kernel.link(&format!("/sys/bus/usb/devices/{name}"), &format!("../../pci/devices/{place}"));
        kernel.put(&format!("/sys/bus/pci/devices/{place}/bInterfaceClass"), "e0");
    }
    let interface = format!("/sys/bus/pci/devices/0000:02:00.0/usb1/{name}/{name}:1.0");
    kernel.link(&format!("{interface}/driver"), &format!("../../../../../../usb/drivers/{driver}"));
}

#[test]
fn displays_that_show_something_need_consent() {
    let quiet = with(Function { driver: None, ..of_class(DISPLAY) });
    quiet.put("/proc/iomem", "80000000-8fffffff : 0000:02:00.0");
    let boots = with(Function { driver: None, ..of_class(DISPLAY) });
    boots.put("/proc/iomem", "80000000-8fffffff : 0000:02:00.0");
    boots.put("/sys/bus/pci/devices/0000:02:00.0/boot_vga", "1");
    let drawn = with(Function { driver: None, ..of_class(DISPLAY) });
    drawn.put("/proc/iomem", "80000000-8fffffff : 0000:02:00.0\n  80000000-807fffff : simpledrm");

    assert_eq!(rules(&quiet, &[NVME.address]), []);
    for kernel in [boots, drawn, with(of_class(DISPLAY))] {
        assert_eq!(rules(&kernel, &[NVME.address]), consentable(Rule::Display, NVME.address));
    }
}

#[test]
fn a_display_whose_console_cannot_be_seen_needs_consent() {
    let kernel = with(Function { driver: None, ..of_class(DISPLAY) });
    assert_eq!(rules(&kernel, &[NVME.address]), consentable(Rule::Unseen, NVME.address));
}

#[test]
fn the_last_display_of_a_local_session_without_serial_console_is_refused() {
    let second = Function { address: "0000:05:00.0", group: 9, ..of_class(DISPLAY) };
    for (consoles, consents, others, level) in [
        ("console=tty0", Consents::default(), &[][..], Severity::Refuse),
        ("console=tty10", Consents::default(), &[], Severity::Refuse),
        ("console=tty0", remote(), &[], Severity::NeedsConsent),
        ("console=tty0 console=ttyS0,115200", Consents::default(), &[], Severity::NeedsConsent),
        ("console=tty0", Consents::default(), &[second], Severity::NeedsConsent),
    ] {
        let kernel = with(of_class(DISPLAY));
        kernel.put("/proc/cmdline", &format!("quiet {consoles}"));
        others.iter().for_each(|other| kernel.add(other));
        let found = rules_with(&kernel, &[NVME.address], &consents);
        assert_eq!(found, [(Rule::Display, level, NVME.address.to_owned())], "{consoles} {others:?}");
    }
}

#[test]
fn the_sound_of_a_display_goes_with_it_or_needs_consent() {
    let sound = Function { address: "0000:02:00.1", class: 0x04_0300, group: 9, ..of_class(0) };
    let kernel = FakeKernel::new(&[of_class(DISPLAY), sound]);
    assert_eq!(rules(&kernel, &[sound.address]), consentable(Rule::DisplayAudio, sound.address));
    assert_eq!(rules(&kernel, &[sound.address, NVME.address]), consentable(Rule::Display, NVME.address));
}

#[test]
fn who_holds_the_file_of_a_display_would_lose_it() {
    let kernel = with(of_class(0x04_0300));
    kernel.link("/sys/class/sound/pcmC0D0p", "../../bus/pci/devices/0000:02:00.0/sound/card0/pcmC0D0p");
    assert_eq!(rules(&kernel, &[NVME.address]), []);
    kernel.put("/proc/77/comm", "pipewire");
    kernel.link("/proc/77/fd/3", "/dev/snd/pcmC0D0p");
    assert_eq!(rules(&kernel, &[NVME.address]), consentable(Rule::NodeOpen, NVME.address));
}

#[test]
fn the_last_keyboard_of_a_local_session_is_refused() {
    const BOTH: &[&str] = &[KEYBOARD_BELOW, KEYBOARD_ELSEWHERE];
    let of_input = |level| vec![(Rule::Input, level, NVME.address.to_owned())];
    for (places, consents, expected) in [
        (&[KEYBOARD_BELOW][..], Consents::default(), of_input(Severity::Refuse)),
        (&[KEYBOARD_BELOW], remote(), of_input(Severity::NeedsConsent)),
        (BOTH, Consents::default(), of_input(Severity::NeedsConsent)),
        (&[KEYBOARD_ELSEWHERE], Consents::default(), Vec::new()),
    ] {
        // Below a USB controller, and below one for touch pads and the like.
        for class in [USB, 0x0C_8000] {
            let kernel = with_keyboards(class, places);
            assert_eq!(rules_with(&kernel, &[NVME.address], &consents), expected, "{places:?}");
        }
    }
}

#[test]
fn keyboards_that_all_go_leave_none() {
    let second = Function { address: "0000:05:00.0", group: 9, ..of_class(USB) };
    let other = KEYBOARD_BELOW.replace("0000:02:00.0", second.address);
    let kernel = with_keyboards(USB, &[KEYBOARD_BELOW, &other]);
    kernel.add(&second);

    let both = rules(&kernel, &[NVME.address, second.address]);

    assert_eq!(both, [refused(Rule::Input, NVME.address), refused(Rule::Input, second.address)].concat());
    assert_eq!(rules(&kernel, &[NVME.address]), consentable(Rule::Input, NVME.address));
}

#[test]
fn usb_controllers_are_judged_by_what_hangs_on_them() {
    for (driver, expected) in [
        (None, Vec::new()),
        (Some("hub"), Vec::new()),
        (Some("usbfs"), Vec::new()),
        (Some("btusb"), consentable(Rule::UsbController, NVME.address)),
    ] {
        let kernel = with_keyboards(USB, &[]);
        driver.iter().for_each(|driver| plug(&kernel, "1-2", driver));
        assert_eq!(rules(&kernel, &[NVME.address]), expected, "{driver:?}");
    }
}

#[test]
fn a_usb_controller_needs_consent_where_keyboards_cannot_be_seen() {
    let kernel = with(of_class(USB));
    assert_eq!(rules(&kernel, &[NVME.address]), consentable(Rule::Unseen, NVME.address));
}

#[test]
fn serial_ports_may_be_the_console() {
    let kernel = with(of_class(0x07_0002));
    assert_eq!(rules(&kernel, &[NVME.address]), consentable(Rule::SerialConsole, NVME.address));
    kernel.put("/proc/cmdline", "console=tty0");
    assert_eq!(rules(&kernel, &[NVME.address]), []);
}
