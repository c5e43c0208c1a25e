//go:build !unix

package rest

import "syscall"

// canPeek says that this system lets a connection be looked at without waiting.
const canPeek = false

func peek(syscall.RawConn) connState { return connQuiet }
