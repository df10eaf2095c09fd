//! Kernel arguments that only the next boot has: that one has them, the boot after has not, and undo leaves nothing.

use super::{DiskHost, Loader};
use crate::lab::Lab;

/// What is so at each boot: the argument, the loader's files, and the entry that it is told to start once.
const SURVEY: &str = r#"
echo "argument $(grep -o 'lab.tried=[0-9]' /proc/cmdline || echo none)"
echo "trials $(grep -ls lab.tried /boot/grub/*.cfg /boot/efi/loader/entries/* | wc -l)"
echo "once $(grep -s ^next_entry=. /boot/grub/grubenv; cat /sys/firmware/efi/efivars/LoaderEntryOneShot-* 2>/dev/null | tr -d '\0' | tail -c +2)."
"#;

const STATE: [&str; 3] = ["argument", "trials", "once"];

fn a_trial_is_one_boot(loader: Loader, once: &str) {
    let Some(lab) = Lab::open() else { return };
    let Some(mut host) = DiskHost::open(lab, loader) else { return };
    let profile = "schema: 1\nname: tried\nhost: {kernel_arguments: [lab.tried=1]}\n";

    let first = host.boot(&format!(
        "{SURVEY}\nprintf '%s' '{profile}' >/root/tried.yaml\n\
         thruway apply /root/tried.yaml --trial-boot --yes >\"$LAB_OUT/apply\" 2>&1; echo \"applied $?\"\n\
         thruway apply /root/tried.yaml --trial-boot --yes >\"$LAB_OUT/again\" 2>&1; echo \"again $?\"\n\
         echo 'then:'\n{SURVEY}"
    ));
    let second =
        host.boot(&format!("{SURVEY}\nthruway verify >\"$LAB_OUT/verify\" 2>&1; echo \"verified $?\""));
    let third = host.boot(&format!(
        "{SURVEY}\nthruway undo --yes >\"$LAB_OUT/undo\" 2>&1; echo \"undone $?\"\necho 'then:'\n{SURVEY}"
    ));

    let then = |boot: &super::Boot| {
        let stdout = boot.stdout();
        let (_, then) = stdout.split_once("then:").unwrap_or_default();
        then.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect::<Vec<_>>()
    };
    first.succeeded();
    assert_eq!(first.said("applied"), "0", "{}", first.file("apply"));
    assert!(first.file("again").contains("Nothing to do"), "{}", first.file("again"));
    assert_eq!(then(&first)[..3], ["argument none", "trials 1", &format!("once {once}.")]);
    assert_eq!(STATE.map(|name| second.said(name)), ["lab.tried=1", "1", "."], "{}", second.stdout());
    assert_eq!(second.said("verified"), "0", "{}", second.file("verify"));
    assert_eq!(STATE.map(|name| third.said(name)), ["none", "1", "."], "{}", third.stdout());
    assert_eq!(third.said("undone"), "0", "{}", third.file("undo"));
    assert_eq!(then(&third)[..3], ["argument none", "trials 0", "once ."], "{}", third.stdout());
}

#[test]
fn grub_tries_arguments_at_one_boot() {
    a_trial_is_one_boot(Loader::Grub, "next_entry=thruway-trial-tried");
}

#[test]
fn systemd_boot_tries_arguments_at_one_boot() {
    a_trial_is_one_boot(Loader::SystemdBoot, "thruway-trial-tried.conf");
}
