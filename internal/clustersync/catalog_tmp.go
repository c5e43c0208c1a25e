package clustersync

import "context"

type catalog struct{}
type retrier struct {
	log   any
	told  func(error)
	count *int64
}
type stats struct{ retries int64 }
type lagMeter struct{}
type hotDocs struct{}

func newCatalog(EngineConfig) *catalog                   { return nil }
func newHotDocs([]HotDocs) hotDocs                       { return hotDocs{} }
func (e *Engine) newVerifier() *Verifier                 { return nil }
func (e *Engine) takeT0(context.Context) error           { return nil }
func (e *Engine) blockDestination(context.Context) error { return nil }
func (e *Engine) run(context.Context) error              { return nil }
func (e *Engine) startCommit(context.Context) error      { return nil }
func (e *Engine) cannotCommit() []string                 { return nil }
func (e *Engine) snapshot() Snapshot                     { return Snapshot{} }
func endedByContext(error) bool                          { return false }
func joined2([]string) string                            { return "" }
