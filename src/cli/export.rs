//! `thruway export`: a profile's machine for another program.

use crate::cli::{CliResult, Context, Exit, OrExit, source};
use crate::host::select::{SelectError, Selector, resolve};
use crate::profile::{Purpose, is_path, load};
use crate::report::export::{cloud_hypervisor, libvirt, qemu, systemd};

/// Arguments of `thruway export`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  thruway export qemu sriov-nic > run.sh                  a script that becomes QEMU
  thruway export libvirt my.yaml > my.xml                 for virsh define
  thruway export systemd my.yaml > /etc/systemd/system/thruway-my.service
  thruway export cloud-hypervisor my.yaml > run.sh

What is exported takes functions as they are: thruway apply binds them, and thruway undo gives them back.")]
pub(crate) struct Args {
    /// What launches the machine
    #[arg(value_enum)]
    program: Program,
    /// A profile: a built-in name or a YAML file
    #[arg(value_name = "PROFILE")]
    profile: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Program {
    /// A shell script that runs qemu-system-x86_64
    Qemu,
    /// A domain for virsh define
    Libvirt,
    /// A unit that prepares the host and runs the machine with thruway
    Systemd,
    /// A shell script that runs cloud-hypervisor
    CloudHypervisor,
}

/// Exports.
pub(crate) fn run(args: &Args, context: &Context) -> CliResult {
    let loaded = load(&args.profile, Purpose::Look)?;
    let facts = std::cell::OnceCell::new();
    let lookup = |selector: &Selector| match selector {
        Selector::Address(address) => Ok::<_, SelectError>(*address),
        other => resolve(facts.get_or_init(|| source::live(context)), other),
    };
    let config = loaded.resolve(lookup)?;
    let profile = if is_path(&args.profile) {
        std::path::absolute(&args.profile).or_exit(Exit::Host)?.display().to_string()
    } else {
        args.profile.clone()
    };
    let prepare = format!("thruway apply {profile}");
    let text = match args.program {
        Program::Qemu => qemu::export(&config, &prepare),
        Program::Libvirt => libvirt::export(&config, &prepare),
        Program::CloudHypervisor => cloud_hypervisor::export(&config, &prepare),
        Program::Systemd => {
            let program = std::env::current_exe().or_exit(Exit::Host)?.display().to_string();
            systemd::export(&config, systemd::Call { program: &program, profile: &profile })
        }
    };
    let text = text.or_exit(Exit::Usage)?;
    context.print(text)?;
    Ok(Exit::Ok.into())
}
