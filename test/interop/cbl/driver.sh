#!/usr/bin/env bash
# Runs the Couchbase Lite driver built by build.sh; README.md here has its protocol. $1 is a directory of its own.
here=$(cd "$(dirname "$0")" && pwd)
export LD_LIBRARY_PATH="$here/target/icu${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
exec java -Xmx768m -XX:+UseSerialGC -cp "$here/target/classes:$here/target/lib/*" Driver "$@"
