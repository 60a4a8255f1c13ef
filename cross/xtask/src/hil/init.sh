#!/bin/sh
# Process 1 of the RAM disk: devices, network and data disk, then hark, started
# again whenever it ends, and a shell for the test on the virtio console.
/bin/busybox --install -s /bin
mkdir -p /proc /sys /dev /run /tmp /var/lib/hark
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs run /run

while read -r module; do
    insmod "/lib/modules/$module" || echo "init: $module does not load"
done </lib/modules/order

ifconfig lo 127.0.0.1 up
ifconfig eth0 10.0.2.15 up
route add default gw 10.0.2.2
hostname hil
mount -t ext4 /dev/vda /var/lib/hark || echo "init: no data disk"
uname -a

serve() {
    cd /var/lib/hark || return
    export NO_COLOR=1
    while :; do
        # What a test asks for holds until the next boot, hence /run; it is
        # words, hence no quotes.
        # shellcheck disable=SC2046
        hark run --config /var/lib/hark/hark.toml --json $(cat /run/hark.options 2>/dev/null)
        echo "init: hark ended: $?"
        sleep 1
    done
}
serve </dev/null >/dev/ttyAMA0 2>&1 &

# One command a line, raw, so that nothing is echoed or edited.
exec 3<>/dev/hvc0
stty raw -echo <&3
while :; do
    while read -r line <&3; do
        (eval "$line") </dev/null >&3 2>&1
    done
    sleep 1
done
