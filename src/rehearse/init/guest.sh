#!/bin/busybox sh
# /init of a guest: mounts what a Linux system has, loads the drivers of the devices that are there, and runs /script,
# which stands in a second archive behind this one. Lines that begin with `thruway-guest:` are for who watches:
#
#   thruway-guest: init UPTIME      the first line
#   thruway-guest: script UPTIME    devices are there, the script begins
#   thruway-guest: status N UPTIME  the script ended with N; the guest powers off

/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev 2>/dev/null
uptime_now() { read -r now _ </proc/uptime; echo "$now"; }
echo "thruway-guest: init $(uptime_now)"
/bin/busybox --install -s /bin 2>/dev/null
export PATH=/bin HOME=/root
mkdir -p /dev/pts /dev/shm /run /tmp /mnt
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
mount -t debugfs debug /sys/kernel/debug 2>/dev/null
hostname guest
ip link set lo up

# A driver may bring a bus with devices of its own (virtio, USB): look until nothing new turns up.
seen=' '
load_drivers() {
	fresh=''
	for file in /sys/bus/*/devices/*/modalias; do
		read -r alias 2>/dev/null <"$file" || continue
		case $seen in *" $alias "*) continue ;; esac
		seen="$seen$alias "
		fresh="$fresh $alias"
	done
	# An alias may hold characters that a shell would expand.
	set -f
	modprobe -qa $fresh 2>/dev/null
	set +f
	[ -n "$fresh" ]
}
while load_drivers; do :; done

echo "thruway-guest: script $(uptime_now)"
if [ -e /script ]; then
	sh /script
	status=$?
else
	echo "thruway-guest: no script; a shell"
	setsid cttyhack sh
	status=$?
fi
sync
echo "thruway-guest: status $status $(uptime_now)"
poweroff -f
