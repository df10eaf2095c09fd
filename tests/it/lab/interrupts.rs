//! Interrupt controllers in each place, on KVM as hardware has it: the suite of [`vm::interrupts`](crate::vm) in the emulated
//! host, and Linux that starts again in place.

use thruway::rehearse::Options;

use super::Lab;

#[test]
fn every_place_of_interrupt_controllers_is_the_same_to_a_guest_on_hardware() {
    let Some(lab) = Lab::open() else { return };
    let program = std::env::current_exe().unwrap();

    let run = lab
        .run("no-iommu", &format!("{} --include-ignored --test-threads=1 vm::interrupts", program.display()));

    run.succeeded();
    assert!(run.stdout().contains("test result: ok. "), "{}", run.stdout());
    assert!(!run.stdout().contains("SKIP"), "{}", run.stdout());
}

/// Leaves a mark on its disk and reboots; finds it when it starts again.
const REBOOTING_GUEST: &str = r#"
case $(dd if=/dev/vda bs=512 count=1 2>/dev/null) in
FIRST*) echo "second start"; grep -E 'virtio|timer' /proc/interrupts ;;
*) printf FIRST | dd of=/dev/vda bs=512 conv=sync,fsync 2>/dev/null; reboot -f ;;
esac
"#;

#[test]
fn linux_starts_again_in_place_with_controllers_in_user_space() {
    let Some(lab) = Lab::open() else { return };
    let files = vec![("guest.initrd".to_owned(), lab.guest_initrd(REBOOTING_GUEST))];
    let script = r#"
        for mode in split userspace; do
            truncate -s 1M /tmp/$mode.img
            cat >/tmp/$mode.yaml <<END
schema: 1
name: $mode
machine:
  boot: {kernel: $LAB_KERNEL_VMLINUX, initrd: $LAB_IN/guest.initrd, cmdline: "console=ttyS0 quiet panic=-1"}
  memory: 128MiB
  on_reboot: reset
  interrupts: $mode
  devices: [{virtio-block: {path: /tmp/$mode.img, format: raw}}]
END
            parameters=
            [ $mode = split ] || parameters='console=ttyS0 quiet panic=-1 noapic nolapic'
            thruway run /tmp/$mode.yaml ${parameters:+--cmdline "$parameters"} </dev/null >"$LAB_OUT/$mode" 2>"$LAB_OUT/$mode.errors"
            echo "$mode $?"
        done
    "#;

    let run = lab.run_with("no-iommu", Options { files, ..Options::default() }, script);

    run.succeeded();
    assert_eq!(run.stdout(), "split 0\nuserspace 0\n");
    for mode in ["split", "userspace"] {
        let text = run.file(mode);
        assert_eq!(text.matches("thruway-guest: init").count(), 2, "{text}");
        assert!(text.contains("second start"), "{text}");
        assert_eq!(text.contains("XT-PIC"), mode == "userspace", "{text}");
    }
}
