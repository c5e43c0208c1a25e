#!/usr/bin/env bash
# Installs what the tests need and is not there: a C compiler (for the race detector) and Node.js with the packages of
# test/interop. Run by `make test`; does nothing on a machine that has them.
set -euo pipefail
cd "$(dirname "$0")/.."

need=()
command -v gcc >/dev/null || need+=(gcc libc6-dev)
command -v node >/dev/null || need+=(nodejs)
command -v npm >/dev/null || need+=(npm)
if ((${#need[@]})); then
  sudo=""
  [ "$(id -u)" = 0 ] || sudo="sudo"
  $sudo apt-get update -qq
  $sudo apt-get install -y -qq --no-install-recommends "${need[@]}"
fi

# Again only when the lock file changed.
stamp=test/interop/node_modules/.package-lock.sha
want=$(sha256sum test/interop/package-lock.json)
if [ "$(cat "$stamp" 2>/dev/null)" != "$want" ]; then
  (cd test/interop && npm ci --no-audit --no-fund --loglevel=error)
  echo "$want" >"$stamp"
fi
