package clustersync_test

import (
	"strings"
	"testing"
	"testing/synctest"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/tidegate/tidegate/internal/clustersync"
	"github.com/tidegate/tidegate/internal/clustersync/clustertest"
)

// A reverse is refused while the old source has a unique index in an old format, with the remedy; nodes that could not be looked at are
// warnings (spec §14.1).
func TestReverseIndexFormats(t *testing.T) {
	orders := clustertest.NS("shop", "orders")
	for name, tt := range map[string]struct {
		index   string
		refused bool
	}{"old": {"u_1", true}, "another index": {"v_1", false}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, clustertest.Options{
					OldIndexes: []clustersync.OldIndex{{Node: "a:27017", Namespace: orders, Index: tt.index, Why: "one or more keys in the old format"}},
					Unchecked:  []string{"b:27017: no answer"},
				})
				u := r.servers[0].User()
				must(t, u.Create(orders, bson.D{}))
				must(t, u.CreateIndex(orders, bson.D{{Key: "name", Value: "u_1"}, {Key: "key", Value: bson.D{{Key: "u", Value: 1}}}, {Key: "unique", Value: true}}))
				must(t, u.CreateIndex(orders, bson.D{{Key: "name", Value: "v_1"}, {Key: "key", Value: bson.D{{Key: "v", Value: 1}}}}))
				r.bring("IDLE")
				if a := r.do("POST", "/api/v1/start", `{"source":"cluster0","destination":"cluster1","reversible":true}`); a.Error != "" {
					t.Fatal(a.raw)
				}
				r.mustPost("commit")
				close(r.finish)
				synctest.Wait()
				a := r.post("reverse")
				if tt.refused {
					if a.Error != string(clustersync.ReversePreconditionFailed) {
						t.Fatal(a.raw)
					}
					for _, want := range []string{"u_1 of shop.orders on a:27017", "old format", "Resync"} {
						if !strings.Contains(a.Description, want) {
							t.Errorf("no %q in %s", want, a.Description)
						}
					}
				} else if a.Error != "" {
					t.Error(a.raw)
				}
				if p := r.do("GET", "/api/v1/progress", ""); !strings.Contains(p.raw, "b:27017") {
					t.Errorf("no warning of the node that was not looked at: %s", p.raw)
				}
				if err := r.stop(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}
