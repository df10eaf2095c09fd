#!/bin/sh
# In the guest, typed at its prompt: `look N` says what boot N sees, and does what that boot is for.
variables=/sys/firmware/efi/efivars
ours=5468e2f5-7f4a-4c0b-9c2e-3f7a5d1b8e01

echo "firmware $(cat /sys/firmware/efi/fw_platform_size)"
echo "root $(findmnt --noheadings --output SOURCE /)"
efibootmgr | sed -n 's/^\(Boot[0-9A-F]\{4\}\)[* ]* \(first\|once\)\b.*/entry \2 \1/p; s/^BootCurrent: /current Boot/p; s/^BootOrder: \([^,]*\).*/first Boot\1/p'
echo "kept $(tail -c +5 $variables/Kept-$ours 2>/dev/null)"
dmesg --raw | grep '^<[0-4]>' | sed 's/^/complaint /'

# entry NAME OPTION..: an entry that starts a copy of the disk's loader.
entry() {
    mkdir -p /boot/efi/EFI/lab
    cp /boot/efi/EFI/BOOT/BOOTX64.EFI "/boot/efi/EFI/lab/$1.efi"
    name=$1
    shift
    efibootmgr --quiet --disk /dev/vda --part 1 --label "$name" --loader "\\EFI\\lab\\$name.efi" "$@"
}

case $1 in
1)
    echo "serial $(cat /sys/class/dmi/id/product_serial)"
    echo "oem $(grep -ac 'greeting=hello' /sys/firmware/dmi/tables/DMI)"
    modprobe igbvf
    until card=$(ls -d /sys/bus/pci/drivers/igbvf/*/net/*); do sleep 0.1; done
    ip address add 10.0.2.15/24 dev "${card##*/}"
    ip link set "${card##*/}" up
    until busybox ping -c 1 -W 1 10.0.2.2 >/dev/null; do :; done
    busybox ping -c 5 -W 2 10.0.2.2 | sed -n 's/ transmitted.*//p; s/.*transmitted, \([0-9]*\) packets received.*/answered \1/p'
    printf '\007\000\000\000once and for all' >$variables/Kept-$ours
    entry first --create
    reboot
    ;;
2)
    entry once --create-only --bootnum 00AA
    efibootmgr --quiet --bootnext 00AA
    poweroff
    ;;
3)
    poweroff
    ;;
esac
echo "end $1"
