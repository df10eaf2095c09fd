# In the guest: says what comes into its slots and what goes.
modprobe -a virtio_blk igbvf || exit 1
ports() { for port in /sys/bus/pci/slots/*; do echo "slot $(basename $port) power $(cat $port/power)"; done; }
ports
await() { until "$@"; do sleep 0.05; done; }
there() { [ -b /dev/vdb ]; }
card() { ls /sys/class/net | grep -q eth; }
not() { ! "$@"; }
round=0
while [ $round -lt $ROUNDS ]; do
	round=$((round + 1))
	await there
	echo "disk $round $(head -c 16 /dev/vdb)"
	await not there
	echo "no disk $round"
	await card
	interface=$(ls /sys/class/net | grep eth)
	echo "card $round $(cat /sys/class/net/$interface/address)"
	ip link set $interface up
	await not card
	echo "no card $round"
done
ports
dmesg | grep -iE 'pciehp|hotplug|BAR|AER|virtio_blk|igbvf|Oops|BUG' | tail -n 60
