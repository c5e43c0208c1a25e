package main

// exitStatus ends a command with an exit status that says more than whether it worked. Without err nothing is printed:
// the command has said what there is to say.
type exitStatus struct {
	code int
	err  error
}

func (e *exitStatus) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exitStatus) Unwrap() error { return e.err }
