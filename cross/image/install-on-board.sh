#!/bin/sh
# Runs on a board with its vendor's system, as root: installs hark's package or
# tarball, waits for health, and goes back to the one before it if there is none.
#
# The package that was healthy last is kept, because nothing else could be
# installed again without a network.
#
# Exit code: 0 healthy, 3 could not be installed, 4 not healthy; after 3 and 4 the
# one before was installed again, if there is one.
set -eu

new=$1
kept=${HARK_KEPT:-/var/lib/hark-install}
patience_s=${HARK_PATIENCE_S:-90}
stays_s=${HARK_STAYS_S:-15}

install_bundle() {
    case $1 in
    *.deb) dpkg --install --force-confold "$1" ;;
    *.tar.gz)
        # Called in a condition, where `set -e` does not count.
        folder=$(mktemp -d) || return 1
        status=0
        tar -xzf "$1" -C "$folder" && sh "$folder/install.sh" || status=1
        rm -rf "$folder"
        return $status
        ;;
    *)
        echo "$1 is neither a .deb nor a .tar.gz" >&2
        return 1
        ;;
    esac
}

# Healthy: READY was said, and the same process is there for a while.
is_healthy() {
    waited=0
    stayed=0
    pid=''
    while [ $waited -lt "$patience_s" ]; do
        state=$(systemctl show --property ActiveState --value hark.service)
        now=$(systemctl show --property MainPID --value hark.service)
        if [ "$state" = active ] && [ "$now" = "$pid" ]; then
            stayed=$((stayed + 1))
            if [ $stayed -ge "$stays_s" ]; then return 0; fi
        else
            stayed=0
            pid=$now
        fi
        waited=$((waited + 1))
        sleep 1
    done
    return 1
}

# keep PACKAGE: at every moment one is there, whole.
keep() {
    kept_new=$kept/$(basename "$1")
    cp "$1" "$kept/.new"
    sync "$kept/.new"
    mv "$kept/.new" "$kept_new"
    sync "$kept"
    for before in "$kept"/*.deb "$kept"/*.tar.gz; do
        [ "$before" = "$kept_new" ] || rm -f "$before"
    done
}

mkdir -p "$kept"
if ! install_bundle "$new"; then
    echo "$new could not be installed" >&2
    outcome=3
elif is_healthy; then
    keep "$new"
    rm -f "$new"
    echo "hark is healthy"
    exit 0
else
    echo "hark is not healthy" >&2
    outcome=4
    systemctl status --no-pager --lines 20 hark.service || true
fi

for before in "$kept"/*.deb "$kept"/*.tar.gz; do
    [ -e "$before" ] || continue
    echo "installing $before again"
    if install_bundle "$before" && is_healthy; then
        echo "hark is healthy again, as it was before"
    else
        echo "hark is not healthy with $before either" >&2
    fi
    exit $outcome
done
echo "there is no package of before to go back to" >&2
exit $outcome
