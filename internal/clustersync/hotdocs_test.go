package clustersync_test

import (
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/tidegate/tidegate/internal/clustersync"
	"github.com/tidegate/tidegate/internal/clustersync/clustertest"
)

// Documents that were hot once stay hot, whatever the process is started with later, and in the other direction too (spec §2.1).
func TestEngineHotDocsStayHot(t *testing.T) {
	hot := func(ids ...int) []clustersync.HotDocs {
		h := clustersync.HotDocs{Namespace: ns("a")}
		for _, id := range ids {
			h.IDs = append(h.IDs, mustMarshal(t, bson.D{{Key: "_id", Value: id}}))
		}
		return []clustersync.HotDocs{h}
	}
	engineTest(t, clustertest.Options{}, func(s *syncRun) { s.settings.HotDocs = hot(7) }, func(s *syncRun) {
		fill(s.t, s.src())
		s.start()
		s.until("canCommit", s.canCommit)
		value := 0
		look := func(when string, want map[int]bool) { // which documents are hot
			value++
			for id := range want {
				must(s.t, s.src().Update(ns("a"), id, bson.D{{Key: "look", Value: value}}))
			}
			end := mark(s.t, s)
			s.until("applied", func() bool { return s.conns[s.side(0)].Reached(s.engine.Snapshot().Applied, end) })
			docs := s.dst().Docs(ns("a"))
			for id, is := range want {
				applied := docs[id].Lookup("look").Type == bson.TypeInt32 && int(docs[id].Lookup("look").Int32()) == value
				if applied == is {
					s.t.Errorf("%s: document %d: applied %v, hot %v", when, id, applied, is)
				}
			}
		}
		restart := func(with []clustersync.HotDocs) {
			s.cancel(clustersync.ErrStopped)
			<-s.ended
			s.settings.HotDocs = with
			s.start()
			s.until("canCommit", s.canCommit)
		}
		look("as given", map[int]bool{7: true, 8: false, 9: false})
		restart(nil)
		look("given no more", map[int]bool{7: true, 8: false, 9: false})
		restart(hot(8))
		look("another", map[int]bool{7: true, 8: true, 9: false})
		s.commit()
		s.equal()
		s.settings.HotDocs = nil
		s.reverse()
		s.until("canCommit", s.canCommit)
		look("reversed", map[int]bool{7: true, 8: true, 9: false})
		s.commit()
		s.equal()
		if text := strings.Join(s.engine.Snapshot().Warnings, " "); text != "" {
			s.t.Errorf("warnings: %s", text)
		}
	})
}
