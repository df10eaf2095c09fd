//! The operator's walk in the README: each of its commands, as printed, on a host that boots from its disk.

use super::{Boot, DiskHost, Loader};
use crate::lab::Lab;
use crate::support::root;

/// The commands of the first block behind that heading, those of each boot together.
fn walk(readme: &str) -> Vec<Vec<String>> {
    let (_, section) = readme.split_once("## An operator's walk\n").expect("README has the walk");
    let block = section.split("```").nth(1).expect("the walk has a block").strip_prefix("sh\n").unwrap();
    let mut boots = vec![Vec::new()];
    for line in block.lines() {
        let command = line.split("  #").next().unwrap().trim();
        if command == "reboot" {
            boots.push(Vec::new());
        } else {
            boots.last_mut().unwrap().push(command.to_owned());
        }
    }
    boots
}

/// Runs the commands until one fails. Their output comes with a line before each that says which it is.
fn run(host: &mut DiskHost, commands: &[String]) -> Boot {
    let mut script = String::from("status=0\n");
    for command in commands {
        script += &format!("[ $status = 0 ] && {{ echo '$ {command}'; ( {command} ) 2>&1; status=$?; }}\n");
    }
    host.boot(&format!("{script}echo \"all $status\"\n"))
}

#[test]
fn each_command_of_the_walk_does_what_it_says() {
    let Some(lab) = Lab::open() else { return };
    let Some(mut host) = DiskHost::open(lab, Loader::SystemdBoot) else { return };
    let commands = walk(&std::fs::read_to_string(root().join("README.md")).unwrap());
    assert_eq!(commands.len(), 3, "{commands:?}");

    let boots: Vec<_> = commands.iter().map(|commands| run(&mut host, commands)).collect();

    for boot in &boots {
        assert_eq!(boot.said("all"), "0", "{}", boot.stdout());
    }
    let [first, second, third] = boots.as_slice() else { panic!("{} boots", boots.len()) };
    assert!(
        first.stdout().contains("/etc/systemd/system/thruway-boot-sriov-nic.service"),
        "{}",
        first.stdout()
    );
    assert!(first.stdout().contains("Confirmed: transaction 1 stays"), "{}", first.stdout());
    assert!(second.stdout().contains("It is all as thruway left it"), "{}", second.stdout());
    // The guest is this host's kernel and its initial RAM file system, with the driver of the function in it.
    assert!(second.stdout().contains("igbvf"), "{}", second.stdout());
    assert!(third.stdout().contains("Nothing of thruway's is applied"), "{}", third.stdout());
}
