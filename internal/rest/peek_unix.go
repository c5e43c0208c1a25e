//go:build unix

package rest

import (
	"errors"
	"syscall"
)

// canPeek says that this system lets a connection be looked at without waiting.
const canPeek = true

// peek looks at a connection without waiting and without taking anything from it.
func peek(raw syscall.RawConn) connState {
	state := connGone
	err := raw.Read(func(fd uintptr) bool {
		var b [1]byte
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		switch {
		case err == nil && n > 0:
			state = connTalks
		case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.EINTR):
			state = connQuiet
		}
		return true // never wait
	})
	if err != nil {
		return connGone
	}
	return state
}
