#!/bin/sh
# Measure every row on this machine, store the figures, and print the table of docs/speed.md.
# Usage: benchmarks/measure.sh RUN [OPTIONS OF harness bench...], RUN being a finished run's folder.
# Hours on one core at full size; e.g. `--items 8 --repetitions 1` for a quick look.
set -eu
run=$1
shift
out=results/reference/speed
mkdir -p "$out" docs
for name in startup routing training evaluation generation pipeline engine; do
    harness bench "$name" --json --run "$run" "$@" > "$out/$name.json.new"
    mv "$out/$name.json.new" "$out/$name.json"
done
# A point takes a fraction of a second, so that three turns would show noise.
harness bench scaling --json --plot docs/scaling.svg --repetitions 15 "$@" > "$out/scaling.json.new"
mv "$out/scaling.json.new" "$out/scaling.json"
python -m harness.bench.table "$out"
