#!/usr/bin/env bash
# Sets up .venv if need be and runs the checks and all tests.
# Arguments go to pytest: `scripts/test.sh tests/symbolic -k ties`.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/setup.sh
setup_environment train,dev

ruff check .
ruff format --check .
pyright
exec pytest "$@"
