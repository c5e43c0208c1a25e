package rest

import (
	"encoding/json"
	"io"
	"net/http"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store/move"
)

// routesMove are the rows by which `tidegate move --admin` moves everything to another store. What they send has password hashes and encrypted
// passwords in it, so they are for who may change the server.
func (s *Server) routesMove() []route {
	return []route{
		{"POST", "/_move", admin, needServerWrite, anyType, s.handleMove},
		{"GET", "/_move/{id}/snapshot", admin, needServerWrite, 0, s.handleMoveSnapshot},
		{"GET", "/_move/{id}/changes", admin, needServerWrite, 0, s.handleMoveChanges},
		{"GET", "/_move/{id}/digest", admin, needServerWrite, 0, s.handleMoveDigest},
		{"POST", "/_move/{id}/stop", admin, needServerWrite, 0, s.handleMoveStop},
		{"POST", "/_move/{id}/finish", admin, needServerWrite, 0, s.handleMoveFinish},
	}
}

// mover returns the source of moves. Invalid: the store of this server is not one that is moved while it is served from.
func (s *Server) mover() (*move.Source, error) {
	if s.deps.Move == nil {
		return nil, tidegate.Errorf(tidegate.Invalid, "this gateway keeps everything in a database that several share: stop all of them and use tidegate move --from")
	}
	return s.deps.Move, nil
}

// moveBeat is how often a line says that a move is still under way.
const moveBeat = time.Second

// handleMove answers POST /_move: a move begins, which lasts as long as this request. Its id is in the first line; more lines follow while it goes
// on. When the client is gone so is the move, and the gateway goes on as it was.
func (s *Server) handleMove(w http.ResponseWriter, r *request) error {
	source, err := s.mover()
	if err != nil {
		return err
	}
	id, over, err := source.Begin(r.Context())
	if err != nil {
		return err
	}
	defer source.End(id)
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	flush := http.NewResponseController(w)
	line, err := json.Marshal(map[string]string{"move": id})
	if err != nil {
		return err
	}
	beat := time.NewTicker(moveBeat)
	defer beat.Stop()
	for {
		if _, err := w.Write(append(line, '\n')); err != nil {
			return nil // the client is gone
		}
		if err := flush.Flush(); err != nil {
			return nil
		}
		line = line[:0]
		select {
		case <-beat.C:
		case <-over:
			return nil
		case <-source.Moved():
			return nil
		}
	}
}

// sendMove sends a stream that has an end of its own: one that was cut short is noticed.
func (s *Server) sendMove(w http.ResponseWriter, r *request, write func(*move.Source, string, io.Writer) error) error {
	source, err := s.mover()
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "application/zstd")
	h.Set("Cache-Control", "no-store")
	return write(source, moveID(r), w)
}

func (s *Server) handleMoveSnapshot(w http.ResponseWriter, r *request) error {
	return s.sendMove(w, r, func(m *move.Source, id string, to io.Writer) error { return m.Snapshot(r.Context(), id, to) })
}

func (s *Server) handleMoveChanges(w http.ResponseWriter, r *request) error {
	return s.sendMove(w, r, func(m *move.Source, id string, to io.Writer) error { return m.Changes(r.Context(), id, to) })
}

func (s *Server) handleMoveDigest(w http.ResponseWriter, r *request) error {
	source, err := s.mover()
	if err != nil {
		return err
	}
	digest, err := source.Digest(r.Context(), moveID(r))
	if err != nil {
		return err
	}
	return s.writeMoveAnswer(w, map[string]string{"digest": digest})
}

// maxMoveBody bounds the bodies of these requests.
const maxMoveBody = 64 << 10

// moveBody decodes the body of a request.
func (s *Server) moveBody(r *request, into any) error {
	if err := checkJSONType(r.Header); err != nil {
		return err
	}
	body, err := s.readBody(r, maxMoveBody)
	if err != nil {
		return err
	}
	defer body.Free()
	if err := json.Unmarshal(body.bytes, into); err != nil {
		return tidegate.Errorf(tidegate.Invalid, "the body makes no sense: %v", err)
	}
	return nil
}

func (s *Server) handleMoveStop(w http.ResponseWriter, r *request) error {
	var body struct {
		Seconds float64 `json:"seconds"`
	}
	source, err := s.mover()
	if err == nil {
		err = s.moveBody(r, &body)
	}
	if err == nil && !(body.Seconds > 0 && body.Seconds <= move.MaxStop.Seconds()) {
		err = tidegate.Errorf(tidegate.Invalid, "seconds must be above 0 and at most %v", move.MaxStop.Seconds())
	}
	if err == nil {
		err = source.Stop(moveID(r), time.Duration(body.Seconds*float64(time.Second)))
	}
	if err != nil {
		return err
	}
	return s.writeMoveAnswer(w, map[string]string{"writes": "stopped"})
}

func (s *Server) handleMoveFinish(w http.ResponseWriter, r *request) error {
	var body struct {
		To string `json:"to"`
	}
	source, err := s.mover()
	if err == nil {
		err = s.moveBody(r, &body)
	}
	if err == nil {
		err = source.Finish(r.Context(), moveID(r), body.To)
	}
	if err != nil {
		return err
	}
	return s.writeMoveAnswer(w, map[string]string{"moved": body.To})
}

func (s *Server) writeMoveAnswer(w http.ResponseWriter, answer map[string]string) error {
	b, err := json.Marshal(answer)
	if err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "no-store")
	return s.writeJSON(w, http.StatusOK, b)
}

// moveID is the id in the path; one that cannot be read is no move's.
func moveID(r *request) string {
	id, err := r.pathVar("id")
	if err != nil {
		return ""
	}
	return id
}
