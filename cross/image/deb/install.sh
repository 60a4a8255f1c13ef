#!/bin/sh
# Installs hark from its unpacked tarball on a system with systemd but without
# dpkg, as root: ./install.sh [ROOT]. Settings in /etc/hark that are there stay.
set -eu

from=$(cd "$(dirname "$0")" && pwd)
root=${1:-}

put() {
    mkdir -p "$root/$(dirname "$1")"
    # Renamed into place, because a running program cannot be written to.
    cp -p "$from/$1" "$root/$1.new"
    mv "$root/$1.new" "$root/$1"
}

cd "$from"
find usr -type f | while read -r file; do put "$file"; done
if [ ! -e "$root/etc/hark/hark.toml" ]; then put etc/hark/hark.toml; fi
sync

if [ -z "$root" ] && [ -d /run/systemd/system ]; then
    systemd-sysusers hark.conf
    udevadm control --reload || true
    udevadm trigger --subsystem-match=gpio --subsystem-match=watchdog --subsystem-match=usb-serial || true
    systemctl daemon-reload
    systemctl enable hark.service
    # Installed all the same; whoever installs looks at hark's health.
    systemctl restart hark.service || echo "hark did not start; see \`journalctl -u hark\`" >&2
fi
