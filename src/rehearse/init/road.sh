# What a guest of the rehearsed road does: shows that the functions it was given move data. Lines that begin with
# `thruway-road:` are read by `road/guest.rs`.
#
#   interface NAME DRIVER | carrier NAME SECONDS | lease NAME ADDRESS/BITS GATEWAY | ping NAME SENT RECEIVED MIN/AVG/MAX
#   disk NAME DRIVER SECTORS | written NAME BYTES
#   interrupts NAME BEFORE AFTER
#   failed WHAT

say() { echo "thruway-road: $*"; }
driver_of() { basename "$(readlink "$1/driver")" 2>/dev/null; }

# Sum over all CPUs of the interrupts whose name holds $1.
interrupts() {
	grep -E "[ -]$1(-|q|\$)" /proc/interrupts | awk '{ for (i = 2; i <= NF && $i ~ /^[0-9]+$/; i++) n += $i } END { print n + 0 }'
}

# udhcpc runs this file with what the server gave in the environment.
cat >/tmp/lease.sh <<'LEASE'
#!/bin/sh
# A network without a way out has no router; its gateway is then the server itself.
gateway=${router:-$serverid}
[ "$1" = bound ] && echo "$ip/$mask ${gateway%% *}" >/tmp/lease
exit 0
LEASE
chmod +x /tmp/lease.sh

network() {
	name=$1
	before=$(interrupts "$name")
	ip link set "$name" up || { say "failed $name does not come up"; return 1; }
	tenths=0
	until [ "$(cat "/sys/class/net/$name/carrier" 2>/dev/null)" = 1 ]; do
		tenths=$((tenths + 1))
		[ $tenths -lt 300 ] || { say "failed $name has no carrier after 30 s"; return 1; }
		usleep 100000
	done
	say "carrier $name $((tenths / 10)).$((tenths % 10))"
	udhcpc -i "$name" -n -q -t 8 -T 2 -s /tmp/lease.sh >/dev/null 2>&1
	[ -s /tmp/lease ] || { say "failed $name gets no lease by DHCP"; return 1; }
	read -r address gateway </tmp/lease
	say "lease $name $address $gateway"
	ip address add "$address" dev "$name"
	result=$(ping -c 5 -W 5 -I "$name" "$gateway" 2>&1)
	counts=$(echo "$result" | sed -n 's/^\([0-9]*\) packets transmitted, \([0-9]*\) packets received.*/\1 \2/p')
	times=$(echo "$result" | sed -n 's/^round-trip min\/avg\/max = \(.*\) ms$/\1/p')
	say "ping $name ${counts:-0 0} ${times:-none}"
	say "interrupts $name $before $(interrupts "$name")"
	[ "$counts" = "5 5" ] || { say "failed $name: not every ping to $gateway was answered"; return 1; }
}

storage() {
	name=$1
	before=$(interrupts "${name%n[0-9]*}")
	# Block 1, not 0: where a partition table would be stays as it is.
	yes "thruway was here: $name" | dd of="/dev/$name" bs=4096 seek=1 count=1 iflag=fullblock conv=fsync 2>/dev/null ||
		{ say "failed $name cannot be written"; return 1; }
	echo 3 >/proc/sys/vm/drop_caches
	dd if="/dev/$name" bs=4096 skip=1 count=1 2>/dev/null | head -n 1 | grep -qx "thruway was here: $name" ||
		{ say "failed $name does not hold what was written"; return 1; }
	say "written $name 4096"
	say "interrupts $name $before $(interrupts "${name%n[0-9]*}")"
}

status=0
found=0
for net in /sys/class/net/*; do
	[ -e "$net/device" ] || continue
	found=$((found + 1))
	say "interface ${net##*/} $(driver_of "$net/device")"
	network "${net##*/}" || status=1
done
# A controller's namespaces turn up a moment after it does.
for controller in /sys/class/nvme/nvme*; do
	[ -e "$controller" ] || continue
	tries=0
	until [ -b "/dev/${controller##*/}n1" ]; do
		tries=$((tries + 1))
		[ $tries -lt 100 ] || break
		usleep 100000
	done
	for device in /dev/"${controller##*/}"n*; do
		[ -b "$device" ] || { say "failed ${controller##*/} shows no disk"; status=1; continue; }
		found=$((found + 1))
		name=${device##*/}
		say "disk $name $(driver_of "$controller/device") $(cat "/sys/block/$name/size")"
		storage "$name" || status=1
	done
done
[ $found -gt 0 ] || { say "failed the guest has neither a network interface nor an NVMe disk"; status=1; }
exit $status
