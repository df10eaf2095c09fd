# In the emulated host: devices come and go while guests of guest.sh run.
set -e
ip link set dev $(ls /sys/bus/pci/devices/0000:01:00.0/net) up
virtual_functions 0000:01:00.0 1
bind 0000:01:10.0
yes 'a disk that came' | head -c 1048576 >/tmp/boot.img
cp /tmp/boot.img /tmp/late.img
# Waits for what the guest says, as long as it lives.
says() {
	until grep -q "^$1" $console; do
		kill -0 $machine || return 1
		sleep 0.05
	done
}
holds() {
	echo "descriptors $(ls /proc/$machine/fd | wc -l) mappings $(wc -l </proc/$machine/maps) threads $(ls /proc/$machine/task | wc -l)"
}
plug() { thruway hotplug /tmp/vm.sock attach "$1" | grep -o '[0-9]*$'; }
# machine POWER ROUNDS BUTTON: the card is torn out, but in the last BUTTON rounds asked for.
machine() {
	console=$LAB_OUT/$1
	printf 'schema: 1\nname: slots\nmachine:\n  boot: {kernel: /none}\n  hotplug: {socket: /tmp/vm.sock, spare_slots: 2, power: %s}\n' $1 >/tmp/slots.yaml
	thruway run /tmp/slots.yaml --kernel $LAB_KERNEL_VMLINUX --initrd $LAB_IN/guest --cpus 1 --memory 256MiB --disk /tmp/boot.img \
		--cmdline "console=ttyS0 earlyprintk=ttyS0 quiet panic=-1 ROUNDS=$2" >$console </dev/null &
	machine=$!
	says 'slot 2'
	for round in $(seq $2); do
		how=--surprise
		[ $round -le $(($2 - $3)) ] || how=
		# Linux waits for ever for a reset that a virtio device which was torn out cannot do (vp_reset): it is always asked.
		slot=$(plug 'virtio-block: {path: /tmp/late.img, format: raw}')
		says "disk $round "
		thruway hotplug /tmp/vm.sock detach $slot
		says "no disk $round"
		slot=$(plug 'vfio-pci: {select: {address: "0000:01:10.0"}}')
		says "card $round"
		thruway hotplug /tmp/vm.sock detach $slot $how
		says "no card $round"
		echo "$1 $round $(holds)"
	done
	thruway hotplug /tmp/vm.sock list --format json >$LAB_OUT/$1.json
	wait $machine
}
machine always $ROUNDS $BUTTON
machine switched 1 1
# What cannot be, to a machine that is there and to one that is not.
refused() { status=0; "$@" 2>>$LAB_OUT/refused || status=$?; echo "refused $status"; }
refused thruway hotplug /tmp/vm.sock list
thruway run --kernel $LAB_KERNEL_VMLINUX --hotplug /tmp/vm.sock,spare=0 --cmdline "console=ttyS0 quiet" >/dev/null </dev/null &
machine=$!
until [ -S /tmp/vm.sock ]; do sleep 0.05; done
refused thruway hotplug /tmp/vm.sock attach 'virtio-rng: {}'
refused thruway hotplug /tmp/vm.sock attach 'virtio-console: {file: /tmp/x}'
refused thruway hotplug /tmp/vm.sock detach 1
refused thruway hotplug /tmp/vm.sock detach 9
kill $machine
