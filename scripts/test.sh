#!/usr/bin/env bash
# Sets up .venv if need be and runs the checks and all tests.
# Arguments go to pytest: `scripts/test.sh tests/symbolic -k ties`.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/setup.sh
source scripts/browser.sh
setup_environment train,dev
find_browser

ruff check .
ruff format --check .
pyright
# All of them: by three processes, as many tests wait for others, a file each at a time, as tests of a file share what is dear to make.
[ $# -gt 0 ] || set -- -n 3 --dist loadfile --no-loadscope-reorder
exec pytest "$@"
