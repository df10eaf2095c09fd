#!/bin/busybox sh
# /init of the emulated host. Stage 1 runs from the initramfs: load what the root needs, and, as udev
# would, the drivers of the devices that are there; build a root that is the machine's own `/`, seen
# read-only over 9p, under a writable tmpfs (overlayfs). Stage 2 (`/init two`) runs in that root: the file systems that a Linux
# host has, the network's default route, then the command, whose streams leave by virtio-serial ports:
#
#   thruway.stdout, thruway.stderr   what the command wrote, each ended by the token of this run
#   thruway.control                  in: nothing; out: `up UPTIME`, then `end STATUS UPTIME`
#
# What differs from run to run is in fw_cfg below opt/thruway/: `run` (shell variables) and `script`.

BB=/bin/busybox
FW=/sys/firmware/qemu_fw_cfg/by_name/opt/thruway

# Messages go to the kernel log: it reaches the serial console even where serial interrupts do not work.
# An emergency restart ends QEMU, and no device that hangs can delay it.
fail() {
	echo "<0>thruway: $*" >/dev/kmsg
	echo 1 >/proc/sys/kernel/sysrq
	echo b >/proc/sysrq-trigger
	$BB sleep 60
}

mount_kernel_filesystems() {
	$BB mount -t proc -o nosuid,nodev,noexec proc "$1/proc"
	$BB mount -t sysfs -o nosuid,nodev,noexec sys "$1/sys"
	$BB mount -t devtmpfs -o nosuid dev "$1/dev"
}

load() { $BB modprobe "$1" || fail "module $1 did not load"; }

# Loads the drivers of the devices that are there. One may bring a bus with devices of its own (virtio, USB): look
# until nothing new turns up.
coldplug() {
	set -f
	while :; do
		fresh=''
		for alias in $($BB cat $($BB find /sys/devices -name modalias) 2>/dev/null); do
			case $seen in *" $alias "*) continue ;; esac
			seen="$seen$alias "
			fresh="$fresh $alias"
		done
		[ -n "$fresh" ] || break
		$BB modprobe -qa $fresh
	done
	set +f
}

# Waits, at most 10 s, until $1 names matched by the pattern $2 are there.
appear() {
	tries=0
	while count=$(set -- $2; [ -e "$1" ] && echo $#); [ "${count:-0}" -lt "$1" ]; do
		tries=$((tries + 1))
		[ $tries -lt 500 ] || fail "only ${count:-0} of $1 are there: $2"
		$BB usleep 20000
	done
}

drivers() {
	seen=' '
	coldplug
	# Devices on USB are found by and by.
	if [ "$LAB_USB_DEVICES" -gt 0 ]; then
		appear "$LAB_USB_DEVICES" '/sys/bus/usb/devices/[0-9]*-[1-9]*:*'
		coldplug
		if [ "$LAB_USB_DISKS" -gt 0 ]; then
			load sd_mod
			appear "$LAB_USB_DISKS" '/sys/block/sd*'
		fi
	fi
	# The alias of a CPU is longer than what busybox's modprobe takes.
	case $($BB grep -m1 '^flags' /proc/cpuinfo) in
	*' svm'*) $BB modprobe -q kvm-amd ;;
	*' vmx'*) $BB modprobe -q kvm-intel ;;
	esac
	# Virtual functions do not exist yet, and nobody loads their driver when they come.
	[ ! -d /sys/module/igb ] || $BB modprobe igbvf
}

stage_one() {
	$BB mkdir -p /proc /sys /dev /lower /over /root
	mount_kernel_filesystems ""
	exec </dev/null >/dev/kmsg 2>&1
	load qemu_fw_cfg
	[ -e $FW/run/raw ] || fail "the firmware configuration holds no run"
	. $FW/run/raw
	for module in $LAB_EARLY_MODULES 9pnet_virtio 9p overlay; do load $module; done
	# The second CPU loads drivers while this one builds the root.
	drivers &
	drivers=$!

	$BB mount -t 9p -o "ro,trans=virtio,version=9p2000.L,msize=512000,cache=loose" host /lower ||
		fail "the machine's root is not there"
	$BB mount -t tmpfs -o mode=0755,size=75% over /over
	$BB mkdir /over/upper /over/work
	$BB mount -t overlay -o "lowerdir=/lower,upperdir=/over/upper,workdir=/over/work" root /root ||
		fail "no overlay over the machine's root"
	$BB mkdir -p /root/proc /root/sys /root/dev /root/run /root/tmp /root/lib/modules
	$BB mount -t tmpfs -o mode=0755,nosuid,nodev run /root/run
	$BB mkdir -p /root/run/lab/host /root/run/lab/out /root/run/lab/bin /root/run/lab/modules /root/run/lock
	$BB mount -o bind /lower /root/run/lab/host
	$BB cp -a $BB /init /root/run/lab/
	wait $drivers
	$BB umount /proc /sys
	$BB mount -o move /dev /root/dev
	exec $BB switch_root /root /run/lab/busybox sh /run/lab/init two
}

stage_two() {
	BB=/run/lab/busybox
	$BB mount -t proc -o nosuid,nodev,noexec proc /proc
	$BB mount -t sysfs -o nosuid,nodev,noexec sys /sys
	. $FW/run/raw
	$BB mount -t debugfs -o mode=0700 debug /sys/kernel/debug
	$BB mount -t securityfs -o nosuid,nodev,noexec security /sys/kernel/security
	$BB mount -t tracefs -o mode=0700 trace /sys/kernel/tracing
	$BB mount -t cgroup2 cgroup /sys/fs/cgroup
	# Nodes whose first use loads their module (`modules.devname`); on other hosts kmod makes them.
	$BB mkdir -p /dev/pts /dev/shm /dev/net /dev/vfio
	$BB mknod -m 666 /dev/net/tun c 10 200
	$BB mknod -m 666 /dev/vfio/vfio c 10 196
	$BB mknod -m 660 /dev/vhost-net c 10 238
	$BB mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
	$BB mount -t tmpfs -o mode=1777,nosuid,nodev shm /dev/shm
	# What a real run of this tool left on the machine is not this host's state.
	[ ! -d /var/lib/thruway ] || $BB mount -t tmpfs none /var/lib/thruway
	# Only this kernel has modules here. An absolute /lib/modules holds under a merged /usr as well.
	$BB mkdir "/run/lab/modules/$($BB uname -r)"
	$BB mount -o bind "/run/lab/host$LAB_MODULES" "/run/lab/modules/$($BB uname -r)"
	$BB mount -o rbind /run/lab/modules /lib/modules
	$BB mount -t 9p -o "trans=virtio,version=9p2000.L,msize=512000,cache=loose" out /run/lab/out ||
		fail "the share for results is not there"
	[ -z "$LAB_IN" ] || $BB ln -s "/run/lab/host$LAB_IN" /run/lab/in
	[ -z "$LAB_TOOL" ] || $BB ln -s "/run/lab/host$LAB_TOOL" /run/lab/bin/thruway

	$BB hostname emulated
	$BB ip link set lo up
	if [ -n "$LAB_UPLINK_MAC" ]; then
		for net in /sys/class/net/*; do
			[ "$($BB cat "$net/address")" = "$LAB_UPLINK_MAC" ] || continue
			$BB ip link set "${net##*/}" up
			$BB ip address add "$LAB_UPLINK_ADDRESS" dev "${net##*/}"
			$BB ip route add default via "$LAB_UPLINK_GATEWAY" dev "${net##*/}"
		done
	fi

	# The ports' names arrive by messages from the device: wait for them, at most 10 s.
	tries=0
	until ports; do
		tries=$((tries + 1))
		[ $tries -lt 500 ] || fail "the ports for results are not there"
		$BB usleep 20000
	done
	exec 3>"$control"
	echo "up $(uptime)" >&3

	$BB cp $FW/script/raw /run/lab/script
	export HOME=/root TERM=dumb LANG=C.UTF-8
	# busybox has what the machine has not (ping, udhcpc, ..).
	$BB mkdir /run/lab/applets
	$BB --install -s /run/lab/applets
	export PATH=/run/lab/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/run/lab/applets
	export LAB_KERNEL_BZIMAGE LAB_KERNEL_VMLINUX LAB_GUEST_INITRD
	export LAB_IN=/run/lab/in LAB_OUT=/run/lab/out LAB_HOST=/run/lab/host
	cd /root 2>/dev/null || cd /
	# A session of its own, so that a command may claim a terminal; descriptor 3 stays here.
	$BB setsid /bin/sh /run/lab/script </dev/null >"$stdout" 2>"$stderr" 3>&-
	status=$?
	$BB sync
	echo "$LAB_TOKEN" >"$stdout"
	echo "$LAB_TOKEN" >"$stderr"
	echo "end $status $(uptime)" >&3
	# The outer side ends the machine once it has read everything.
	$BB sleep 60
	$BB poweroff -f
}

uptime() { read -r up _ </proc/uptime; echo "$up"; }

ports() {
	stdout='' stderr='' control=''
	for port in /sys/class/virtio-ports/*; do
		[ -e "$port/name" ] || continue
		read -r name <"$port/name" || continue
		case $name in
		thruway.stdout) stdout=/dev/${port##*/} ;;
		thruway.stderr) stderr=/dev/${port##*/} ;;
		thruway.control) control=/dev/${port##*/} ;;
		esac
	done
	[ -n "$stdout" ] && [ -n "$stderr" ] && [ -n "$control" ]
}

case $1 in
two) stage_two ;;
*) stage_one ;;
esac
fail "the init script ended"
