package database_test

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/access"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/script"
	"github.com/tidegate/tidegate/internal/store"
	"github.com/tidegate/tidegate/internal/store/pebblestore"
)

// The collections of the worlds of dry runs: the function of the first is tried out, roles reach into both.
const planned, other = store.Collection(0), store.Collection(5)

// planWorld is a database for a dry run, and what is known of it without asking the plan.
type planWorld struct {
	e     *env
	docs  map[store.Collection][]string
	users []string
}

func (w *planWorld) draw(t *rapid.T) {
	registry, ctx := w.e.db.Access(), w.e.t.Context()
	channels := someOf([]string{"a", "b", "c"})
	for _, role := range []string{"r", "s"} {
		u := access.RoleUpdate{AdminChannels: channels.Draw(t, "of role "+role), CollectionAccess: map[string]map[string]access.CollectionUpdate{
			"shop": {"orders": {AdminChannels: channels.Draw(t, "there of role "+role)}},
		}}
		if rapid.IntRange(0, 5).Draw(t, "star for "+role) == 0 {
			u.AdminChannels = append(u.AdminChannels, "*")
		}
		if _, err := registry.PutRole(ctx, role, u, false); err != nil {
			t.Fatal(err)
		}
	}
	for _, user := range w.users {
		u := access.UserUpdate{AdminChannels: channels.Draw(t, "of "+user), AdminRoles: someOf([]string{"r", "s"}).Draw(t, "roles of "+user)}
		if _, err := registry.PutUser(ctx, user, u, false); err != nil {
			t.Fatal(err)
		}
	}
	for coll, ids := range w.docs {
		for _, id := range ids {
			w.write(t, coll, id)
		}
	}
}

// write writes a document that says twice what becomes of it: for byChannels and for byGroups, which looks at other members.
func (w *planWorld) write(t *rapid.T, coll store.Collection, id string) {
	list := func(names []string) string { return strings.ReplaceAll(fmt.Sprintf("%q", names), `" "`, `","`) }
	channels := func(what string) string {
		if rapid.IntRange(0, 9).Draw(t, "all") == 0 {
			return `["*"]`
		}
		return list(someOf([]string{"a", "b", "c", "!"}).Draw(t, what))
	}
	grants := func(what string) string {
		var all []string
		for _, who := range append([]string{"role:r", "role:s"}, w.users...) {
			if rapid.IntRange(0, 3).Draw(t, what+" "+who) == 0 {
				all = append(all, fmt.Sprintf(`[%q,%s]`, who, list(someOf([]string{"a", "b", "c"}).Draw(t, "names"))))
			}
		}
		return "[" + strings.Join(all, ",") + "]"
	}
	roles := func(what string) string {
		var all []string
		for _, who := range w.users {
			if rapid.IntRange(0, 3).Draw(t, what+" "+who) == 0 {
				all = append(all, fmt.Sprintf(`[%q,"role:%s"]`, who, rapid.SampledFrom([]string{"r", "s"}).Draw(t, "role")))
			}
		}
		return "[" + strings.Join(all, ",") + "]"
	}
	body := fmt.Sprintf(`"channels":%s,"grant":%s,"roles":%s,"groups":%s,"gives":%s,"jobs":%s`,
		channels("channels"), grants("grant"), roles("roles"), channels("groups"), grants("gives"), roles("jobs"))
	switch rapid.IntRange(0, 9).Draw(t, "fails") {
	case 0:
		body += `,"fails":true`
	case 1:
		body += `,"breaks":true`
	}
	if rapid.IntRange(0, 6).Draw(t, "deleted") == 0 {
		body += `,"_deleted":true`
	}
	for branch := range rapid.IntRange(1, 2).Draw(t, "branches") {
		raw := fmt.Sprintf(`{"_id":%q,"_revisions":{"start":1,"ids":["b%d"]},%s}`, id, branch, body)
		if _, err := w.e.db.Admin(coll).Put(w.e.t.Context(), w.e.write(raw, false)); err != nil {
			t.Fatal(err)
		}
		body = fmt.Sprintf(`"channels":%s,"groups":%s`, channels("channels of a branch"), channels("groups of a branch"))
	}
}

// byJobs is byGroups with roles.
var byJobs = strings.Replace(byGroups, "channel(doc.groups);",
	"channel(doc.groups); if (doc.jobs) { for (var j = 0; j < doc.jobs.length; j++) { role(doc.jobs[j][0], doc.jobs[j][1]); } }", 1)

// sight is all that a dry run speaks of, as readers see it.
type sight struct {
	members map[string]bool // channel of the planned collection and document
	sees    map[string]bool // user, collection and document
	has     map[string]bool // user and channel, or user and role
	routing map[string]string
}

func (w *planWorld) look(t *rapid.T) sight {
	s := sight{map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]string{}}
	ctx := w.e.t.Context()
	for _, id := range w.docs[planned] {
		raw := w.e.raw(id)
		for name, c := range raw.Channels {
			if !c.Removed.Removed {
				s.members[name+"/"+id] = true
			}
		}
		names := func(all map[string]tidegate.Grants) string {
			text := ""
			for _, who := range slices.Sorted(maps.Keys(all)) {
				text += fmt.Sprint(who, slices.Sorted(maps.Keys(all[who])))
			}
			return text
		}
		for leaf := range raw.Tree.Leaves() {
			s.routing[id] += fmt.Sprint(raw.Tree.At(leaf).ID, raw.Tree.At(leaf).Channels)
		}
		s.routing[id] += names(raw.Access) + names(raw.Roles)
	}
	for _, user := range w.users {
		u, err := w.e.db.Access().User(ctx, user)
		if err != nil {
			t.Fatal(err)
		}
		info, err := w.e.db.Access().UserRecord(ctx, user)
		if err != nil {
			t.Fatal(err)
		}
		for _, role := range info.Roles {
			s.has[user+"/role:"+role] = true
		}
		for coll, ids := range w.docs {
			for c := range u.Channels(coll) {
				s.has[fmt.Sprintf("%s/%d:%s", user, coll, c)] = true
			}
			for _, id := range ids {
				if _, err := w.e.db.As(u, coll).Get(ctx, id, database.GetOptions{}); err == nil {
					s.sees[fmt.Sprintf("%s/%d/%s", user, coll, id)] = true
				}
			}
		}
	}
	return s
}

// count counts by their first part the things that are in a and not in b.
func count(a, b map[string]bool) map[string]int64 {
	n := map[string]int64{}
	for thing := range a {
		if !b[thing] {
			first, _, _ := strings.Cut(thing, "/")
			n[first]++
		}
	}
	return n
}

// compare holds a report against what a resync really did.
func comparePlan(report *database.PlanReport, status database.ResyncStatus, before, after sight) error {
	if report.DocsProcessed != status.DocsProcessed || report.DocsWouldChange != status.DocsChanged || report.DocsRejected != status.DocsRejected ||
		report.DocsTotal != status.DocsTotal || report.DocsErrored != 0 || !report.Exact.Channels || !report.Exact.Principals || !report.Exact.Documents {
		return fmt.Errorf("report %+v\nresync %+v", report, status)
	}
	changed := int64(0)
	for id := range before.routing {
		if before.routing[id] != after.routing[id] {
			changed++
		}
	}
	if changed != report.DocsWouldChange || int64(len(report.Documents)) != changed {
		return fmt.Errorf("%d documents changed, the report says %d: %+v", changed, report.DocsWouldChange, report.Documents)
	}
	gained, lost := map[string]int64{}, map[string]int64{}
	for _, c := range report.Channels {
		gained[c.Channel], lost[c.Channel] = c.Gained, c.Lost
	}
	dropZeros(gained)
	dropZeros(lost)
	if want := count(after.members, before.members); !maps.Equal(gained, want) {
		return fmt.Errorf("channels gain %v, the report says %v", want, gained)
	}
	if want := count(before.members, after.members); !maps.Equal(lost, want) {
		return fmt.Errorf("channels lose %v, the report says %v", want, lost)
	}
	return compareReach(report, before, after)
}

func compareReach(report *database.PlanReport, before, after sight) error {
	docsGained, docsLost, has := map[string]int64{}, map[string]int64{}, map[string]bool{}
	users := int64(0)
	for _, r := range report.Principals {
		if r.Kind == "role" {
			continue
		}
		users++
		docsGained[r.Name], docsLost[r.Name] = r.DocsGained, r.DocsLost
		for prefix, names := range map[string][]string{"+": r.ChannelsGained, "-": r.ChannelsLost, "+role:": r.RolesGained, "-role:": r.RolesLost} {
			for _, name := range names {
				if !strings.HasSuffix(prefix, ":") {
					if c, ok := strings.CutPrefix(name, "shop.orders:"); ok {
						name = "5:" + c
					} else {
						name = "0:" + name
					}
				}
				has[prefix[:1]+r.Name+"/"+prefix[1:]+name] = true
			}
		}
	}
	want := map[string]bool{}
	for _, sides := range []struct {
		sign string
		a, b map[string]bool
	}{{"+", after.has, before.has}, {"-", before.has, after.has}} {
		for thing := range sides.a {
			if !sides.b[thing] {
				want[sides.sign+thing] = true
			}
		}
	}
	dropZeros(docsGained)
	dropZeros(docsLost)
	switch {
	case !maps.Equal(docsGained, count(after.sees, before.sees)):
		return fmt.Errorf("users see %v more, the report says %v", count(after.sees, before.sees), docsGained)
	case !maps.Equal(docsLost, count(before.sees, after.sees)):
		return fmt.Errorf("users see %v less, the report says %v", count(before.sees, after.sees), docsLost)
	case !maps.Equal(has, want):
		return fmt.Errorf("users gain and lose %v, the report says %v", want, has)
	case users != report.Users:
		return fmt.Errorf("%d users, the report counts %d", users, report.Users)
	}
	return nil
}

func dropZeros(m map[string]int64) {
	maps.DeleteFunc(m, func(_ string, n int64) bool { return n == 0 })
}

// compiledJobs is byJobs, compiled once.
var compiledJobs = sync.OnceValues(func() (script.SyncFunction, error) {
	return script.CompileSync(byJobs, "", script.Options{})
})

// TestPlanIsWhatAResyncDoes: in random worlds the report of a dry run is what an offline resync with the same function then
// does, and the dry run itself does nothing at all.
func TestPlanIsWhatAResyncDoes(t *testing.T) {
	old, err := compiled()
	if err != nil {
		t.Fatal(err)
	}
	next, err := compiledJobs()
	if err != nil {
		t.Fatal(err)
	}
	opts := func(fn script.SyncFunction) database.Options {
		return database.Options{
			AllowConflicts: true, Access: access.Config{AllowEmptyPassword: true},
			Collections: []database.CollectionOptions{{Function: fn}, {Scope: "shop", Name: "orders", ID: other, Function: old}},
		}
	}
	o := []store.Collection{planned}
	rapid.Check(t, func(rt *rapid.T) {
		e, done := openIdle(t, nil, opts(old))
		w := &planWorld{e: e, users: []string{"amy", "bob"}, docs: map[store.Collection][]string{planned: {"d1", "d2", "d3", "d4"}, other: {"o1", "o2"}}}
		w.draw(rt)
		done()
		e, done = openIdle(t, e.st, opts(next))
		defer e.st.Close()
		defer done()
		w.e = e
		content := contentOf(t, e.st)
		report, err := e.db.Plan(t.Context(), database.PlanOptions{Collections: o})
		if err != nil {
			rt.Fatal(err)
		}
		if contentOf(t, e.st) != content {
			rt.Fatal("the dry run has changed the store")
		}
		before := w.look(rt)
		status, err := e.db.Resync(t.Context(), database.ResyncOptions{Collections: o})
		if err != nil {
			rt.Fatal(err)
		}
		if err := comparePlan(report, status, before, w.look(rt)); err != nil {
			rt.Fatal(err)
		}
	})
}

// openIdle opens a database that is not run, so that only the test writes, on a new store if none is given. done closes it.
func openIdle(t testing.TB, st store.Store, opts database.Options) (e *env, done func()) {
	t.Helper()
	var err error
	if st == nil {
		if st, err = pebblestore.OpenMem(); err != nil {
			t.Fatal(err)
		}
	}
	e = &env{t: t, st: st, clock: newClock()}
	opts.Name, opts.Space, opts.Now = "test", space, e.clock.now
	if e.db, err = database.Open(t.Context(), st, nil, opts); err != nil {
		t.Fatal(err)
	}
	e.admin = e.db.Admin(planned)
	return e, func() {
		if err := e.db.Close(); err != nil {
			t.Error(err)
		}
	}
}

// contentOf condenses everything that is in a store.
func contentOf(t testing.TB, st store.Store) uint64 {
	t.Helper()
	sum := fnv.New64a()
	err := st.View(t.Context(), func(r store.Reader) error {
		it := r.Scan(store.Range{})
		defer it.Close()
		for it.Next() {
			fmt.Fprintf(sum, "%x=%x\n", it.Key(), it.Value())
		}
		return it.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	return sum.Sum64()
}

// plan runs a dry run of a function for the default collection.
func (e *env) plan(source string) *database.PlanReport {
	e.t.Helper()
	o := database.PlanOptions{}
	if source != "" {
		o.Functions = map[store.Collection]string{0: source}
	}
	report, err := e.db.Plan(e.t.Context(), o)
	if err != nil {
		e.t.Fatal(err)
	}
	return report
}

// TestPlanSamplesFailures: which document fails, of what, and where in the function.
func TestPlanSamplesFailures(t *testing.T) {
	e := open(t, database.Options{AllowConflicts: true})
	e.put(`{"_id":"a","channels":["x"],"groups":["x"]}`)
	e.put(`{"_id":"b","channels":["x"],"breaks":true}`)
	e.put(`{"_id":"c","channels":["x"],"fails":true}`)
	for i := range 150 {
		e.put(fmt.Sprintf(`{"_id":"d%03d","channels":["x"],"breaks":true}`, i))
	}
	runs := e.db.Stats().SyncFunctions.Load()
	r := e.plan(byGroups)
	if e.db.Stats().SyncFunctions.Load() != runs || e.db.Stats().SyncExceptions.Load() != 0 {
		t.Error("the runs of a trial are counted")
	}
	if r.DocsProcessed != 153 || r.DocsWouldChange != 152 || r.DocsRejected != 152 || r.DocsFailed != 151 || len(r.Failures) != 100 || len(r.Documents) != 100 {
		t.Fatalf("%+v", r)
	}
	rev := e.raw("b").Rev.String()
	want := database.PlanFailure{
		Collection: "_default._default", Doc: "b", Rev: rev, Kind: database.PlanException, Status: 500,
		Error: "ReferenceError: 'nothing' is not defined", Line: 3, Column: 20,
	}
	if r.Failures[0] != want {
		t.Errorf("got %+v, want %+v", r.Failures[0], want)
	}
	want = database.PlanFailure{Collection: "_default._default", Doc: "c", Rev: e.raw("c").Rev.String(), Kind: database.PlanRejected, Status: 403, Error: "no"}
	if r.Failures[1] != want {
		t.Errorf("got %+v, want %+v", r.Failures[1], want)
	}
	if !slices.Equal(r.Channels, []database.PlanChannel{{Collection: "_default._default", Channel: "x", Lost: 152}}) {
		t.Errorf("channels %+v", r.Channels)
	}
}

// TestPlanOfTheSameFunction: without a candidate it is the function in force, which changes nothing.
func TestPlanOfTheSameFunction(t *testing.T) {
	e := open(t, database.Options{})
	e.user("amy", "x")
	e.put(`{"_id":"a","channels":["x"],"grant":[["amy","y"]]}`)
	if r := e.plan(""); r.AnyChange() || r.DocsProcessed != 1 || len(r.Channels)+len(r.Documents)+len(r.Principals)+len(r.Failures) != 0 {
		t.Errorf("%+v", r)
	}
}

func TestPlanRefusals(t *testing.T) {
	e := open(t, database.Options{})
	_, err := e.db.Plan(t.Context(), database.PlanOptions{Functions: map[store.Collection]string{0: "function (doc) {\n  channel(;\n}"}})
	if tidegate.ErrorCode(err) != tidegate.Invalid || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("got %v", err)
	}
	_, err = e.db.Plan(t.Context(), database.PlanOptions{Collections: []store.Collection{9}})
	if tidegate.ErrorCode(err) != tidegate.Invalid {
		t.Errorf("got %v", err)
	}
}

// TestPlanIsCancelled: it ends with the context, with its cause, wherever it is.
func TestPlanIsCancelled(t *testing.T) {
	e := open(t, database.Options{})
	for i := range 600 {
		e.put(fmt.Sprintf(`{"_id":"d%03d","channels":["x"]}`, i))
	}
	gone := errors.New("the client is gone")
	for after := range 3 {
		ctx, cancel := context.WithCancelCause(t.Context())
		calls := 0
		_, err := e.db.Plan(ctx, database.PlanOptions{Progress: func(st database.ResyncStatus) {
			if st.Mode != database.ResyncDryRun || st.DocsTotal != 600 || st.State != database.ResyncRunning {
				t.Errorf("progress %+v", st)
			}
			if calls++; calls > after {
				cancel(gone)
			}
		}})
		cancel(nil)
		if !errors.Is(err, gone) {
			t.Errorf("cancelled at call %d: %v", after, err)
		}
	}
}

// TestPlanSpeaksOfOneMoment: what is written while it runs is not in the report.
func TestPlanSpeaksOfOneMoment(t *testing.T) {
	e := open(t, database.Options{})
	for i := range 300 {
		e.put(fmt.Sprintf(`{"_id":"d%03d","channels":["x"],"groups":["y"]}`, i))
	}
	last, writes := e.last(), 0
	r, err := e.db.Plan(t.Context(), database.PlanOptions{
		Functions: map[store.Collection]string{0: byGroups},
		Progress: func(database.ResyncStatus) {
			writes++
			e.put(fmt.Sprintf(`{"_id":"z%03d","channels":["x"],"groups":["y"]}`, writes))
		},
	})
	if err != nil || writes < 2 || r.Sequence != last || r.DocsProcessed != 300 || r.DocsWouldChange != 300 {
		t.Errorf("%d writes, %v, %+v", writes, err, r)
	}
}
