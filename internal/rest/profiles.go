package rest

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/pprof"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	runtimepprof "runtime/pprof"
	"strings"
	"sync"
	"time"

	"github.com/tidegate/tidegate"
)

// maxProfile is how long a CPU profile runs at most when nobody stops it.
const maxProfile = 10 * time.Minute

// profiles writes profiles of the process into files of the data directory. A request names no path: only the
// last element of what it sends is used (hardening.md).
type profiles struct {
	dir string

	mu   sync.Mutex
	stop func() error // ends the CPU profile; nil if none is running
}

var (
	errNoDataDir      = tidegate.Errorf(tidegate.Invalid, "this process has no directory to write to")
	errProfileName    = tidegate.Errorf(tidegate.Invalid, `"file" must be a file name of letters, digits, '.', '-' and '_'`)
	errProfileRunning = tidegate.Errorf(tidegate.Invalid, "a CPU profile is running already")
	errNoProfile      = tidegate.Errorf(tidegate.Invalid, "no CPU profile is running")
	errUnknownProfile = tidegate.Errorf(tidegate.NotFound, "no such profile")
)

var profileName = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}$`)

// create makes the file that a request names.
func (p *profiles) create(name string) (*os.File, error) {
	if p.dir == "" {
		return nil, errNoDataDir
	}
	name = name[strings.LastIndexAny(name, `/\`)+1:]
	if !profileName.MatchString(name) {
		return nil, errProfileName
	}
	dir := filepath.Join(p.dir, "profiles")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make directory for profiles: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make profile: %w", err)
	}
	return f, nil
}

// start begins a CPU profile.
func (p *profiles) start(name string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stop != nil {
		return errProfileRunning
	}
	f, err := p.create(name)
	if err != nil {
		return err
	}
	if err := runtimepprof.StartCPUProfile(f); err != nil { // somebody profiles through /debug/pprof
		return errors.Join(errProfileRunning, f.Close())
	}
	timer := time.AfterFunc(maxProfile, func() { _ = p.end() })
	p.stop = func() error {
		timer.Stop()
		runtimepprof.StopCPUProfile()
		return f.Close()
	}
	return nil
}

// end ends the CPU profile.
func (p *profiles) end() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stop == nil {
		return errNoProfile
	}
	stop := p.stop
	p.stop = nil
	return stop()
}

// write writes a profile of another kind.
func (p *profiles) write(kind, name string) error {
	profile := runtimepprof.Lookup(kind)
	if profile == nil {
		return errUnknownProfile
	}
	f, err := p.create(name)
	if err != nil {
		return err
	}
	if kind == "heap" {
		runtime.GC() // so that the figures are those of now
	}
	return errors.Join(profile.WriteTo(f, 0), f.Close())
}

// profileRequest is the body of the profile endpoints.
type profileRequest struct {
	File string `json:"file"`
}

// handleCPUProfile answers POST /_profile: with a file it starts, without it stops.
func (s *Server) handleCPUProfile(w http.ResponseWriter, r *request) error {
	var body profileRequest
	if err := s.readStrict(r, &body); err != nil {
		return err
	}
	var err error
	if body.File == "" {
		err = s.diag.profiles.end()
	} else {
		err = s.diag.profiles.start(body.File)
	}
	if err != nil {
		return err
	}
	return replyEmpty(w, http.StatusOK)
}

// handleProfile answers POST /_profile/{name}.
func (s *Server) handleProfile(w http.ResponseWriter, r *request) error {
	kind, err := r.pathVar("name")
	if err != nil {
		return err
	}
	return s.writeProfile(w, r, kind)
}

// handleHeapProfile answers POST /_heap.
func (s *Server) handleHeapProfile(w http.ResponseWriter, r *request) error {
	return s.writeProfile(w, r, "heap")
}

func (s *Server) writeProfile(w http.ResponseWriter, r *request, kind string) error {
	var body profileRequest
	if err := s.readStrict(r, &body); err != nil {
		return err
	}
	if err := s.diag.profiles.write(kind, body.File); err != nil {
		return err
	}
	return replyEmpty(w, http.StatusOK)
}

// handlePprof answers /debug/pprof/ on the metrics listener and /_debug/pprof/ on the admin listener.
func (s *Server) handlePprof(w http.ResponseWriter, r *request) error {
	name, err := r.pathVar("name")
	if err != nil {
		return err
	}
	switch name {
	case "":
		req := *r.Request // the index finds the name of a profile behind this prefix
		u := *r.URL
		u.Path = "/debug/pprof/"
		req.URL = &u
		pprof.Index(w, &req)
	case "cmdline": // flags could hold what is nobody's business
		return replyText(w, http.StatusOK, "text/plain; charset=utf-8", os.Args[0])
	case "profile":
		pprof.Profile(w, r.Request)
	case "symbol":
		pprof.Symbol(w, r.Request)
	case "trace":
		pprof.Trace(w, r.Request)
	default:
		if runtimepprof.Lookup(name) == nil {
			return errUnknownProfile
		}
		pprof.Handler(name).ServeHTTP(w, r.Request)
	}
	return nil
}
