#!/usr/bin/env bash
# Brings hark to a board: writes a disk, or installs over SSH.
#
# Nothing is written before everything was checked: the image's signature and
# sums, that it is for this board, that the target can take it, that first settings
# are what they seem, and that the user means it. `--dry-run` stops there. See `./flash.sh --help`.

# Another shell reads no further than this.
if [ -z "${BASH_VERSION:-}" ]; then
    echo "flash.sh: this shell is not bash; run ./flash.sh or \`bash flash.sh\`" >&2
    exit 2
fi
set -euo pipefail

# Debian leaves the folders of system programs out of an ordinary user's PATH.
PATH=$PATH:/usr/sbin:/sbin

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# A board installs in minutes. Healthy takes 15 s of uptime after READY, a build
# that fails is given up after 120 s, and a slot that never gets so far has three
# boots: this is beyond each.
board_wait_s=${HARK_BOARD_WAIT_S:-900}
# The trial of the running slot ends after 120 s and the 15 s of its last start.
trial_wait_s=180
# As git's GIT_SSH_COMMAND: another client, an identity file, other options.
read -r -a ssh_command <<<"${HARK_SSH_COMMAND:-ssh}"
# The first partition, where an image keeps first settings, starts here.
esp_offset=1M
# The most that a file of first settings may have.
settings_bytes_max=65536

board='' target='' image='' ca='' site='' ssh_key=''
# Where this clone's builds lie.
built=${CARGO_TARGET_DIR:-target}
case $built in
/*) ;;
*) built=$here/$built ;;
esac
dry_run=no yes=no allow_fixed_disk=no
# What an end half-way leaves behind.
left='nothing was written'
# What makes root of the user on the board.
as_root=''
# Copies of the small files that were checked, gone when this ends.
held=''
# Prints a new folder of the board. Those of interrupted runs go: nothing runs there.
new_folder='rm -rf /var/tmp/hark-flash.* 2>/dev/null; mktemp -d /var/tmp/hark-flash.XXXXXX'

usage() {
    cat <<'HELP'
Usage: ./flash.sh --board BOARD --target TARGET [options]

TARGET is what hark is brought to:
  /dev/sdX      a disk, such as the SD card of the board: written as a whole
  FILE          a disk in a file, for QEMU: a new one, or one that is large enough;
                with an @ in its name, ./FILE
  USER@HOST     a running board, over SSH. With an image of ours the other slot is
                updated and the board reboots; it goes back by itself if hark is
                not healthy there. On a vendor's system the package is installed,
                and the one before it again if hark is not healthy.

Options:
  --board BOARD       as in board-configs: qemu-virt, raspberry-pi-4, …
  --image FILE        what to flash [target/images/BOARD/hark-BOARD.img, and for
                      USER@HOST .raucb, .deb, or .tar.gz for a system without dpkg];
                      SHA256SUMS, its signature and image.txt lie beside it
  --ca FILE           the certificate to trust [target/images/keys/cert.pem]
  --site FILE         this site's hark.toml, for the first boot of a disk
  --ssh-key FILE      the public key that may log in, for the first boot of a disk
  --port N            SSH's port [as ~/.ssh/config says, or 22]
  --dry-run           check everything, print the plan, write nothing
  --yes               do not ask
  --allow-fixed-disk  write a disk that is not removable
  --help              this

Examples:
  cargo xtask cross-build --target aarch64-unknown-linux-gnu
  cargo xtask image --board qemu-virt
  ./flash.sh --board qemu-virt --target disk.img --ssh-key ~/.ssh/id_ed25519.pub
  ./flash.sh --board qemu-virt --target root@gateway.local
  ./flash.sh --board raspberry-pi-5 --target pi@raspberrypi.local --dry-run

HARK_SSH_COMMAND replaces `ssh`, as in HARK_SSH_COMMAND='ssh -i key', and
CARGO_TARGET_DIR the folder target/.
Exit code: 0 done, 1 failed or refused, 2 wrong usage.
HELP
}

say() { printf '%s\n' "$*"; }
fail() { printf 'flash.sh: %s\n' "$*" >&2; exit 1; }
misused() { printf 'flash.sh: %s; see ./flash.sh --help\n' "$*" >&2; exit 2; }

need() {
    local program
    for program in "$@"; do
        command -v "$program" >/dev/null || fail "the program \`$program\` is missing; install it first"
    done
}

# confirm QUESTION: only an explicit yes goes on.
confirm() {
    if [ "$yes" = yes ]; then return; fi
    if ! [ -t 0 ]; then fail "$1 Nobody is here to answer; --yes says yes"; fi
    local answer
    # In a shell of its own, which has no trap: bash runs none while `read` waits
    # if the signal came just before, so Ctrl-C would need an Enter.
    answer=$(read -r -p "$1 Type yes to go on: " answer && printf '%s' "$answer") || true
    [ "$answer" = yes ] || fail "nothing was written"
    # An open file cannot be exchanged, but written to; an answer may take hours.
    is_whole || fail "$image was changed while the question stood; nothing was written"
}

# Whether the image that was opened is still the one that was signed.
is_whole() {
    [ "$(sum_of "$image_held")" = "$image_sum" ]
}

parse() {
    while [ $# -gt 0 ]; do
        case $1 in
        --board | --target | --image | --ca | --site | --ssh-key | --port)
            [ $# -ge 2 ] || misused "$1 needs a value"
            # Programs that get such a value would take it for an option of theirs.
            [[ $2 != -* ]] || misused "$1 needs a value, not \`$2\`; a file of that name is \`./$2\`"
            case $1 in
            --board) board=$2 ;;
            --target) target=$2 ;;
            --image) image=$2 ;;
            --ca) ca=$2 ;;
            --site) site=$2 ;;
            --ssh-key) ssh_key=$2 ;;
            --port)
                if ! [[ $2 =~ ^[1-9][0-9]{0,4}$ ]] || [ "$2" -gt 65535 ]; then misused "--port is a number from 1 to 65535, not \`$2\`"; fi
                ssh_command+=(-p "$2")
                ;;
            esac
            shift 2
            ;;
        --dry-run) dry_run=yes; shift ;;
        --yes) yes=yes; shift ;;
        --allow-fixed-disk) allow_fixed_disk=yes; shift ;;
        --help | -h) usage; exit 0 ;;
        *) misused "unknown argument \`$1\`" ;;
        esac
    done
    [ -n "$board" ] || misused "--board is missing"
    [ -n "$target" ] || misused "--target is missing"
}

# board_fact KEY: a text of [board] in the board's file.
board_fact() {
    sed -n '/^\[board\]/,/^\[[^b]/ s/^'"$1"' *= *"\([^"]*\)".*/\1/p' "$here/board-configs/$board.toml"
}

# What is known about the board: how it is served, and what its device tree
# calls it.
look_up_board() {
    local name known=()
    for name in "$here"/board-configs/*.toml; do
        name=$(basename "$name" .toml)
        if [ "$name" != base ]; then known+=("$name"); fi
    done
    [[ " ${known[*]} " == *" $board "* ]] || fail "no board \`$board\`; there are: ${known[*]}"
    package=$(board_fact install)
    case $package in
    image) served=disk ;;
    deb | tar.gz) served=package ;;
    *) fail "$here/board-configs/$board.toml says not how hark gets there: board.install" ;;
    esac
    machine=$(board_fact target)
    machine=${machine%%-*}
    # As uname says it.
    if [ "$machine" = armv7 ]; then machine=armv7l; fi
    model=$(board_fact model)
}

classify_target() {
    case $target in
    */) misused "--target $target is a folder; name a file in it" ;;
    /dev/*) kind='device' ;;
    */*) kind='file' ;;
    *@*)
        kind='ssh'
        if [ -e "$target" ]; then kind='file'; fi
        ;;
    *) kind='file' ;;
    esac
    case $kind-$target in
    ssh-@* | ssh-*@ | ssh-*@-*) misused "--target $target is no USER@HOST" ;;
    esac
    if [ $kind != ssh ] && [ "$served" = package ]; then
        if [ "$dry_run" = yes ]; then plan_vendor_board; fi
        fail "$board keeps its vendor's system: flash that first, then name the running board as --target USER@HOST"
    fi
}

# A disk of such a board is the vendor's to write; what comes then is ours.
plan_vendor_board() {
    cat <<PLAN
board     $board, which keeps its vendor's system
target    $target, which the vendor's own tool writes
plan      write the vendor's system to $target by that tool, boot the board, put your SSH key there,
          then ./flash.sh --board $board --target USER@HOST installs hark and waits until it is healthy
dry run   nothing was written
PLAN
    exit 0
}

# choose_image SUFFIX [OTHER]: of what the target takes; the first unless --image
# names another.
choose_image() {
    image_is_named=yes
    if [ -z "$image" ]; then
        image_is_named=no
        image=$built/images/$board/hark-$board.$1
    fi
    case $image in
    *."$1" | *."${2:-$1}") ;;
    *) fail "$target takes a .$1${2:+ or a .$2}, which $image is not" ;;
    esac
    images=$(dirname "$image")
    ca=${ca:-$built/images/keys/cert.pem}
}

# hold FILE NAME: a copy, so that what is used later is what was checked, whatever
# becomes of FILE while somebody is asked.
hold() {
    cp -- "$1" "$held/$2" || fail "$1 cannot be read (see above)"
}

# Opens the image and keeps the small files beside it. From here on nothing of
# what is flashed is looked up by its name again.
hold_image() {
    local folder
    folder=$(dirname "$image")
    hold "$folder/image.txt" image.txt
    hold "$folder/SHA256SUMS" SHA256SUMS
    hold "$folder/SHA256SUMS.sig" SHA256SUMS.sig
    { exec {image_open}<"$image"; } 2>/dev/null || fail "$image cannot be read by you"
    image_held=/dev/fd/$image_open
}

check_image() {
    need openssl sha256sum
    local file
    for file in "$image" "$images/image.txt" "$images/SHA256SUMS" "$images/SHA256SUMS.sig" "$ca"; do
        if [ -f "$file" ] && [ -s "$file" ]; then continue; fi
        if [ "$dry_run$image_is_named" = yesno ] && ! [ -e "$image" ]; then
            say "image     $image is not built; \`cargo xtask image --board $board\` makes it"
            return
        fi
        fail "$file is missing; \`cargo xtask image --board $board\` makes all that is flashed"
    done
    hold_image
    # Without the machine's own authorities: a mail certificate signs no images.
    local reason
    reason=$(openssl cms -verify -binary -inform DER -in "$held/SHA256SUMS.sig" \
        -content "$held/SHA256SUMS" -CAfile "$ca" -no-CApath -no-CAstore -out /dev/null 2>&1) ||
        fail "the signature of $images/SHA256SUMS is not by a key that $ca vouches for; do not flash this, or name the right --ca (openssl: ${reason##*$'\n'})"
    check_sum "$held/image.txt" image.txt
    check_sum "$image_held" "$(basename "$image")"
    image_sum=$sum
    local says
    says=$(sed -n 's/^board=//p' "$held/image.txt")
    [ "$says" = "$board" ] || fail "$image is for the board $says, not for $board"
    version=$(sed -n 's/^version=//p' "$held/image.txt")
    image_bytes=$(stat -Lc %s "$image_held")
    say "image     $image, build $version, $((image_bytes / 1000000)) MB, signature and sums are right"
}

# sum_of FILE: its SHA-256 in hexadecimal digits.
sum_of() {
    sha256sum <"$1" | cut -d ' ' -f 1
}

# check_sum FILE NAME: that FILE is what SHA256SUMS, which is known to be genuine,
# calls NAME. Sets `sum`.
check_sum() {
    grep -qF "  $2" "$held/SHA256SUMS" || fail "$2 is not named in $images/SHA256SUMS"
    sum=$(sum_of "$1")
    grep -qxF "$sum  $2" "$held/SHA256SUMS" ||
        fail "$images/$2 is torn or was changed: its SHA-256 is not the signed one; build or copy it again"
}

check_device() {
    need lsblk blockdev
    [ -b "$target" ] || fail "$target is no block device; \`lsblk\` lists disks"
    # A loop device that is bound to no file, a card reader without a card: lsblk may
    # not even list them.
    target_bytes=$(lsblk --nodeps --noheadings --raw --bytes --output SIZE "$target" 2>/dev/null) || target_bytes=0
    [ "${target_bytes:-0}" -gt 0 ] || fail "$target holds no medium: a card reader without a card, or a loop device without a file"
    local type mounted removable hotplug transport
    type=$(lsblk --nodeps --noheadings --raw --output TYPE "$target")
    [ "$type" = disk ] || fail "$target is a $type; name the whole disk"
    mounted=$(lsblk --noheadings --raw --output MOUNTPOINTS "$target" | tr -s '\n' ' ')
    [ -z "${mounted// /}" ] || fail "$target is in use (mounted at ${mounted% }); unmount it first"
    removable=$(lsblk --nodeps --noheadings --raw --output RM "$target")
    hotplug=$(lsblk --nodeps --noheadings --raw --output HOTPLUG "$target")
    transport=$(lsblk --nodeps --noheadings --raw --output TRAN "$target")
    if [ "$removable$hotplug" = 00 ] && [ "$transport" != usb ] && [ "$allow_fixed_disk" = no ]; then
        fail "$target is not removable and may be this computer's own disk; --allow-fixed-disk if it is meant"
    fi
    check_size
    check_writable "$target"
    say "target    $target, $(lsblk --nodeps --noheadings --output MODEL,SIZE "$target" | tr -s ' '), not in use"
}

check_file() {
    need losetup
    local folder
    folder=$(dirname "$target")
    [ -d "$folder" ] || fail "the folder $folder of --target does not exist"
    if ! [ -e "$target" ]; then
        check_writable "$folder"
        target_bytes=''
        local free
        free=$(df --output=avail --block-size=1 "$folder" | tail -n 1)
        if [ -n "${image_bytes:-}" ] && [ "$free" -lt "$image_bytes" ]; then
            fail "$folder has $free bytes free; the image takes $image_bytes"
        fi
        say "target    $target, a new file"
        return
    fi
    [ -f "$target" ] || fail "$target is neither a file nor a disk"
    if [ "$target" -ef "$image" ] || [ "$target" -ef "${image_held:-}" ]; then fail "$target is the image itself; name another file"; fi
    check_writable "$target"
    local loop
    for loop in $(losetup --noheadings --raw --output NAME --associated "$target"); do
        fail "$target is in use as $loop; \`losetup --detach $loop\` first"
    done
    target_bytes=$(stat -Lc %s "$target")
    check_size
    say "target    $target, a file of $((target_bytes / 1000000)) MB"
}

check_writable() {
    [ -w "$1" ] || fail "you may not write to $1, or it lies on a system that is mounted read-only; name another one, or run this with sudo"
}

check_size() {
    if [ -n "${image_bytes:-}" ] && [ "$target_bytes" -lt "$image_bytes" ]; then
        fail "$target is too small: it has $target_bytes bytes, the image takes $image_bytes"
    fi
}

# What the first boot takes over.
check_first_settings() {
    [ -z "$site$ssh_key" ] || need mcopy
    if [ -n "$site" ]; then check_site; fi
    if [ -n "$ssh_key" ]; then check_ssh_key; fi
}

# check_small OPTION FILE NAME: a board has thousands of bytes of settings, not a log.
# What is checked and used from here on is its copy NAME.
check_small() {
    if ! [ -f "$2" ] || ! [ -s "$2" ]; then fail "$1 $2 is missing, empty, or no file"; fi
    [ -r "$2" ] || fail "$1 $2 cannot be read by you"
    head -c $((settings_bytes_max + 1)) -- "$2" >"$held/$3" || fail "$1 $2 cannot be read (see above)"
    [ "$(stat -c %s "$held/$3")" -le "$settings_bytes_max" ] || fail "$1 $2 is larger than $settings_bytes_max bytes; is it the file that is meant?"
}

check_ssh_key() {
    need ssh-keygen
    check_small --ssh-key "$ssh_key" authorized_keys
    if grep -q 'PRIVATE KEY' "$held/authorized_keys"; then fail "$ssh_key is a private key; the public one is meant"; fi
    ssh-keygen -l -f "$held/authorized_keys" >/dev/null 2>&1 || fail "$ssh_key is no public SSH key, such as ~/.ssh/id_ed25519.pub"
}

check_site() {
    need iconv
    check_small --site "$site" hark.toml
    iconv -f UTF-8 -t UTF-8 "$held/hark.toml" 2>/dev/null | tr -d '\0' | cmp -s - "$held/hark.toml" || fail "$site is not UTF-8 text"
    local inherited
    inherited=$(sed -nE "s/^[[:space:]]*inherit[[:space:]]*=[[:space:]]*[\"']([^\"']*)[\"'].*/\1/p" "$held/hark.toml" | head -n 1)
    inherited=${inherited##*/}
    case $inherited in
    base.toml | "$board.toml") ;;
    *.toml)
        if [ -e "$here/board-configs/$inherited" ]; then
            fail "$site inherits from $inherited, which is another board's; $board.toml is this one's"
        fi
        ;;
    esac
    local hark=$built/release/hark
    [ -x "$hark" ] || hark=$(command -v hark) || hark=''
    if [ -z "$hark" ]; then
        say "note      no hark of this computer is there to check $site; \`cargo build --release\` makes one"
        return
    fi
    check_site_with "$hark"
}

# check_site_with HARK: a copy alone in its folder, as the board has it, that
# inherits from the clone what lies in /usr/share/hark there.
check_site_with() {
    local folder=$held/alone words content status=0 theirs=$here/board-configs/
    mkdir "$folder"
    content=$(<"$held/hark.toml")
    content=${content//\/usr\/share\/hark\/board-configs\//"$theirs"}
    printf '%s\n' "$content" >"$folder/hark.toml"
    # What HARK_ variables say is for this script, or for this computer's hark.
    words=$(unset "${!HARK_@}" && "$1" check --config "$folder/hark.toml" 2>&1) || status=$?
    if [ $status = 0 ]; then return; fi
    # Devices, and files that are not there, may well be there on the board.
    words=$(sed '/^missing here: /d' <<<"$words")
    if ! grep -qvE '^(models, |sources, |mqtt\.password_file: ).*\(os error 2\)$' <<<"$words"; then
        say "note      the board must have files that are not here:"$'\n'"$words"
        return
    fi
    fail "$site is wrong:"$'\n'"${words//"$folder/hark.toml"/"$site"}"
}

write_disk() {
    say "plan      write $image to $target, read it back and compare"
    [ -z "$site" ] || say "          put $site there as this site's hark.toml"
    [ -z "$ssh_key" ] || say "          let the key $ssh_key log in as root"
    if [ "$dry_run" = yes ]; then return; fi
    if [ $kind = device ]; then claim_device; fi
    if [ -n "$target_bytes" ]; then confirm "Everything on $target is overwritten."; fi

    local conversion=notrunc,fsync uncached=nocache
    # In a new file runs of zeros may stay holes; on a disk they must be written.
    if [ -z "$target_bytes" ]; then
        conversion=$conversion,sparse
        truncate --size "$image_bytes" "$target"
    fi
    # Past the page cache progress is true, and what is compared comes from the medium.
    if [ $kind = device ]; then uncached=direct; fi
    left="$target holds part of an image; flash it again before use"
    dd if="$image_held" of="$target" bs=4M oflag=$uncached conv="$conversion" status=progress ||
        fail "writing failed (see above); $left"
    say "reading back"
    # Only a call that copies nothing drops the whole of a file from the cache.
    if [ $kind = file ]; then dd if="$target" iflag=nocache count=0 status=none; fi
    # With the signed sum, not with a file that may have changed in place since.
    local found
    found=$(dd if="$target" bs=4M iflag=$uncached,count_bytes count="$image_bytes" status=progress | sum_of /dev/stdin) ||
        fail "reading back failed (see above); $left"
    if [ "$found" != "$image_sum" ]; then
        is_whole || fail "$image was changed after it was checked; $left"
        fail "$target does not hold what was written to it; the medium is broken or fake: take another one"
    fi
    left="$target holds the image, but not this site's settings; flash it again"
    [ -z "$site" ] || mcopy -o -i "$target@@$esp_offset" "$held/hark.toml" ::/site/hark.toml || fail "$site does not fit; $left"
    [ -z "$ssh_key" ] || mcopy -o -i "$target@@$esp_offset" "$held/authorized_keys" ::/site/authorized_keys || fail "$ssh_key does not fit; $left"
    sync "$target"
    [ $kind = file ] || blockdev --rereadpt "$target" 2>/dev/null || true
    say "done: $target holds build $version; what was read back has the signed sum"
    next_steps "boot the board from it"
}

claim_device() {
    need flock
    # udev leaves a locked disk alone, and so does what mounts on its word
    # (systemd.io/BLOCK_DEVICE_LOCKING). Held until this script ends.
    local lock refusal
    exec {lock}<"$target"
    flock --exclusive --timeout 10 "$lock" || fail "another program has locked $target"
    # The kernel reads the table anew only if nothing uses a partition, be it swap,
    # LVM or a RAID. Other refusals, as a loop device's, say nothing.
    refusal=$(LC_ALL=C blockdev --rereadpt "$target" 2>&1) || [[ $refusal != *busy* ]] ||
        fail "this computer uses $target; \`lsblk $target\` may show for what"
}

remote() {
    "${ssh_command[@]}" -o ConnectTimeout=10 -o ServerAliveInterval=5 -o ServerAliveCountMax=4 -- "$target" "$@"
}

# As remote, within a time: a board that is just going down may hang.
probe() {
    timeout --foreground 30 "${ssh_command[@]}" -o BatchMode=yes -o ConnectTimeout=5 -- "$target" "$@" 2>/dev/null
}

check_board() {
    need "${ssh_command[0]}" timeout
    local found
    found=$(remote uname -m) || fail "no answer from $target; does your key log in there?"
    probe true || fail "$target asks for a password; it is asked again and again, so put your key there first (ssh-copy-id)"
    [ "$found" = "$machine" ] || fail "$target is a $found, $board is a $machine"
    if [ "$served" = disk ]; then
        found=$(remote "sed -n 's/^compatible=hark-//p' /etc/rauc/system.conf 2>/dev/null || true")
        [ "$found" = "$board" ] || fail "$target is not a $board with an image of ours, but: ${found:-something else}"
    else
        found=$(remote 'tr -d "\0" </proc/device-tree/model 2>/dev/null || true')
        [[ $found == *"$model"* ]] || fail "$target calls itself \`$found\`, which is not a $board ($model)"
    fi
    if [ "$(remote id -u)" != 0 ]; then
        as_root='sudo -n'
        remote sudo -n true || fail "$target may not become root without a password; log in as root, or let its sudo ask for none (NOPASSWD)"
    fi
    if remote systemctl is-active --quiet hark-flash; then
        fail "$target is still at an earlier install; try again when it is done"
    fi
    case $image in
    *.deb) remote 'command -v dpkg >/dev/null' || fail "$target has no dpkg; --image may name the .tar.gz" ;;
    esac
    say "target    $target, a $board, running build $(remote 'cat /usr/share/hark/build 2>/dev/null || echo none')"
}

# upload FILE SUM REMOTE: all of FILE, whose SHA-256 is SUM, or nothing.
upload() {
    dd if="$1" bs=1M status=progress | remote "cat >'$3.new' && sync '$3.new'" ||
        fail "copying to the board failed (see above; is its disk full?); $left"
    remote "[ \"\$(sha256sum <'$3.new')\" = '$2  -' ] && mv '$3.new' '$3'" ||
        fail "the copy on the board is not whole, or $image was changed after it was checked; $left"
}

# run_on_board COMMAND: in $folder there, as root. Shows what it says and sets
# `result` to its exit code.
#
# It is a unit of its own, so neither a lost connection nor a full pipe stops it
# half-way; here only its log is read, over as many connections as it takes.
run_on_board() {
    local deadline=$((SECONDS + board_wait_s)) shown=0 is_lost=no said status=0
    local state="if systemctl is-active --quiet hark-flash; then echo running; else grep -x '[0-9]*' $folder/result 2>/dev/null || echo gone; fi"
    left="the board goes on with it by itself; $folder/log there says how far it is"
    remote "cat >$folder/run && $as_root systemd-run --quiet --collect --unit=hark-flash sh $folder/run" <<RUN || status=$?
$1 >$folder/log 2>&1
echo \$? >$folder/result
RUN
    # 255 is ssh's own: nobody knows whether the board has heard it.
    if [ $status != 0 ] && [ $status != 255 ]; then fail "the board could not start it (see above); nothing was changed there"; fi
    while [ $SECONDS -lt $deadline ]; do
        sleep 2
        if ! said=$(probe "$state; tail -n +$((shown + 1)) $folder/log 2>/dev/null || true"); then
            if [ $is_lost = no ]; then say "  the connection is lost; the board goes on by itself; trying to reach it again"; fi
            is_lost=yes
            continue
        fi
        if [ $is_lost = yes ]; then say "  it answers again"; fi
        is_lost=no
        result=${said%%$'\n'*}
        if [[ $said = *$'\n'* ]]; then
            said=${said#*$'\n'}
            say "  ${said//$'\n'/$'\n  '}"
            shown=$((shown + $(wc -l <<<"$said")))
        fi
        case $result in
        running) ;;
        gone) fail "the board did not begin or was stopped half-way, perhaps by a power cut; what it said would be in $folder/log there" ;;
        *) probe "rm -rf $folder" || true; return ;;
        esac
    done
    fail "it takes longer than $board_wait_s s; $left"
}

# look_at_board: sets boot_id, slot and health, as `healthy 1.2.3`.
look_at_board() {
    local state
    # hark-health may not have begun yet.
    state=$(probe 'cat /proc/sys/kernel/random/boot_id; sed -n "s/.*rauc.slot=\([AB]\).*/\1/p" /proc/cmdline; cat /run/hark-health 2>/dev/null || echo pending') || return 1
    { read -r boot_id && read -r slot && read -r health; } <<<"$state"
}

# While the running slot is on trial, the other one is what the board goes back to,
# and nothing may overwrite it.
await_trial() {
    local deadline=$((SECONDS + trial_wait_s)) is_said=no
    look_at_board || fail "$target does not tell its state"
    while [[ $health = pending* ]]; do
        [ $SECONDS -lt $deadline ] || fail "the board has not decided for $trial_wait_s s whether it keeps slot $slot; see \`journalctl -u hark-health\` there"
        if [ $is_said = no ]; then say "waiting until the board has decided whether it keeps slot $slot, up to $trial_wait_s s"; fi
        is_said=yes
        sleep 3
        look_at_board || true
    done
    case $health in
    leaving*) fail "hark is not healthy in slot $slot and the board is going back to the other one, which an update would overwrite; try again then" ;;
    unhealthy*) say "note: hark is not healthy in slot $slot now; it may be for its settings, which an update leaves as they are" ;;
    esac
}

update_slot() {
    say "plan      copy $image to $target, install it to the slot that is not running,"
    say "          reboot, wait until hark is healthy there; if it is not, the board goes back by itself"
    if [ "$dry_run" = yes ]; then return; fi
    await_trial
    confirm "$target runs slot $slot and will reboot."
    left="the board goes on in slot $slot as before"
    folder=$(remote "rm -f /var/lib/update.raucb*; $new_folder") || fail "no folder could be made on the board (see above); $left"
    upload "$image_held" "$image_sum" /var/lib/update.raucb
    run_on_board 'rauc install /var/lib/update.raucb'
    probe 'rm -f /var/lib/update.raucb' || true
    [ "$result" = 0 ] || fail "the board refused the update (see above); it goes on in slot $slot as before"
    left="build $version is installed and the board boots it next; it goes back by itself if hark is not healthy then"
    await_health
}

# await_health: of build $version in the slot that did not run when the board was
# looked at last.
await_health() {
    local deadline=$((SECONDS + board_wait_s)) shown='' old_boot=$boot_id old_slot=$slot new_slot
    new_slot=$(tr AB BA <<<"$old_slot")
    say "rebooting, and waiting until hark is healthy in slot $new_slot, up to $board_wait_s s"
    probe 'sync; systemctl reboot' || true
    while [ $SECONDS -lt $deadline ]; do
        sleep 3
        look_at_board || continue
        if [ "$boot_id" = "$old_boot" ]; then
            # It may never have heard it, and once more does no harm.
            probe 'systemctl reboot' || true
            continue
        fi
        if [ "$slot $health" != "$shown" ]; then say "  slot $slot: $health"; fi
        shown="$slot $health"
        case $health in pending* | leaving*) continue ;; esac
        if [ "$shown" = "$new_slot healthy $version" ]; then
            say "done: $target runs build $version in slot $slot, healthy"
            next_steps "see its state with \`ssh $target rauc status\`"
            return
        fi
        [ "$slot" = "$old_slot" ] || fail "slot $slot is to run build $version, healthy, but says: $health"
        # What the boot loader knows: a slot that was never tried has neither mark.
        if probe 'grub-editenv /run/hark-env list' | grep -qE "^${new_slot}_(OK=0|TRY=[1-9])"; then
            fail "build $version was not healthy; the board went back to slot $slot by itself, and says there: $health"
        fi
        fail "the board booted slot $slot again, not slot $new_slot with build $version; see \`rauc status\` there"
    done
    fail "the board was not healthy within $board_wait_s s; last seen: ${shown:-nothing}; $left"
}

install_package() {
    say "plan      copy $image to $target and install it there; if hark is not healthy then,"
    say "          install the package of before again"
    if [ "$dry_run" = yes ]; then return; fi
    confirm "hark on $target is replaced."
    left='hark on the board is as before'
    # A folder that nobody else can have made, and a name without surprises: root
    # runs what lies there.
    local name=hark.deb
    case $image in *.tar.gz) name=hark.tar.gz ;; esac
    folder=$(remote "$new_folder") || fail "no folder could be made on the board (see above); $left"
    upload "$image_held" "$image_sum" "$folder/$name"
    local installer=$here/cross/image/install-on-board.sh
    upload "$installer" "$(sum_of "$installer")" "$folder/install-on-board.sh"
    run_on_board "sh $folder/install-on-board.sh $folder/$name"
    case $result in
    0) ;;
    3) fail "build $version could not be installed on $target (see above)" ;;
    4) fail "hark on $target is not healthy with build $version (see above)" ;;
    *) fail "installing build $version on $target ended with exit code $result (see above)" ;;
    esac
    say "done: $target runs build $version, healthy"
    next_steps "see its log with \`ssh $target journalctl -u hark\`"
}

next_steps() {
    cat <<NEXT
next: $1
      settings of the site: /etc/hark/hark.toml on the board; \`hark check\` there says what is wrong
      subscribe to alerts:  mosquitto_sub -h BROKER -t 'hark/v1/+/alert/#' -v
      (BROKER is [mqtt] host of the settings; an alert is retained while it is raised)
NEXT
}

main() {
    trap 'fail "interrupted; $left"' INT TERM
    parse "$@"
    held=$(mktemp -d) || fail "no folder for temporary files could be made (see above)"
    trap 'rm -rf -- "$held"' EXIT
    look_up_board
    classify_target
    say "board     $board"
    case $kind-$served in
    ssh-disk) choose_image raucb ;;
    ssh-package) if [ "$package" = deb ]; then choose_image deb tar.gz; else choose_image tar.gz; fi ;;
    *) choose_image img ;;
    esac
    check_image
    case $kind in
    device) check_first_settings; check_device; write_disk ;;
    file) check_first_settings; check_file; write_disk ;;
    ssh)
        [ -z "$site$ssh_key" ] || misused "--site and --ssh-key are for the first boot of a disk"
        # A plan can be had without the board at hand.
        if [ "$dry_run" = no ]; then check_board; else say "target    $target, which is asked what it is before anything is copied"; fi
        if [ "$served" = disk ]; then update_slot; else install_package; fi
        ;;
    esac
    if [ "$dry_run" = yes ]; then say "dry run   nothing was written"; fi
}

main "$@"
