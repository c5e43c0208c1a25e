package rest

import (
	"context"
	"net/http"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/gateway"
)

// handleChanges answers GET, HEAD and POST {ks}/_changes (gateway-rest.md §14).
func (s *Server) handleChanges(w http.ResponseWriter, r *request) error {
	q, err := s.changesQuery(r)
	if err != nil {
		return err
	}
	mode, err := parseFeedMode(q.text("feed"))
	if err != nil {
		return err
	}
	if r.Method == http.MethodHead {
		mode = feedNormal
	}
	done, err := s.openFeedSlot(r)
	if err != nil {
		return err
	}
	if mode == feedWebSocket {
		return s.websocketChanges(r, done)
	}
	o, err := s.feedOptions(q, mode)
	if err != nil {
		done()
		return err
	}
	if mode == feedContinuous {
		return s.continuousChanges(r, o, done)
	}
	defer done()
	if err := accepts(r.Header).checkJSON(); err != nil {
		return err
	}
	session, err := r.running.DeviceSync().Join(r.Context(), r.sessionInfo("changes", o.Since.String()), r.syncAccess())
	if err != nil {
		return err
	}
	defer session.Leave()
	defer r.leaveWith(session)()
	feed, err := s.openFeed(r.Context(), r, r.handle, o)
	if err != nil {
		return err
	}
	defer feed.Close()
	b := batchFeed{s: s, r: r, w: r.answer, o: o, feed: feed, ctx: session.Context()}
	return b.run(mode == feedLongpoll)
}

// leaveWith makes r.leaving end with the session as well, until stop is called.
func (r *request) leaveWith(session *gateway.Session) (stop func()) {
	leaving, end := context.WithCancelCause(r.leaving)
	r.leaving = leaving
	forget := context.AfterFunc(session.Context(), func() { end(context.Cause(session.Context())) })
	return func() {
		forget()
		end(context.Canceled)
	}
}

// changesQuery reads the parameters: those of the query, and of a POST those of the body that the query does
// not have.
func (s *Server) changesQuery(r *request) (query, error) {
	if r.Method != http.MethodPost {
		return r.q, nil
	}
	body, err := s.readJSON(r)
	if err != nil {
		return query{}, err
	}
	defer body.Free()
	q, err := bodyQuery(body.bytes)
	return q.over(r.q), err
}

// batchFeed is a feed that ends with one JSON object: normal and longpoll.
type batchFeed struct {
	s    *Server
	r    *request
	w    *response
	o    feedOptions
	feed *database.Feed
	ctx  context.Context // ends with the request, and when device sync is paused or ended
	out  *output
	n    int // entries written
}

// opening and closing of the body are exact: clients have been seen to look for the line ends
// (gateway-rest.md §14.2).
const (
	feedOpening  = "{\"results\":[\r\n"
	feedClosing  = "],\n\"last_seq\":\""
	feedEnd      = "\"}\n"
	feedNoCaches = "private, max-age=0, no-cache, no-store"
)

func (b *batchFeed) run(longpoll bool) error {
	h := b.w.Header()
	h.Set("Content-Type", jsonType)
	h.Set("Cache-Control", feedNoCaches)
	b.out = b.s.newOutput(b.w, http.StatusOK)
	defer b.out.close()
	b.out.exact = true
	b.out.b = append(b.out.b, feedOpening...)
	if err := b.send(b.ctx); err != nil && (b.ctx.Err() == nil || b.r.ctx.Err() != nil) {
		return err
	}
	if longpoll && b.n == 0 {
		if err := b.wait(); err != nil {
			return err
		}
	}
	b.out.b = append(b.feed.Since().Append(append(b.out.b, feedClosing...)), feedEnd...)
	return b.out.finish()
}

// send writes the entries that there are.
func (b *batchFeed) send(ctx context.Context) error {
	pace := pacer{target: batchFeedBytes, most: b.s.limits.FeedBatch, docs: b.o.IncludeDocs}
	for {
		entries, err := b.feed.Next(ctx, pace.next())
		if err != nil || len(entries) == 0 {
			return err
		}
		pace.note(entries)
		for i := range entries {
			if b.n++; b.n > 1 {
				b.out.b = append(b.out.b, ',')
			}
			b.out.b = append(entries[i].AppendJSON(b.out.b), '\n')
			if err := b.out.spill(); err != nil {
				return err
			}
		}
		if b.feed.Done() {
			return nil
		}
	}
}

// wait holds a longpoll until there is something to send, its time is over, or the database or the user goes.
// Then, too, the body is ended in form: the client asks again and is told why it cannot be served.
func (b *batchFeed) wait() error {
	// A compressor for each idle client would take more memory than all the rest.
	b.w.noGzip()
	if err := b.out.flush(); err != nil {
		return err
	}
	began := time.Now()
	for b.n == 0 {
		timer := b.o.heartbeat
		if b.o.timeout > 0 {
			if timer = b.o.timeout - time.Since(began); timer <= 0 {
				return nil
			}
		}
		b.out.close() // an idle feed needs no memory for entries
		err := waitFor(b.r.leaving, b.feed, timer)
		b.out.resume()
		switch {
		case err == errFeedTimer && b.o.heartbeat > 0:
			b.out.b = append(b.out.b, '\n')
			if err := b.out.flush(); err != nil {
				return err
			}
			continue
		case err == errFeedTimer:
			return nil
		case b.r.ctx.Err() != nil:
			return b.r.ctx.Err() // the client is gone
		case err != nil:
			return nil
		}
		if err := b.send(b.r.leaving); err != nil {
			return b.endOf(err)
		}
	}
	return nil
}

// endOf tells the ends of a feed that are no failure of ours: the database leaves, the user is gone.
func (b *batchFeed) endOf(err error) error {
	if b.r.leaving.Err() != nil && b.r.ctx.Err() == nil {
		return nil
	}
	switch tidegate.ErrorCode(err) {
	case tidegate.NotFound, tidegate.Unauthorized, tidegate.Forbidden:
		return nil
	}
	return err
}

// errFeedTimer says that waiting took as long as it should.
var errFeedTimer = tidegate.Errorf(tidegate.Canceled, "nothing new within the time")

// waitFor waits until the feed may have something new: nil. errFeedTimer: not within d, if that is not 0. Any
// other error ends the feed.
func waitFor(ctx context.Context, feed *database.Feed, d time.Duration) error {
	if d <= 0 {
		return feed.Wait(ctx)
	}
	timed, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	err := feed.Wait(timed)
	if err != nil && timed.Err() != nil && ctx.Err() == nil {
		return errFeedTimer
	}
	return err
}
