# In the emulated host: devices come and go while the guest of guest.sh runs; $ROUNDS rounds, in the last
# $BUTTON of which the card is asked for by the button, too.
set -e
ip link set dev $(ls /sys/bus/pci/devices/0000:01:00.0/net) up
virtual_functions 0000:01:00.0 1
bind 0000:01:10.0
yes 'a disk that came' | head -c 1048576 >/tmp/boot.img
cp /tmp/boot.img /tmp/late.img
printf 'schema: 1\nname: slots\nmachine:\n  boot: {kernel: /none}\n  hotplug: {socket: /tmp/vm.sock, spare_slots: 2, power: %s}\n' $POWER >/tmp/slots.yaml
thruway run /tmp/slots.yaml --kernel $LAB_KERNEL_VMLINUX --initrd $LAB_IN/guest --cpus 1 --memory 256MiB --disk /tmp/boot.img \
	--cmdline "console=ttyS0 earlyprintk=ttyS0 quiet panic=-1 $CMDLINE" \
	>$LAB_OUT/console </dev/null &
machine=$!
# Waits for what the guest says, as long as it lives.
says() {
	until grep -q "^$1" $LAB_OUT/console; do
		kill -0 $machine || return 1
		sleep 0.05
	done
}
holds() {
	echo "descriptors $(ls /proc/$machine/fd | wc -l) mappings $(wc -l </proc/$machine/maps) threads $(ls /proc/$machine/task | wc -l)"
}
plug() { thruway hotplug /tmp/vm.sock attach "$1" | grep -o '[0-9]*$'; }
says 'slot 2'
thruway hotplug /tmp/vm.sock list
for round in $(seq $ROUNDS); do
	how=--surprise
	[ $round -le $((ROUNDS - BUTTON)) ] || how=
	# Linux waits for ever for a reset that a virtio device which was torn out cannot do (vp_reset): it is always asked.
	slot=$(plug 'virtio-block: {path: /tmp/late.img, format: raw}')
	says "disk $round "
	thruway hotplug /tmp/vm.sock detach $slot
	says "no disk $round"
	slot=$(plug 'vfio-pci: {select: {address: "0000:01:10.0"}}')
	says "card $round"
	thruway hotplug /tmp/vm.sock detach $slot $how
	says "no card $round"
	echo "round $round $(holds)"
done
thruway hotplug /tmp/vm.sock list --format json
wait $machine
