package clustersync

// For tests outside the package: engines and reversals of their own in a Control.
type (
	EngineStub   = engine
	ReversalStub = reversal
)

// WithStubs has a Control use these.
func (c ControlConfig) WithStubs(newEngine func(EngineConfig) (EngineStub, error), newReversal func(Reversal) ReversalStub) ControlConfig {
	c.newEngine, c.newReversal = newEngine, newReversal
	return c
}

// Routes lists what is served: method and path.
func (a *API) Routes() map[string]string {
	out := map[string]string{}
	for path, rt := range a.routes {
		out[path] = rt.method
	}
	return out
}
