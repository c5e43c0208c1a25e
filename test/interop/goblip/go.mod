module github.com/tidegate/tidegate/test/interop/goblip

go 1.26.0

require (
	github.com/couchbase/go-blip v0.0.0-20241014144256-13a798c348fd
	github.com/tidegate/tidegate v0.0.0
)

require (
	github.com/klauspost/compress v1.20.1 // indirect
	nhooyr.io/websocket v1.8.10 // indirect
)

replace github.com/tidegate/tidegate => ../../..
