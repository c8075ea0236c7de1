# Sourced by the other scripts: one virtual environment, installed once.
#
#   setup_environment EXTRAS    e.g. setup_environment train,dev
#
# Creates .venv if there is none, installs the package with EXTRAS at the
# versions in constraints.txt, and puts .venv/bin first on PATH. A second call
# with nothing changed returns at once.
# PYTHON=/path/to/python3.12 chooses the interpreter of a new .venv.

find_python() {
  local candidate
  for candidate in ${PYTHON:-} python3.12 python3.11 python3.13 python3 python; do
    if "$candidate" -c 'import sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "No Python 3.11, 3.12 or 3.13 with the venv module was found. Install one, or name it: PYTHON=/path/to/python3.12 $0" >&2
  return 1
}

setup_environment() {
  local extras=$1 python stamp wanted
  [ -x .venv/bin/python ] || { python=$(find_python) && "$python" -m venv .venv; } || return 1
  stamp=.venv/.installed-${extras//,/-}
  wanted=$(cat pyproject.toml constraints.txt | cksum)
  if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
    echo "Installing mt3[$extras] into .venv"
    # uv resolves and unpacks several times faster than pip; pip is the way
    # where uv cannot be had or does not know the machine's package index.
    { .venv/bin/python -m pip install -q uv &&
      .venv/bin/python -m uv pip install -q --python .venv/bin/python -c constraints.txt -e ".[$extras]"; } ||
      .venv/bin/python -m pip install -q -c constraints.txt -e ".[$extras]" || return 1
    echo "$wanted" >"$stamp"
  fi
  export PATH="$PWD/.venv/bin:$PATH"
}
