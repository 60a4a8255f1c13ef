#!/bin/sh
# Fuzzes one target with stable Rust, without cargo-fuzz:
#
#     tests/fuzz/run.sh broker|cbor|csv|json|lines|modbus|mqtt|wire [libFuzzer options]
#
# The checked-in corpus is the seed; what is found beside it goes to
# target/corpus, and an input that fails to artifacts. Without options it
# runs for a minute. The options of rustc are those of cargo-fuzz with
# `-s none`: the address sanitizer, which needs nightly, would watch code that
# has no `unsafe`.
set -eu
cd "$(dirname "$0")"
fuzz_target=${1:?which target: broker, cbor, csv, json, lines, modbus, mqtt or wire}
shift
[ $# -gt 0 ] || set -- -max_total_time=60

export RUSTFLAGS="--cfg fuzzing -Ccodegen-units=1 -Cpasses=sancov-module \
-Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
-Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares"
# Naming the host as the target keeps these options off build scripts.
host=$(rustc -vV | sed -n 's/^host: //p')
cargo build --release --target "$host" --bin "$fuzz_target"

found="${CARGO_TARGET_DIR:-target}/corpus/$fuzz_target"
mkdir -p "$found" "artifacts/$fuzz_target"
# 8 KiB holds two lines of the greatest length and any sensible payload.
exec "${CARGO_TARGET_DIR:-target}/$host/release/$fuzz_target" \
    -max_len=8192 -artifact_prefix="artifacts/$fuzz_target/" "$@" \
    "$found" "corpus/$fuzz_target"
