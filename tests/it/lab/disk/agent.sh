#!/bin/sh
# Runs the script of this boot, which lies on the share with the test, and ends the machine: by the system's own way, so
# that everything that runs at an orderly shutdown has run when QEMU ends. The share is not cached: what is written to it
# is there for the test at once.

export LAB=/run/lab LAB_OUT=/run/lab/out HOME=/root TERM=dumb LANG=C.UTF-8
mkdir -p "$LAB"
# udev may still be at it: its driver's module, or the device that the driver takes.
modprobe 9pnet_virtio
until ls /sys/bus/virtio/drivers/9pnet_virtio | grep -q '^virtio'; do
    udevadm settle --timeout=5
    sleep 0.2
done
if ! mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=none lab "$LAB"; then
    echo "lab-agent: the share with the test is not there" >/dev/console
    exit 1
fi
# What the test waits for appears whole.
tell() { echo "$2" >"$LAB/$1.new" && mv "$LAB/$1.new" "$LAB/$1"; }
# For scripts: the moment at which the test is to cut the power.
mark() { : >"$LAB/mark.$1"; }

tell up "$(cut -d' ' -f1 /proc/uptime)"
cd /root
(. "$LAB/script") </dev/null >"$LAB/stdout" 2>"$LAB/stderr"
tell status $?
systemctl --no-block poweroff
