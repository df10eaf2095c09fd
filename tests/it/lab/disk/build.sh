#!/bin/bash
# Builds two disks with Debian 12, each with a boot loader of its own: TARGET/grub.raw and TARGET/systemd-boot.raw.
# Needs root for chroot, and no loop device: file systems are filled while they are made. Packages come from the mirror that
# apt uses here.
#
#   build.sh TARGET ASSETS RELEASE
#
# ASSETS holds agent.sh, agent.service and modules; RELEASE is the kernel's. All is made below TARGET, in a mount namespace
# of its own, so that nothing stays mounted in whatever way this ends.
set -euo pipefail
[ "${IN_NAMESPACE:-}" = 1 ] || IN_NAMESPACE=1 exec unshare --mount --propagation private bash "$0" "$@"

target=$1 assets=$2 release=$3
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive
umask 022

# One identity for all: no two of these disks are ever in one machine.
root_uuid=5468e2f5-7f4a-4c0b-9c2e-3f7a5d1b8e01
esp_id=7E57D15C
machine_id=4f2d1c7be08a4b6d9a35c8e7f1020304
esp_mib=256 root_mib=2048
# For a kernel under QEMU's translator (`TRANSLATED` in src/rehearse/host.rs says why), with its messages on the serial port.
arguments="quiet console=ttyS0 panic=-1 no_timer_check nohz=off highres=off"

say() { printf '[%3d s] %s\n' $SECONDS "$*"; }

# logged NAME COMMAND..: its output goes to a file, whose end is shown when it fails.
logged() {
    log=$target/$1.log
    shift
    "$@" >"$log" 2>&1
    log=
}
log=
exec 9>&2
trap '[ -z "$log" ] || tail -n 30 "$log" >&9' EXIT

# in_root ROOT COMMAND..
in_root() {
    local root=$1
    shift
    chroot "$root" /usr/bin/env -i PATH="$PATH" LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive HOME=/root "$@"
}

# The mirror of Debian 12 that apt has, as apt states it.
mirror() {
    local found
    found=$(apt-get update --print-uris | sed -n "s|^'\(.*\)dists/bookworm/InRelease'.*|\1|p" | head -n 1)
    [ -n "$found" ] || { echo "apt has no source for bookworm (Debian 12); add one" >&2; exit 1; }
    echo "$found"
}

# The kernel that the other emulated hosts run, or the newest of its series where that is no longer offered.
fetch_kernel() {
    local series name others
    series=$(cut -d. -f1,2 <<<"$release")
    others=$(apt-cache pkgnames "linux-image-$series." | grep -E '\.[0-9]+\+[^-]*-amd64$' | sort -rV)
    for name in "linux-image-$release" $others; do
        (cd "$target" && apt-get -oAPT::Sandbox::User=root download "$name") && return
    done
    echo "apt offers no linux-image-$series.*-amd64" >&2
    return 1
}

packages=systemd-sysv,udev,kmod,dbus,initramfs-tools,zstd,busybox,e2fsprogs,iproute2,pciutils,linux-base
packages+=,grub-efi-amd64,efibootmgr,systemd-boot

base() {
    local root=$target/base from
    say "debootstrap"
    from=$(mirror)
    # debootstrap knows nothing of apt's settings.
    eval "$(apt-config shell http_proxy Acquire::http::Proxy)"
    export http_proxy
    # No waiting for this machine's disk at each package, and no documentation.
    mkdir -p "$root/etc/dpkg/dpkg.cfg.d"
    printf '%s\n' force-unsafe-io path-exclude=/usr/share/{doc,man,locale,info}/'*' >"$root/etc/dpkg/dpkg.cfg.d/build"
    logged debootstrap debootstrap --variant=minbase --include="$packages" bookworm "$root" "$from"
    rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root"/usr/share/{doc,man,locale,info,i18n}/*
    printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
    chmod 755 "$root/usr/sbin/policy-rc.d"
    echo "$machine_id" >"$root/etc/machine-id"
    echo disk >"$root/etc/hostname"
    printf '127.0.0.1 localhost disk\n' >"$root/etc/hosts"
    printf 'UUID=%s / ext4 errors=remount-ro 0 1\nUUID=%s /boot/efi vfat umask=0077 0 0\n' \
        "$root_uuid" "${esp_id:0:4}-${esp_id:4}" >"$root/etc/fstab"
    passwd --root "$root" --delete root >/dev/null
    # The emulated processor rebuilds it, too: fast before small.
    printf 'COMPRESS=zstd\nCOMPRESSLEVEL=1\n' >"$root/etc/initramfs-tools/conf.d/fast"
    mkdir -p "$root/boot/efi"
    install -m 755 "$assets/agent.sh" "$root/usr/local/sbin/lab-agent"
    install -m 644 "$assets/agent.service" "$root/etc/systemd/system/lab-agent.service"
    # The uplink of the built-in hardware; the card with virtual functions is left alone.
    printf '[Match]\nDriver=e1000e\n\n[Network]\nDHCP=ipv4\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n' \
        >"$root/etc/systemd/network/uplink.network"
    in_root "$root" systemctl --quiet enable systemd-networkd.service lab-agent.service
    in_root "$root" systemctl --quiet disable systemd-networkd-wait-online.service
    # What nobody here waits for takes seconds of an emulated processor.
    in_root "$root" systemctl --quiet mask serial-getty@ttyS0.service getty@tty1.service apt-daily.timer \
        apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer \
        systemd-update-utmp.service systemd-update-utmp-runlevel.service
    say "kernel"
    logged fetch fetch_kernel
    mount -t proc proc "$root/proc"
    logged kernel install_kernel "$root"
    umount "$root/proc"
}

install_kernel() {
    cp "$target"/linux-image-*.deb "$1/kernel.deb"
    in_root "$1" dpkg --unpack /kernel.deb
    rm "$1/kernel.deb" "$target"/linux-image-*.deb
    modules "$1"/lib/modules/*
    in_root "$1" dpkg --configure --pending
}

# modules DIRECTORY: leaves the modules that the list names and what they depend on, unpacked. The initial RAM file system
# still takes `most` of them, as Debian's does; from all 4000 the emulated processor would make it in many minutes.
modules() {
    local version=${1##*/}
    depmod -b "${1%/lib/modules/*}" "$version"
    grep -E "^($(paste -sd'|' "$assets/modules"))" "$1/modules.dep" | tr -d : | tr ' ' '\n' | sort -u >"$target/kept"
    (
        cd "$1"
        find kernel -name '*.ko*' | grep -vxFf "$target/kept" | xargs rm
        find kernel -name '*.ko.xz' -exec xz -d {} +
    )
}

# grub ROOT: GRUB as grub-install would leave it, which wants to see the disk itself. The loader finds the root by UUID.
grub() {
    local root=$1
    in_root "$root" dpkg --purge systemd-boot systemd-boot-efi
    sed -i -e 's/^GRUB_TIMEOUT=.*/GRUB_TIMEOUT=0/' -e 's/^#GRUB_TERMINAL=/GRUB_TERMINAL=/' \
        -e "s/^GRUB_CMDLINE_LINUX_DEFAULT=.*/GRUB_CMDLINE_LINUX_DEFAULT=\"$arguments\"/" "$root/etc/default/grub"
    mkdir -p "$root/boot/grub/x86_64-efi" "$root/boot/efi/EFI/BOOT"
    cp "$root"/usr/lib/grub/x86_64-efi/*.{mod,lst} "$root/boot/grub/x86_64-efi/"
    printf 'search.fs_uuid %s root\nset prefix=($root)/boot/grub\n' "$root_uuid" \
        >"$root/embedded.cfg"
    in_root "$root" grub-mkimage -O x86_64-efi -p /boot/grub -c /embedded.cfg -o /boot/efi/EFI/BOOT/BOOTX64.EFI \
        part_gpt ext2 normal configfile search search_fs_uuid linux echo test gzio all_video
    rm "$root/embedded.cfg"
    # update-grub asks grub-probe about the disk that it will be.
    in_root "$root" dpkg-divert --quiet --local --rename --divert /usr/sbin/grub-probe.real --add /usr/sbin/grub-probe
    cat >"$root/usr/sbin/grub-probe" <<PROBE
#!/bin/sh
case " \$* " in
*--target=device*) echo /dev/vda2 ;;
*--target=fs_uuid*) echo $root_uuid ;;
*--target=fs\ * | *"-t fs "*) echo ext2 ;;
*--target=partmap*) echo gpt ;;
*) : ;;
esac
PROBE
    chmod 755 "$root/usr/sbin/grub-probe"
    mkdir -p "$root/dev/disk/by-uuid"
    : >"$root/dev/disk/by-uuid/$root_uuid"
    in_root "$root" update-grub
    rm -r "$root/dev/disk" "$root/usr/sbin/grub-probe"
    in_root "$root" dpkg-divert --quiet --local --rename --remove /usr/sbin/grub-probe
    grep -q "root=UUID=$root_uuid ro *$arguments" "$root/boot/grub/grub.cfg"
}

# systemd_boot ROOT: systemd-boot as its package installs it where an ESP is mounted, and the kernel as its hooks add it.
systemd_boot() {
    local root=$1 version esp=$1/boot/efi
    in_root "$root" dpkg --purge grub-efi-amd64 grub-efi-amd64-bin grub2-common grub-common
    mkdir -p "$root/etc/kernel" "$esp/EFI/systemd" "$esp/EFI/BOOT" "$esp/loader/entries" "$esp/$machine_id"
    echo "root=UUID=$root_uuid ro $arguments" >"$root/etc/kernel/cmdline"
    echo "$machine_id" >"$root/etc/kernel/entry-token"
    cp "$root/usr/lib/systemd/boot/efi/systemd-bootx64.efi" "$esp/EFI/systemd/systemd-bootx64.efi"
    cp "$root/usr/lib/systemd/boot/efi/systemd-bootx64.efi" "$esp/EFI/BOOT/BOOTX64.EFI"
    echo type1 >"$esp/loader/entries.srel"
    echo 'timeout 0' >"$esp/loader/loader.conf"
    version=$(ls "$root/lib/modules")
    mount -t proc proc "$root/proc"
    in_root "$root" kernel-install add "$version" "/boot/vmlinuz-$version"
    umount "$root/proc"
    grep -q "^linux  */$machine_id/$version/linux" "$esp/loader/entries/$machine_id-$version.conf"
}

# disk ROOT FILE: an ESP with what lies in ROOT/boot/efi, and the root file system with the rest.
disk() {
    local root=$1 file=$2 esp=$2.esp
    truncate -s ${esp_mib}M "$esp"
    mkfs.vfat -F 32 -i "$esp_id" -n ESP "$esp"
    mcopy -i "$esp" -s -Q "$root"/boot/efi/* ::
    umount "$root/boot/efi"
    rm "$root/usr/sbin/policy-rc.d" "$root/etc/dpkg/dpkg.cfg.d/build"
    truncate -s $((1 + esp_mib + root_mib + 1))M "$file"
    printf 'label: gpt\nstart=1MiB, size=%dMiB, type=U, name=esp\nstart=%dMiB, size=%dMiB, type=L, name=root\n' \
        $esp_mib $((1 + esp_mib)) $root_mib |
        sfdisk "$file"
    mke2fs -q -t ext4 -U "$root_uuid" -L root -m 0 -d "$root" \
        -E offset=$(((1 + esp_mib) << 20)),lazy_itable_init=1,nodiscard "$file" ${root_mib}M
    dd if="$esp" of="$file" bs=1M seek=1 conv=notrunc,sparse status=none
    rm "$esp"
}

base
for loader in grub systemd-boot; do
    say "$loader"
    cp -a --reflink=auto "$target/base" "$target/root"
    # A file system of its own, as it is for kernel-install later.
    mount -t tmpfs esp "$target/root/boot/efi"
    logged "$loader" "${loader//-/_}" "$target/root"
    logged "$loader-disk" disk "$target/root" "$target/$loader.raw"
    rm -rf "$target/root"
done
rm -rf "$target/base" "$target/kept"
chown --reference="$target" "$target"/*
say "done"
