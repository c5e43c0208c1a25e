package gatewaycluster_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/tidegate/tidegate/internal/clustersync"
	"github.com/tidegate/tidegate/internal/clustersync/clustertest"
	"github.com/tidegate/tidegate/internal/clustersync/gatewaycluster"
)

// TestConformance is the suite that every cluster passes, against a real gateway.
func TestConformance(t *testing.T) {
	clustertest.Run(t, func(t *testing.T) clustertest.Fixture {
		r := newRig(t)
		return clustertest.Fixture{
			Cluster: r.cluster(),
			Connect: func() clustersync.Cluster { return r.connect(gatewaycluster.Options{}) },
			Users:   people{r},
			Namespace: func(name string) clustersync.Namespace {
				return ns("suite", "_default."+name)
			},
			// Collections are found by polling, so one that is made and dropped between two looks is not told of.
			Can: clustertest.Capabilities{Changes: true, UUIDs: true, Partitions: true, Block: true, MaxDocument: 1 << 20},
		}
	})
}

// people are clients of the admin listener that do not ask to bypass the block.
type people struct{ r *rig }

func (p people) Create(_ context.Context, ns clustersync.Namespace) error {
	scope, coll, _ := strings.Cut(ns.Collection, ".")
	cfg := fmt.Sprintf(`{"scopes":{%q:{"collections":{%q:{}}}}}`, scope, coll)
	err := p.r.ask(p.r.admin, http.MethodPut, "/"+url.PathEscape(ns.Database)+"/", cfg, nil)
	if s := new(status); errors.As(err, &s) && s.code == http.StatusPreconditionFailed {
		return p.r.ask(p.r.admin, http.MethodPost, "/"+url.PathEscape(ns.Database)+"/_config", cfg, nil)
	}
	return err
}

func (p people) Put(ctx context.Context, ns clustersync.Namespace, id string, fields clustertest.Fields) error {
	doc := map[string]any{}
	maps.Copy(doc, fields)
	now, err := p.get(ns, id)
	if err != nil {
		return err
	}
	if rev := now["_rev"]; rev != nil {
		doc["_rev"] = rev
	}
	body, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	return p.r.ask(p.r.admin, http.MethodPut, path(ns, url.PathEscape(id)), string(body), nil)
}

func (p people) get(ns clustersync.Namespace, id string) (map[string]any, error) {
	var doc map[string]any
	err := p.r.ask(p.r.admin, http.MethodGet, path(ns, url.PathEscape(id)), "", &doc)
	if s := new(status); errors.As(err, &s) && s.code == http.StatusNotFound {
		return nil, nil
	}
	return doc, err
}

func (p people) Delete(_ context.Context, ns clustersync.Namespace, id string) error {
	now, err := p.get(ns, id)
	if err != nil || now == nil {
		return err
	}
	return p.r.ask(p.r.admin, http.MethodDelete, path(ns, url.PathEscape(id))+"?rev="+now["_rev"].(string), "", nil)
}

func (p people) Get(_ context.Context, ns clustersync.Namespace, id string) (clustertest.Fields, error) {
	doc, err := p.get(ns, id)
	if doc == nil {
		return nil, err
	}
	out := clustertest.Fields{}
	for name, v := range doc {
		if !strings.HasPrefix(name, "_") {
			out[name] = v
		}
	}
	return out, nil
}

func (p people) Drop(_ context.Context, ns clustersync.Namespace) error {
	var cfg struct {
		Scopes map[string]struct{ Collections map[string]any }
	}
	db := "/" + url.PathEscape(ns.Database) + "/"
	if err := p.r.ask(p.r.admin, http.MethodGet, db+"_config", "", &cfg); err != nil {
		return err
	}
	scope, coll, _ := strings.Cut(ns.Collection, ".")
	if len(cfg.Scopes[scope].Collections) == 1 {
		return p.r.ask(p.r.admin, http.MethodDelete, db+"?purge=true", "", nil)
	}
	return p.r.ask(p.r.admin, http.MethodPost, db+"_config", fmt.Sprintf(`{"scopes":{%q:{"collections":{%q:null}}}}`, scope, coll), nil)
}

func (p people) Rename(context.Context, clustersync.Namespace, clustersync.Namespace) error {
	return errors.ErrUnsupported
}

func (p people) CreateIndex(context.Context, clustersync.Namespace, string, string, bool) error {
	return errors.ErrUnsupported
}
