package gatewaycluster

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/tidegate/tidegate/internal/clustersync"
)

// writeBlock is the state of GET and PUT /{db}/_write_block.
type writeBlock struct {
	Blocked    bool    `json:"blocked"`
	BypassRole *string `json:"bypass_role,omitempty"`
}

// canBlock reports whether gateways know the write block.
func (c *Cluster) canBlock(ctx context.Context, databases []string) (bool, error) {
	if len(databases) == 0 {
		return true, nil // none to ask; BlockWrites finds out
	}
	var state writeBlock
	err := c.client.get(ctx, dbPath(databases[0])+"_write_block", nil, &state)
	if isNotFound(err) || isStatus(err, http.StatusMethodNotAllowed) {
		return false, nil
	}
	return err == nil, err
}

// BlockWrites blocks or frees the writes of users to all databases, and to those that are made here later. The role that bypasses the
// block is left as it is.
func (c *Cluster) BlockWrites(ctx context.Context, block bool) error {
	c.mu.Lock()
	c.blocked = block
	c.mu.Unlock()
	names, err := c.databaseNames(ctx)
	if err != nil {
		return err
	}
	for _, db := range names {
		if c.internal(db) {
			continue
		}
		if err := c.block(ctx, db, block); err != nil {
			return err
		}
	}
	return nil
}

// block blocks one database; one that is gone needs it no more.
func (c *Cluster) block(ctx context.Context, db string, block bool) error {
	body, err := json.Marshal(writeBlock{Blocked: block})
	if err != nil {
		return fmt.Errorf("encode the write block: %w", err)
	}
	_, err = c.client.do(ctx, call{method: http.MethodPut, path: dbPath(db) + "_write_block", body: body}, nil)
	if isStatus(err, http.StatusMethodNotAllowed) || isNotFound(err) {
		if _, err := c.instance(ctx, db); isNotFound(err) {
			return nil
		}
		return fmt.Errorf("block writes to database %q: the gateway has no _write_block: %w", db, clustersync.ErrUnsupported)
	}
	if err != nil {
		return fmt.Errorf("block writes to database %q: %w", db, err)
	}
	return nil
}

// WritesBlocked reports whether all databases are blocked; without any, whether those to be made will be.
func (c *Cluster) WritesBlocked(ctx context.Context) (bool, error) {
	names, err := c.databaseNames(ctx)
	if err != nil {
		return false, err
	}
	c.mu.Lock()
	blocked := c.blocked
	c.mu.Unlock()
	some := false
	for _, db := range names {
		if c.internal(db) {
			continue
		}
		var state writeBlock
		err := c.client.get(ctx, dbPath(db)+"_write_block", nil, &state)
		switch {
		case isNotFound(err):
			continue
		case err != nil:
			return false, fmt.Errorf("ask for the write block of database %q: %w", db, err)
		case !state.Blocked:
			return false, nil
		}
		some = true
	}
	return some || blocked, nil
}
