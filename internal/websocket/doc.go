// Package websocket is RFC 6455 for both ends, made for many connections that are idle most of the time: one
// reader and any number of writers, no goroutine of its own and no buffer while nothing is under way. It
// negotiates no extensions.
package websocket
