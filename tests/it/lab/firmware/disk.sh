# An installed disk, started by its own loader: as a virtio disk beside a virtual function, to a login, and again in place;
# then from cold with the same variables, on a passed-through controller. To the disk's loader alone unless $WHOLE is yes.
modprobe vfio-pci
controller=$(grep -l INSTALLED /sys/class/nvme/*/serial)
controller=${controller%/serial}
address=$(cat "$controller/address")
until disk=$(ls -d /dev/"${controller##*/}"n1); do sleep 0.1; done
ip link set dev "$(ls /sys/bus/pci/devices/0000:01:00.0/net)" up
echo 0 >/sys/bus/pci/devices/0000:01:00.0/sriov_drivers_autoprobe
echo 1 >/sys/bus/pci/devices/0000:01:00.0/sriov_numvfs
thruway bind 0000:01:10.0 --yes >/dev/null

# machine NAME DEVICE..
machine() {
    cat >"/tmp/$1.yaml" <<END
schema: 1
name: $1
machine:
  memory: 512MiB
  smbios: {serial: S-4711, oem_strings: ["greeting=hello"]}
  boot: {firmware: $CODE, firmware_vars: vars.fd}
  devices: [{$2}, {$3}]
END
}
# to_the_loader: that is as far as the guest gets.
to_the_loader() {
    until_said 'Welcome to GRUB'
    pkill -TERM thruway
}
# looked N LOGINS: logs in at the guest's so many'th prompt and has it look.
looked() {
    until_said 'Welcome to GRUB' "$2" || return
    kernel_ticks
    until_said 'disk login:' "$2" || return
    prompts=$(grep -c 'root@disk' /tmp/said)
    typed root
    until_said 'root@disk' $((prompts + 1)) || return
    typed "sh /root/look $1"
    until_said "^end $1"
    firmware_ticks
}

machine virtio "virtio-block: {path: $disk, format: raw}" "vfio-pci: {select: {address: '01:10.0'}}"
start virtio /tmp/virtio.yaml --stats "$LAB_OUT/virtio.json"
if [ "$WHOLE" = yes ]; then
    looked 1 1
    looked 2 2
else
    to_the_loader
fi
ended

# By hand: a disk with data is what `thruway bind` refuses.
echo vfio-pci >"/sys/bus/pci/devices/$address/driver_override"
echo "$address" >"/sys/bus/pci/devices/$address/driver/unbind"
echo "$address" >/sys/bus/pci/drivers_probe
machine controller "vfio-pci: {select: {address: '$address'}}" 'virtio-rng: {}'
start controller /tmp/controller.yaml --stats "$LAB_OUT/controller.json"
if [ "$WHOLE" = yes ]; then looked 3 1; else to_the_loader; fi
ended
