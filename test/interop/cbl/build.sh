#!/usr/bin/env bash
# Builds the Couchbase Lite driver in target/: the client's jars from Maven Central, our Java classes, and the ICU shim.
# Does nothing when target/ was built from these very files. Needs mvn, javac and cc (scripts/test-setup.sh installs them).
set -euo pipefail
cd "$(dirname "$0")"

stamp=target/.built-from
want=$(sha256sum pom.xml icu54.c build.sh src/*.java)
[ "$(cat "$stamp" 2>/dev/null)" = "$want" ] && exit 0

rm -f "$stamp"
jars=(target/lib/couchbase-lite-java-3.0.0.jar target/lib/okhttp-3.14.7.jar target/lib/okio-1.17.2.jar)
if ! ls "${jars[@]}" >/dev/null 2>&1; then
  mvn -q -B -Dstyle.color=never org.apache.maven.plugins:maven-dependency-plugin:2.8:copy-dependencies -DoutputDirectory=target/lib
fi

rm -rf target/classes target/icu
mkdir -p target/classes target/icu
javac --release 11 -Xlint:all,-options,-classfile -cp "$(IFS=:; echo "${jars[*]}")" -d target/classes src/*.java

shim() { cc -shared -fPIC -O1 -Wall "-D$2" "-Wl,-soname,$1.so.54" -o "target/icu/$1.so.54" icu54.c -ldl; }
shim libicuuc SHIM_UC
shim libicui18n SHIM_I18N
shim libicudata SHIM_DATA

echo "$want" >"$stamp"
