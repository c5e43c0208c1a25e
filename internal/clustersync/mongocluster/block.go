package mongocluster

import (
	"context"
	"errors"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/tidegate/tidegate/internal/clustersync"
)

// codeIllegalOperation: on newer servers, a block for another reason is there already (spec §12).
const codeIllegalOperation = 20

// BlockWrites implements [clustersync.Destination] (spec §12).
func (c *Cluster) BlockWrites(ctx context.Context, block bool) error {
	verb := "unblock writes of users"
	if block {
		verb = "block writes of users"
	}
	caps, err := c.capabilities(ctx)
	if err != nil {
		return err
	}
	if !caps.writeBlock {
		return unsupportedErr(verb, "there is no setUserWriteBlockMode")
	}
	if block {
		if off, err := c.authOff(ctx); err != nil {
			return err
		} else if off {
			return unsupportedErr(verb, "access control is off, so that every client may bypass the block")
		}
	}
	_, err = c.run(ctx, verb, "admin", bson.D{{Key: "setUserWriteBlockMode", Value: 1}, {Key: "global", Value: block}})
	if hasCode(err, codeIllegalOperation) {
		if is, askErr := c.WritesBlocked(ctx); askErr == nil && is == block {
			err = nil
		}
	}
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.blocked = &block
	return nil
}

// WritesBlocked implements [clustersync.Destination]. A mongos does not tell; then the answer is what this process has set, and no otherwise:
// who relies on a block sets it again.
func (c *Cluster) WritesBlocked(ctx context.Context) (bool, error) {
	caps, err := c.capabilities(ctx)
	if err != nil {
		return false, err
	}
	if !caps.writeBlock {
		return false, nil
	}
	raw, err := c.run(ctx, "read server status", "admin", bson.D{{Key: "serverStatus", Value: 1}, {Key: "repl", Value: 1}})
	if errors.Is(err, clustersync.ErrUnreachable) {
		return false, err
	}
	// 0 unknown, 1 disabled, 2 enabled.
	if mode := lookupInt(raw, "repl", "userWriteBlockMode"); err == nil && mode > 0 {
		return mode == 2, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.blocked != nil && *c.blocked, nil
}

// authOff reports whether everybody may do everything: nobody has logged in, and the server lets us all the same.
func (c *Cluster) authOff(ctx context.Context) (bool, error) {
	raw, err := c.run(ctx, "read connection status", "admin", bson.D{{Key: "connectionStatus", Value: 1}})
	if err != nil {
		return false, passingOnly(err)
	}
	users, err := documents(raw.Lookup("authInfo").Document(), "authenticatedUsers")
	return err == nil && len(users) == 0, nil
}
