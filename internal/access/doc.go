// Package access knows who may do what: users, roles and the guest with their passwords and sessions, and
// the channels each of them has in each collection, by an administrator's word, through roles or granted by
// documents (sync-function.md §6).
//
// A [Registry] serves one database. It hands out [User]s: immutable snapshots of a principal as it stood at
// one moment, from which everything a reader or writer needs is answered without the store.
package access
