#!/usr/bin/env bash
# Installs what the tests need and is not there: a C compiler (for the race detector), Node.js with the packages of
# test/interop, Chromium for the console's browser tests, PostgreSQL, Java with Maven and ICU for the Couchbase Lite client there, which it
# builds, and the MongoDB-wire servers that
# cluster sync is tested with: SecantusDB (Python) and FerretDB (Go, built here). Run by `make test`; does nothing on a machine that has them.
set -euo pipefail
cd "$(dirname "$0")/.."

need=()
command -v chromium >/dev/null || need+=(chromium)
command -v gcc >/dev/null || need+=(gcc libc6-dev)
command -v node >/dev/null || need+=(nodejs)
command -v npm >/dev/null || need+=(npm)
command -v javac >/dev/null || need+=(default-jdk-headless)
command -v mvn >/dev/null || need+=(maven)
# A server that the tests start for themselves; the one that Debian sets up is not used.
compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || need+=(postgresql)
python3 -c 'import ensurepip, venv' 2>/dev/null || need+=(python3-venv)
# The library package of ICU carries its version in its name; the development package does not, and brings it.
/sbin/ldconfig -p | grep -q 'libicui18n\.so\.' || need+=(libicu-dev)
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

test/interop/cbl/build.sh

# SecantusDB in a virtual environment of its own; again only when the list of packages changed.
venv=test/clustersync/.venv
want=$(sha256sum test/clustersync/requirements.txt)
if [ "$(cat "$venv/.requirements.sha" 2>/dev/null)" != "$want" ]; then
  python3 -m venv --clear "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: -r test/clustersync/requirements.txt
  echo "$want" >"$venv/.requirements.sha"
fi
(cd test/clustersync/ferretdb && go build -trimpath -o ../.bin/ferretdb .)
