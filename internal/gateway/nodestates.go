package gateway

import (
	"context"
	"encoding/json"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// statesTopic is what nodes tell the states of their databases under: a map of states by name.
const statesTopic = "states"

// NodeStates are the states of databases on the nodes that are alive, as they last told them: by node and name of the database.
func (g *Gateway) NodeStates(ctx context.Context) (map[string]map[string]string, error) {
	var states map[string]map[string]string
	err := g.opts.Store.View(ctx, func(r store.Reader) (err error) {
		states, err = g.nodeStates(r)
		return err
	})
	return states, err
}

// tellStates tells the other nodes the states of this one's databases until the gateway closes.
func (g *Gateway) tellStates() {
	if g.nodes.Alone() {
		return
	}
	for {
		if err := g.tellStatesNow(g.ctx); err != nil && g.ctx.Err() == nil {
			g.log.Warn("other nodes could not be told the states of databases", "error", err)
			wake(g.statesChanged)
			if !pause(g.ctx, rowRetry) {
				return
			}
		}
		select {
		case <-g.statesChanged:
		case <-g.ctx.Done():
			return
		}
	}
}

// tellStatesNow tells the states, unless they are as they were last told.
func (g *Gateway) tellStatesNow(ctx context.Context) error {
	if g.nodes.Alone() {
		return nil
	}
	g.telling.Lock()
	defer g.telling.Unlock()
	value, err := g.encodeStates()
	if err != nil || string(value) == g.toldStates {
		return err
	}
	if err := g.nodes.Tell(ctx, statesTopic, value); err != nil {
		g.toldStates = "" // it may have been stored
		return err
	}
	g.toldStates = string(value)
	return nil
}

// encodeStates encodes the states of this node's databases. One that is being reloaded is as good as open.
func (g *Gateway) encodeStates() ([]byte, error) {
	states := map[string]string{}
	for _, r := range g.Databases() {
		r.mu.Lock()
		state := r.state
		if r.reloading && state == Offline {
			state = Starting
		}
		r.mu.Unlock()
		states[r.name] = state.String()
	}
	return json.Marshal(states)
}

// nodeStates is NodeStates as of a snapshot. What this node says of itself is as it is now.
func (g *Gateway) nodeStates(r store.Reader) (map[string]map[string]string, error) {
	told, err := g.nodes.ToldIn(r, statesTopic)
	if err != nil {
		return nil, err
	}
	if told[g.nodes.Self()], err = g.encodeStates(); err != nil {
		return nil, err
	}
	all := map[string]map[string]string{}
	for node, value := range told {
		var states map[string]string
		if err := json.Unmarshal(value, &states); err != nil {
			return nil, tidegate.Errorf(tidegate.Corrupt, "what node %s tells of its databases does not make sense: %w", node, err)
		}
		all[node] = states
	}
	return all, nil
}

// pause waits, and reports whether ctx has not ended meanwhile.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
