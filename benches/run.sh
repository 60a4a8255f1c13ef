#!/usr/bin/env bash
# Prints every figure that hark is judged by, as README.md here explains them:
# hark beside the bare model, over sensors, at its capacity, beyond it, and
# beside its peers on one broker.
#
#   benches/run.sh [--quick] [--rounds N] [--peers DIR]
#
#   --quick      one short round of everything: shows that it works, no figures
#   --rounds N   rounds of each comparison (default 5)
#   --peers DIR  peers and load generator (default ../shared/peers); a folder
#                that is not set up is copied below target/ and set up there
#
# HARK=PATH measures that binary and builds none. All that is printed, and more,
# is left in target/benches/results. What this machine lacks is skipped and
# named at the end. Exit code 0 fine, 1 something failed, 2 usage.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
work=$root/target/benches
results=$work/results
venv=$work/venv
shared=$root/../shared
peers=$shared/peers
rounds=5 duration=10s overload=60s scenarios="sat1 sat100 win100 open1k"
# Readings of the peers' scenarios and of the overload come from this many.
overload_sensors=1000
failed=() skipped=()

usage() {
    sed -n 's/^# \{0,1\}//; 6,15p' "$0"
    exit "$1"
}

main() {
    parse "$@"
    rm -rf "$results"
    mkdir -p "$results"
    build
    machine | tee "$results/machine.md"
    pack_models
    bench_paths
    bench_sensors
    bench_limits
    bench_peers
    report
}

parse() {
    while [ $# -gt 0 ]; do
        case $1 in
        --quick) rounds=1 duration=2s overload=5s scenarios="win100 open1k" ;;
        --rounds) rounds=${2:?--rounds needs a number} && shift ;;
        --peers) peers=$(cd "${2:?--peers needs a folder}" && pwd) && shift ;;
        --help | -h) usage 0 ;;
        *) usage 2 >&2 ;;
        esac
        shift
    done
}

build() {
    if [ -z "${HARK:-}" ]; then
        (cd "$root" && cargo build --release -p hark)
        HARK=${CARGO_TARGET_DIR:-$root/target}/release/hark
    fi
    hark=$(realpath "$HARK")
    # hark reads its settings from HARK_*; this one is not for it.
    unset HARK
}

machine() {
    echo "# hark's figures"
    echo
    echo "- hark: $("$hark" --version), commit $(git -C "$root" describe --always --dirty)"
    echo "- machine: $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), $(nproc) cores, $(uname -srm)"
    echo "- load before: $(cut -d ' ' -f 1-3 /proc/loadavg)"
    echo "- rounds: $rounds, $duration each"
}

# Packs the two models that are not hark's own as bundles.
pack_models() {
    local ad01=$shared/models/ad01_fp32.onnx
    if [ ! -f "$ad01" ]; then
        skip "the bare model's comparison with ad01_fp32: no $ad01"
        return
    fi
    section "Packing ad01_fp32" pack-ad01.txt pack "$ad01" "$work/ad01-fp32" --name ad01-fp32 \
        --precision float32 --backends tract --channels 32 --length 20 --threshold 10
}

pack() {
    local python=$venv/bin/python
    if [ ! -x "$python" ]; then
        python3 -m venv "$venv"
        "$venv/bin/pip" install -q -r "$root/benches/requirements.txt"
    fi
    PYTHONDONTWRITEBYTECODE=1 "$python" "$root/benches/pack.py" "$@"
}

# The same model bare, in process, through a pseudo terminal and through MQTT.
bench_paths() {
    local bundle
    for bundle in "$work/ad01-fp32" "$root/models/pump-rig"; do
        [ -f "$bundle/manifest.toml" ] || continue
        local name
        name=$(basename "$bundle")
        section "$name: bare, in process, pty, MQTT" "paths-$name.txt" \
            "$hark" bench "$bundle" --paths bare,process,pty,mqtt --for "$duration" \
            --rounds "$rounds" --plot "$results/paths-$name.svg"
    done
}

# pump-rig in process: the most that one core takes, and what more sensors cost.
bench_sensors() {
    local bundle=$root/models/pump-rig sensors
    for sensors in 1 1000 10000; do
        section "pump-rig, $sensors sensors, saturated" "sensors-$sensors.txt" \
            "$hark" bench "$bundle" --sensors "$sensors" --saturate --paths process \
            --for "$duration" --rounds "$rounds"
    done
}

# What the configuration of the peers' run can serve here, and twice that.
bench_limits() {
    pack_peers_model || return 0
    export HARK_MODELS__0__PATH=$work/peers-ae HARK_DEVICE__DATA_DIR=$work/data
    section "Capacity" capacity.json "$hark" capacity --config "$root/benches/peers.toml" --json
    local rate
    rate=$(overload_rate <"$results/capacity.json") || {
        failed+=("overload: no readings_per_second in capacity.json")
        return 0
    }
    section "Overload, twice the capacity for $overload" overload.txt \
        "$hark" bench "$work/peers-ae" --sensors "$overload_sensors" --rate "$rate" \
        --paths process --for "$overload" --rounds 1
}

# Twice the capacity as readings a second of each sensor.
overload_rate() {
    python3 -c 'import json, sys
print(round(2 * json.load(sys.stdin)["readings_per_second"] / int(sys.argv[1]), 3))' \
        "$overload_sensors" 2>/dev/null
}

# Sets the peers up if they are not, and packs their model; 1 without peers.
pack_peers_model() {
    if [ ! -x "$peers/run.sh" ]; then
        skip "capacity, overload and peers: no $peers/run.sh"
        return 1
    fi
    if [ ! -x "$peers/loadgen/target/release/loadgen" ]; then
        set_up_peers
    fi
    local models=$peers/python/models
    if [ ! -f "$models/meta.json" ]; then
        failed+=("the peers are not set up, see $results/peers-setup.log")
        return 1
    fi
    section "Packing the peers' model" pack-peers.txt pack "$models/ae_int8.onnx" \
        "$work/peers-ae" --name peers-ae --precision int8 --meta "$models/meta.json"
}

set_up_peers() {
    local copy=$work/peers
    if [ ! -d "$copy" ]; then
        cp -r "$peers" "$copy"
        chmod -R u+w "$copy"
    fi
    peers=$copy
    if [ ! -x "$copy/loadgen/target/release/loadgen" ]; then
        echo "setting up the peers in $copy" >&2
        # A part that fails, such as Node-RED without npm, shows in who is there.
        env -u CARGO_TARGET_DIR "$copy/setup.sh" >"$results/peers-setup.log" 2>&1 || true
    fi
}

bench_peers() {
    [ -f "$work/peers-ae/manifest.toml" ] && [ -x "$peers/run.sh" ] || return 0
    command -v mosquitto >/dev/null || {
        skip "peers: no mosquitto"
        return 0
    }
    local line=(floor relay)
    if [ -x "$peers/python/.venv/bin/python" ]; then line+=(python gmqtt); else skip "python, gmqtt: not set up"; fi
    if [ -d "$peers/nodered/node_modules/node-red" ]; then line+=(nodered); else skip "nodered: not set up"; fi
    export HARK_CMD="$hark run --config $root/benches/peers.toml --broker 127.0.0.1:{port} --verdicts --json"
    export HARK_ARGS="--out-topic hark/v1/+/verdict/+ --sensor-level 4"
    section "Peers" peers.md "$peers/run.sh" -r "$rounds" -s "$scenarios" \
        -o "$results/peers" "${line[@]}" hark
}

# section TITLE FILE COMMAND...: prints what COMMAND prints, and keeps it in FILE.
section() {
    local title=$1 file=$results/$2
    shift 2
    printf '\n## %s\n\n' "$title"
    if ! "$@" 2>"$file.log" | tee "$file"; then
        failed+=("$title, see $file.log")
        tail -n 5 "$file.log" >&2
    fi
}

skip() {
    skipped+=("$1")
}

report() {
    printf '\nresults: %s\n' "$results"
    local what
    for what in "${skipped[@]}"; do echo "SKIPPED $what"; done
    for what in "${failed[@]}"; do echo "FAILED $what"; done
    [ ${#failed[@]} -eq 0 ]
}

main "$@"
