package main

import (
	goversion "go/version"
	"runtime"
)

// http2Safe reports whether the toolchain has a sound HTTP/2 server: older ones can be crashed by any client
// (hardening.md).
func http2Safe() bool {
	v := runtime.Version()
	if goversion.Lang(v) == "go1.27" {
		return goversion.Compare(v, "go1.27.2") >= 0
	}
	return goversion.Compare(v, "go1.26.9") >= 0
}
