#!/usr/bin/env bash
# Takes a picture of a page of `sr3 report` in a real browser, to look at, and fails where the browser complains of the page.
#
#   scripts/report-screenshot.sh report.html report.png [HEIGHT]
#
# It needs Chromium (Debian: apt-get install chromium), and says so with exit code 69 where there is none.
set -euo pipefail

page=$(realpath "$1")
picture=$(realpath "$2")
height=${3:-3000}

browser=
for name in chromium chromium-browser google-chrome; do
  if command -v "$name" > /dev/null; then
    browser=$name
    break
  fi
done
if [ -z "$browser" ]; then
  echo "there is no Chromium here: install one, or open $page yourself" >&2
  exit 69
fi

profile=$(mktemp -d)
trap 'rm -rf "$profile"' EXIT
log=$profile/log
# Offline, and without a sandbox, which containers do not let it make: it opens one page of our own.
"$browser" --headless --no-sandbox --disable-gpu --no-first-run --disable-extensions --disable-background-networking \
  --host-resolver-rules='MAP * ~NOTFOUND' --user-data-dir="$profile/data" --enable-logging=stderr \
  --hide-scrollbars --window-size="1200,$height" --screenshot="$picture" "file://$page" > "$log" 2>&1 || {
  cat "$log" >&2
  exit 1
}
if grep -E 'CONSOLE|Refused to' "$log"; then
  echo "the browser complains of $page" >&2
  exit 1
fi
echo "$picture"
