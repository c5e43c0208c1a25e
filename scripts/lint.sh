#!/usr/bin/env bash
# gofmt, go vet, staticcheck, and govulncheck where it can be had. Run by `make lint` and CI.
set -euo pipefail
cd "$(dirname "$0")/.."

unformatted=$(git ls-files -co --exclude-standard '*.go' | xargs gofmt -l)
if [ -n "$unformatted" ]; then
  echo "not gofmt'ed:" >&2
  echo "$unformatted" >&2
  exit 1
fi
go vet ./...
go tool -modfile=tools/go.mod staticcheck ./...
# govulncheck needs a database on the internet; where it is not installed or cannot reach that, it is left out, saying so.
# Its exit code 3 means that it found something.
if command -v govulncheck >/dev/null; then
  code=0
  govulncheck ./... || code=$?
  [ "$code" != 3 ] || exit 1
  [ "$code" = 0 ] || echo "govulncheck: left out (it ended with $code)"
else
  echo "govulncheck: left out (not installed)"
fi
