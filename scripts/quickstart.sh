#!/usr/bin/env bash
# From nothing to a transcribing model: sets up .venv if need be, prepares data,
# trains, evaluates on pieces that the model has never heard, transcribes one of
# them, and makes a page that shows and plays what was right. Started again, it
# goes on where it was. docs/quickstart.md.
#
# QUICKSTART_DIR=DIR puts the results elsewhere than runs/quickstart.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/setup.sh
setup_environment train

out=${QUICKSTART_DIR:-runs/quickstart}
config=(--gin_file quickstart.gin "--gin.DATA_DIR='$out/data'")
started=$SECONDS
say() { printf '\n== %s (%d s)\n' "$1" $((SECONDS - started)); }

say "1/5 Rendering chorales: $out/data"
mt3 prepare synth "${config[@]}" -o "$out/data"

say "2/5 Training: $out/run"
mt3 train "${config[@]}" --run-dir "$out/run"

say "3/5 Evaluating on held-out chorales: $out/results"
mt3 eval -c "$out/run" "${config[@]}" -o "$out/results" --controls

say "4/5 Transcribing one of them: $out/notes"
mt3 data export "$out/data" --split test --limit 1 -o "$out/audio"
mt3 transcribe "$out"/audio/*.wav -c "$out/run" -o "$out/notes" -f midi -f json

say "5/5 A page of what it got right and wrong: $out/report"
mt3 report "$out/results" -o "$out/report" --title "Chorales never heard before"

say "Done. Open $out/report/index.html, listen to $out/audio, and read docs/quickstart.md"
