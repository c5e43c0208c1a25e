package clustersync_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/tidegate/tidegate/internal/clustersync"
	"github.com/tidegate/tidegate/internal/clustersync/clustertest"
	"go.mongodb.org/mongo-driver/v2/bson"
)

// twins are two clusters with the same contents: collections a, b and c of 50 documents each, an index, a view and a capped collection.
func twins(t *testing.T, opts clustertest.Options) (src, dst *clustertest.Memory) {
	t.Helper()
	for _, m := range []**clustertest.Memory{&src, &dst} {
		opts.Name += "x"
		*m = clustertest.NewMemory(opts)
		u := (*m).User()
		for _, name := range []string{"a", "b", "c"} {
			ns := clustertest.NS("db", name)
			must(t, u.Create(ns, nil))
			for i := range 50 {
				must(t, u.Insert(ns, bson.D{{Key: "_id", Value: i}, {Key: "n", Value: i}, {Key: "text", Value: name}}))
			}
			must(t, u.CreateIndex(ns, bson.D{{Key: "name", Value: "n_1"}, {Key: "key", Value: bson.D{{Key: "n", Value: 1}}}}))
		}
		must(t, u.Create(clustertest.NS("db", "view"), bson.D{{Key: "viewOn", Value: "a"}, {Key: "pipeline", Value: bson.A{}}}))
		must(t, u.Create(clustertest.NS("db", "capped"), bson.D{{Key: "capped", Value: true}, {Key: "size", Value: 1 << 20}}))
	}
	return src, dst
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// spoil are things that can be wrong with a destination, and what is to be found then.
var spoil = map[string]struct {
	do   func(u *clustertest.User) error
	what clustersync.DifferenceKind
	id   string
	text string // in the difference
}{
	"missing document": {func(u *clustertest.User) error { return u.Delete(ns("a"), 7) }, clustersync.MissingDocument, "7", ""},
	"extra document": {func(u *clustertest.User) error { return u.Insert(ns("b"), bson.D{{Key: "_id", Value: "stranger"}}) },
		clustersync.ExtraDocument, `"stranger"`, ""},
	"other value": {func(u *clustertest.User) error { return u.Update(ns("c"), 9, bson.D{{Key: "text", Value: "x"}}) },
		clustersync.OtherDocument, "9", "members text"},
	"other type": {func(u *clustertest.User) error { return u.Update(ns("c"), 9, bson.D{{Key: "n", Value: int64(9)}}) },
		clustersync.OtherDocument, "9", "members n"},
	"other order": {func(u *clustertest.User) error {
		return u.Replace(ns("c"), bson.D{{Key: "_id", Value: 9}, {Key: "text", Value: "c"}, {Key: "n", Value: 9}})
	}, clustersync.OtherDocument, "9", "the order of members"},
	"missing collection": {func(u *clustertest.User) error { return u.Drop(ns("capped")) }, clustersync.MissingCollection, "", "db.capped"},
	"extra collection":   {func(u *clustertest.User) error { return u.Create(ns("new"), nil) }, clustersync.ExtraCollection, "", "db.new"},
	"missing index":      {func(u *clustertest.User) error { return u.DropIndex(ns("a"), "n_1") }, clustersync.OtherIndexes, "", "n_1"},
	"sparse index": {func(u *clustertest.User) error {
		return errors.Join(u.DropIndex(ns("a"), "n_1"), u.CreateIndex(ns("a"), bson.D{{Key: "name", Value: "n_1"},
			{Key: "key", Value: bson.D{{Key: "n", Value: 1}}}, {Key: "sparse", Value: true}}))
	}, clustersync.OtherIndexes, "", "n_1"},
	"validator": {func(u *clustertest.User) error {
		return u.Modify(ns("a"), bson.D{{Key: "validator", Value: bson.D{{Key: "n", Value: 1}}}})
	}, clustersync.OtherOptions, "", "validator"},
	"other view": {func(u *clustertest.User) error { return u.Modify(ns("view"), bson.D{{Key: "viewOn", Value: "b"}}) },
		clustersync.OtherOptions, "", "viewOn"},
}

func ns(name string) clustersync.Namespace { return clustertest.NS("db", name) }

func TestVerifyAlone(t *testing.T) {
	src, dst := twins(t, clustertest.Options{})
	report, err := clustersync.Verify(t.Context(), src, dst, clustersync.VerifyOptions{PartitionBytes: 500})
	must(t, err)
	if !report.Equal || report.ExitCode() != 0 || report.Documents != 300 || !strings.Contains(report.String(), "equal: 5 collections") {
		t.Errorf("twins: %s", report)
	}
	for name, c := range spoil {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				src, dst := twins(t, clustertest.Options{})
				must(t, c.do(dst.User()))
				report, err := clustersync.Verify(t.Context(), src, dst, clustersync.VerifyOptions{PartitionBytes: 500})
				must(t, err)
				if report.Equal || report.Total != 1 || report.ExitCode() != 3 {
					t.Fatalf("report: %s", report)
				}
				expect(t, report.Differences, c.what, c.id, c.text)
				if !strings.Contains(report.String(), string(c.what)) {
					t.Errorf("printed: %s", report)
				}
			})
		})
	}
}

func expect(t *testing.T, found []clustersync.Difference, what clustersync.DifferenceKind, id, text string) {
	t.Helper()
	if len(found) != 1 || found[0].What != what || !strings.Contains(found[0].ID, id) || !strings.Contains(found[0].String(), text) {
		t.Errorf("found %v, want %s of %s %s", found, what, id, text)
	}
}

// TestVerifyAloneLive: what is on its way is not called different.
func TestVerifyAloneLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, dst := twins(t, clustertest.Options{})
		must(t, dst.User().Delete(ns("a"), 3))
		must(t, dst.User().DropIndex(ns("b"), "n_1"))
		reads := 0
		dst.Inject(func(c clustertest.Call) clustertest.Fault {
			// After some looks at it the document arrives.
			if c.Name == "Fetch" {
				if reads++; reads == 3 {
					must(t, dst.User().Insert(ns("a"), bson.D{{Key: "_id", Value: 3}, {Key: "n", Value: 3}, {Key: "text", Value: "a"}}))
					must(t, dst.User().CreateIndex(ns("b"), bson.D{{Key: "name", Value: "n_1"}, {Key: "key", Value: bson.D{{Key: "n", Value: 1}}}}))
				}
			}
			return clustertest.Fault{}
		})
		report, err := clustersync.Verify(t.Context(), src, dst, clustersync.VerifyOptions{})
		must(t, err)
		if !report.Equal {
			t.Errorf("report: %s", report)
		}
	})
}

func TestVerifyAloneBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, dst := twins(t, clustertest.Options{})
		for i := range 50 {
			must(t, dst.User().Delete(ns("a"), i))
		}
		report, err := clustersync.Verify(t.Context(), src, dst, clustersync.VerifyOptions{MaxPending: 20, MaxDifferences: 5})
		must(t, err)
		if report.Total != 20 || !report.AtLeast || len(report.Differences) != 5 {
			t.Errorf("report: %s", report)
		}
		src.Kill()
		if _, err := clustersync.Verify(t.Context(), src, dst, clustersync.VerifyOptions{}); err == nil {
			t.Error("a cluster that is gone is verified")
		}
	})
}

// running is a verifier at work.
type running struct {
	*clustersync.Verifier
	t *testing.T
}

// mapped has every collection of the source under its own name.
func mapped(ctx context.Context, source clustersync.Cluster) (out []clustersync.Pair, err error) {
	listed, err := source.List(ctx)
	for _, c := range listed {
		out = append(out, clustersync.Pair{Source: c, Destination: c.Namespace})
	}
	return out, err
}

// verifier starts one on connections of its own to two clusters that are mapped name by name.
func verifier(t *testing.T, cfg clustersync.VerifierConfig) running {
	if cfg.Pairs == nil {
		cfg.Pairs = func(ctx context.Context) ([]clustersync.Pair, error) { return mapped(ctx, cfg.Source) }
	}
	if cfg.PartitionBytes == 0 {
		cfg.PartitionBytes = 500
	}
	v := clustersync.NewVerifier(cfg)
	if p := v.Progress(); p.Source.Phase != clustersync.NotStarted {
		t.Errorf("progress %+v", p)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- v.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return running{v, t}
}

// stream tells the verifier of what the source does after its start.
func (r running) stream(src *clustertest.Memory) (drain func()) {
	r.t.Helper()
	mark, err := src.Mark(r.t.Context())
	must(r.t, err)
	stream, err := src.Changes(r.t.Context(), mark)
	must(r.t, err)
	return func() {
		r.t.Helper()
		to, err := src.Mark(r.t.Context())
		must(r.t, err)
		for at := mark; !src.Reached(at, to); {
			events, now, err := stream.Next(r.t.Context(), 0)
			must(r.t, err)
			for _, e := range events {
				must(r.t, r.Observe(r.t.Context(), e))
			}
			at = now
		}
	}
}

// mismatch runs Final, which must find differences.
func (r running) mismatch() []clustersync.Difference {
	r.t.Helper()
	err := r.Final(r.t.Context())
	var m *clustersync.MismatchError
	if !errors.As(err, &m) || !errors.Is(err, clustersync.ErrMismatch) || int(m.Total) < len(m.Differences) {
		r.t.Fatalf("Final: %v", err)
	}
	return m.Differences
}

// TestVerifier: a write to the destination that the sync did not make is found, before or after initial hashing.
func TestVerifier(t *testing.T) {
	for name, c := range spoil {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, after hashing %v", name, after), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					src, dst := twins(t, clustertest.Options{})
					if !after {
						must(t, c.do(dst.User()))
					}
					v := verifier(t, clustersync.VerifierConfig{Source: src.Connect(), Destination: dst.Connect()})
					if after {
						must(t, v.Final(t.Context()))
						if !v.Hashing() {
							t.Errorf("progress %+v", v.Progress())
						}
						must(t, c.do(dst.User()))
					}
					expect(t, v.mismatch(), c.what, c.id, c.text)
				})
			})
		}
	}
}

// TestVerifierFollows: what the sync brings over is equal in the end, what it forgets is found.
func TestVerifierFollows(t *testing.T) {
	for name, opts := range map[string]clustertest.Options{
		"streams": {}, "no UUIDs": {NoUUIDs: true}, "oplog": {OplogStyle: true},
		"destination without changes": {Info: func(i *clustersync.Info) { i.ChangeSource = "" }},
	} {
		for _, forget := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, forgetful %v", name, forget), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { testFollows(t, opts, forget) })
			})
		}
	}
}

func testFollows(t *testing.T, opts clustertest.Options, forget bool) {
	src, dst := twins(t, opts)
	// Three documents are kept in memory, the rest goes to metadata. Both connections fail now and then.
	flakySource, flakyDestination := src.Connect(), dst.Connect()
	flakySource.Inject(clustertest.Flaky(1, 0.1))
	flakyDestination.Inject(clustertest.Flaky(2, 0.1))
	v := verifier(t, clustersync.VerifierConfig{
		Source: flakySource, Destination: flakyDestination, MaxDirty: 3, Metadata: dst.Metadata(), Fence: func() int64 { return 0 },
	})
	must(t, v.Final(t.Context()))
	drain := v.stream(src)
	for _, u := range []*clustertest.User{src.User(), dst.User()} { // the second is the sync
		for i := range 40 {
			if u.Docs(ns("a")) != nil && forget && i == 20 {
				forget = false // by the first of the two, which is the source: the sync does it not
				must(t, u.Update(ns("a"), i, bson.D{{Key: "text", Value: "forgotten"}}))
			}
			must(t, u.Update(ns("b"), i, bson.D{{Key: "text", Value: "new"}}))
		}
		must(t, u.Rename(ns("b"), ns("moved"), false))
		must(t, u.Drop(ns("c")))
		must(t, u.Create(ns("made"), nil))
		must(t, u.Insert(ns("made"), bson.D{{Key: "_id", Value: 1}}))
		must(t, u.Update(ns("moved"), 45, bson.D{{Key: "text", Value: "newer"}}))
	}
	drain()
	if !slices.ContainsFunc(src.User().Docs(ns("a")), func(d bson.Raw) bool { return d.Lookup("text").StringValue() == "forgotten" }) {
		must(t, v.Final(t.Context()))
		return
	}
	expect(t, v.mismatch(), clustersync.OtherDocument, "20", "members text")
}

// TestVerifierHistoryLost: when the destination's history is gone, everything is hashed again.
func TestVerifierHistoryLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, dst := twins(t, clustertest.Options{})
		broken := dst.Connect()
		v := verifier(t, clustersync.VerifierConfig{Source: src.Connect(), Destination: broken})
		must(t, v.Final(t.Context()))
		broken.Inject(func(c clustertest.Call) clustertest.Fault {
			if c.Name == "Next" {
				return clustertest.Fault{Err: clustertest.Passing()}
			}
			return clustertest.Fault{}
		})
		synctest.Wait()
		must(t, dst.User().Update(ns("a"), 3, bson.D{{Key: "text", Value: "stranger"}}))
		dst.User().Forget()
		broken.Inject(nil)
		expect(t, v.mismatch(), clustersync.OtherDocument, "3", "members text")
	})
}

// TestVerifierEnds: Final ends with Run, and with its context.
func TestVerifierEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, dst := twins(t, clustertest.Options{})
		dead := dst.Connect()
		dead.Kill()
		v := clustersync.NewVerifier(clustersync.VerifierConfig{
			Source: src, Destination: dead, Pairs: func(context.Context) ([]clustersync.Pair, error) { return nil, nil },
		})
		if err := v.Run(t.Context()); err == nil {
			t.Error("Run works with a dead cluster")
		}
		if err := v.Final(t.Context()); err == nil || errors.Is(err, clustersync.ErrMismatch) {
			t.Errorf("Final: %v", err)
		}
	})
}

// TestVerifierCatalog: what the sync has mapped must be what the source has, or something was never told.
func TestVerifierCatalog(t *testing.T) {
	for name, c := range map[string]struct {
		pairs func([]clustersync.Pair) []clustersync.Pair
		what  clustersync.DifferenceKind
	}{
		"a collection that was never mapped": {func(p []clustersync.Pair) []clustersync.Pair { return p[1:] }, clustersync.MissingCollection},
		"a mapping that was never dropped": {func(p []clustersync.Pair) []clustersync.Pair {
			gone := clustersync.Collection{Ref: clustersync.Ref{Namespace: ns("gone"), UUID: "gone"}, Type: clustersync.Plain}
			return append(p, clustersync.Pair{Source: gone, Destination: ns("a")})
		}, clustersync.ExtraCollection},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				src, dst := twins(t, clustertest.Options{})
				v := verifier(t, clustersync.VerifierConfig{
					Source: src.Connect(), Destination: dst.Connect(), Include: func(clustersync.Namespace) bool { return true },
					Pairs: func(ctx context.Context) ([]clustersync.Pair, error) {
						all, err := mapped(ctx, src)
						return c.pairs(all), err
					},
				})
				found := v.mismatch()
				if !slices.ContainsFunc(found, func(d clustersync.Difference) bool { return d.What == c.what }) {
					t.Errorf("found %v, want %s", found, c.what)
				}
			})
		})
	}
}
