//! `thruway disk`: images that become the disks of a machine.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::cli::format::{FormatArgs, document};
use crate::cli::{CliResult, Context, Exit, Failure};
use crate::spec::units::ByteSize;
use crate::vmm::backend::disk::{CreateError, Space, create, rounded};
use crate::vmm::virtio::devices::block::ImageFormat;

/// Arguments of `thruway disk`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Make a new image, for data or, as its last example shows, with a system that boots
    Create(CreateArgs),
}

/// Arguments of `thruway disk create`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
The image is raw, reads as zeros and is readable for its owner only. Nothing is ever overwritten: what is at FILE stays.
When it cannot be made as a whole, nothing is left behind.

The last example needs root for its first command only, and no loop device. mmdebstrap and unshare take the user IDs that
adduser gave you in /etc/subuid. The disk has an EFI system partition of 64 MiB, with GRUB, and an ext4 root of 4030 MiB;
a larger one needs both numbers changed in all places. Kernels are upgraded in the guest as usual: GRUB starts the newest.
Log in on the serial port as root, and give it a password: it has none. Network cards ask for their address by DHCP.

Examples:
  thruway disk create data.raw 20GiB               takes space as it is written to
  thruway disk create data.raw 20GiB --allocate    takes all of it now

A disk from which Debian 12 boots by UEFI, made as an ordinary user:
  sudo apt install mmdebstrap uidmap grub-efi-amd64-bin fdisk e2fsprogs \\
    mtools ovmf
  PATH=\"$PATH:/usr/sbin\"
  mmdebstrap --include=linux-image-amd64,systemd-resolved \\
    --customize-hook='echo guest > \"$1/etc/hostname\"' \\
    --customize-hook='echo LABEL=root / ext4 defaults 0 1 > \"$1/etc/fstab\"' \\
    --customize-hook='printf \"[Match]\\nName=en*\\n[Network]\\nDHCP=yes\\n\" \\
      > \"$1/etc/systemd/network/en.network\"' \\
    --customize-hook='chroot \"$1\" systemctl enable systemd-networkd' \\
    --customize-hook='chroot \"$1\" passwd --delete root' \\
    bookworm root.tar
  printf '%s\\n' 'insmod part_gpt' 'search --set=root --label root' \\
    'linux /vmlinuz root=LABEL=root ro console=ttyS0' 'initrd /initrd.img' \\
    boot > grub.cfg
  grub-mkstandalone -O x86_64-efi -o BOOTX64.EFI boot/grub/grub.cfg=grub.cfg
  thruway disk create debian.raw 4GiB
  printf '%s\\n' 'label: gpt' 'size=64MiB, type=U' 'size=4030MiB, type=L' |
    sfdisk debian.raw
  unshare --map-root-user --map-auto sh -ec 'mkdir root
    tar -xf root.tar -C root --exclude=\"./dev/*\"
    mke2fs -t ext4 -L root -d root -E offset=$((65<<20)) debian.raw 4030M
    rm -r root'
  mformat -i debian.raw@@1M -F -T 131072 ::
  mmd -i debian.raw@@1M ::EFI ::EFI/BOOT
  mcopy -i debian.raw@@1M BOOTX64.EFI ::EFI/BOOT
  rm root.tar grub.cfg BOOTX64.EFI
  thruway run --firmware /usr/share/OVMF/OVMF_CODE_4M.fd \\
    --firmware-vars debian.vars --memory 1GiB --disk debian.raw")]
struct CreateArgs {
    /// The image; nothing may be there
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Its size, whole sectors of 512 bytes: 512MiB, 20GiB
    #[arg(value_name = "SIZE", allow_hyphen_values = true)]
    size: ByteSize,
    /// Reserve its space on the file system now, so that no write of the guest finds that full
    #[arg(long)]
    allocate: bool,
    #[command(flatten)]
    format: FormatArgs,
}

/// `data` of the document `thruway.disk-create`.
#[derive(Debug, Serialize)]
struct Document {
    path: String,
    size_bytes: u64,
    allocated_bytes: u64,
}

/// Makes an image.
pub(crate) fn run(args: &Args, context: &Context) -> CliResult {
    match &args.what {
        What::Create(args) => create_image(args, context),
    }
}

fn create_image(args: &CreateArgs, context: &Context) -> CliResult {
    let space = if args.allocate { Space::Reserved } else { Space::AsWritten };
    let created = create(&args.file, ImageFormat::Raw, args.size, space).map_err(failure)?;
    let size_bytes = args.size.bytes();
    if let Some(free_bytes) = created.free_bytes.filter(|free| *free < size_bytes && !args.allocate) {
        context.note(larger_than_free(&args.file, rounded(free_bytes)));
    }
    let answer = Document {
        path: args.file.to_string_lossy().into_owned(),
        size_bytes,
        allocated_bytes: created.allocated_bytes,
    };
    let text = document(args.format.format, "thruway.disk-create", 1, &answer)?;
    context.print(text.unwrap_or_else(|| {
        let allocated = ByteSize::from_bytes(created.allocated_bytes);
        format!("{}: {}, {allocated} of it allocated", answer.path, args.size)
    }))?;
    Ok(Exit::Ok.into())
}

fn larger_than_free(path: &Path, free: ByteSize) -> String {
    format!(
        "{} can become larger than what its file system has free ({free}); once that is full, the guest's writes fail",
        path.display()
    )
}

fn failure(error: CreateError) -> Failure {
    let exit = match error {
        CreateError::Empty { .. }
        | CreateError::NotWholeSectors { .. }
        | CreateError::NotAFile { .. }
        | CreateError::Exists { .. } => Exit::Usage,
        CreateError::NoDirectory { .. }
        | CreateError::Denied { .. }
        | CreateError::TooLarge { .. }
        | CreateError::Limited { .. }
        | CreateError::NoRoom { .. }
        | CreateError::CannotReserve { .. }
        | CreateError::Host { .. } => Exit::Host,
    };
    Failure::new(exit, error)
}
