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
