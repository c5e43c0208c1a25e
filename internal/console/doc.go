// Package console is the web console of a gateway: server-rendered pages below /_console/ of the admin listener.
//
// It speaks only HTTP: what it shows and changes goes through the gateway's admin API and the Admin API of App Services,
// which it is given as handlers and calls in process, as whoever logged in. It can do nothing that they cannot.
//
// DESIGN.md says how a page is made.
package console
