package gatewaycluster

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"github.com/tidegate/tidegate/internal/clustersync"
)

// Inspect asks the gateway who it is.
func (c *Cluster) Inspect(ctx context.Context) (clustersync.Info, error) {
	var root struct{ UUID, Version string }
	if err := c.client.get(ctx, "/", nil, &root); err != nil {
		return clustersync.Info{}, fmt.Errorf("inspect the cluster: %w", err)
	}
	info := clustersync.Info{
		Hosts: c.client.addr.sorted(), ID: root.UUID, Name: c.client.addr.hosts[0], Version: root.Version, Topology: clustersync.Gateways,
		ChangeSource: "feed", AuthOff: false, Missing: map[string][]string{},
	}
	info.Major, info.Minor = versionOf(root.Version)
	names, err := c.databaseNames(ctx)
	if err != nil {
		return info, fmt.Errorf("inspect the cluster: %w", err)
	}
	for _, name := range names {
		if c.internal(name) {
			info.MetadataDatabases = append(info.MetadataDatabases, name)
		} else {
			info.UserDatabases = append(info.UserDatabases, name)
		}
	}
	if info.CanBlock, err = c.canBlock(ctx, names); err != nil {
		return info, fmt.Errorf("inspect the cluster: %w", err)
	}
	return info, nil
}

var versionNumbers = regexp.MustCompile(`(\d+)\.(\d+)`)

// versionOf finds the first two numbers of a version; zeros if there are none.
func versionOf(s string) (major, minor int) {
	m := versionNumbers.FindStringSubmatch(s)
	if m == nil {
		return 0, 0
	}
	major, _ = strconv.Atoi(m[1])
	minor, _ = strconv.Atoi(m[2])
	return major, minor
}

// Ping measures one round trip.
func (c *Cluster) Ping(ctx context.Context) (time.Duration, error) {
	start := time.Now()
	body, _, err := c.client.open(ctx, call{method: http.MethodGet, path: "/"})
	if err != nil {
		return 0, fmt.Errorf("ping: %w", err)
	}
	return time.Since(start), body.Close()
}
