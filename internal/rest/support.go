package rest

import (
	"archive/zip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	runtimepprof "runtime/pprof"
	"slices"
	"sync"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/telemetry"
)

// keptArchives is how many support archives are kept; making another removes the oldest.
const keptArchives = 5

// support makes archives for whoever looks into a problem: configs with their secrets masked, statistics,
// what goroutines do. They stay in the data directory; nothing is uploaded.
type support struct {
	dir string

	mu     sync.Mutex
	cancel context.CancelFunc // nil: none is being made
	done   chan struct{}      // closed when the one being made is finished
}

var (
	errSupportRunning = &tidegate.Error{Code: tidegate.Internal, Reason: "sgcollect_info is already running", Status: http.StatusInternalServerError}
	errSupportIdle    = tidegate.Errorf(tidegate.Invalid, "sgcollect_info is not running")
)

// supportOptions is the body of POST /_sgcollect_info.
type supportOptions struct {
	RedactLevel string `json:"redact_level"`
	RedactSalt  string `json:"redact_salt"`
	Upload      bool   `json:"upload"`
	UploadHost  string `json:"upload_host"`
	UploadProxy string `json:"upload_proxy"`
	Customer    string `json:"customer"`
	Ticket      string `json:"ticket"`
	OutputDir   string `json:"output_dir"`
	KeepZip     *bool  `json:"keep_zip"`
}

// check refuses what this version does not do.
func (o supportOptions) check() error {
	switch {
	case o.Upload || o.UploadHost != "" || o.UploadProxy != "" || o.Customer != "" || o.Ticket != "":
		return tidegate.Errorf(tidegate.Invalid, "uploading is not supported: the archive stays in the data directory, under support")
	case o.OutputDir != "":
		return tidegate.Errorf(tidegate.Invalid, "output_dir cannot be chosen: the archive goes into the data directory, under support")
	case !slices.Contains([]string{"", "none", "partial"}, o.RedactLevel):
		return tidegate.Errorf(tidegate.Invalid, "redact_level must be none or partial")
	}
	return nil
}

// handleSupportStart answers POST /_sgcollect_info.
func (s *Server) handleSupportStart(w http.ResponseWriter, r *request) error {
	var o supportOptions
	if err := s.readStrict(r, &o); err != nil {
		return err
	}
	if err := o.check(); err != nil {
		return err
	}
	if s.diag.support.dir == "" {
		return errNoDataDir
	}
	if err := s.diag.support.start(s.collect); err != nil {
		return err
	}
	return s.reply(w, http.StatusOK, map[string]string{"status": "started"})
}

// handleSupportStatus answers GET /_sgcollect_info.
func (s *Server) handleSupportStatus(w http.ResponseWriter, _ *request) error {
	status := "stopped"
	if s.diag.support.running() {
		status = "running"
	}
	return s.reply(w, http.StatusOK, map[string]string{"status": status})
}

// handleSupportCancel answers DELETE /_sgcollect_info.
func (s *Server) handleSupportCancel(w http.ResponseWriter, _ *request) error {
	if !s.diag.support.stop() {
		return errSupportIdle
	}
	return s.reply(w, http.StatusOK, map[string]string{"status": "cancelled"})
}

// start makes an archive in the background.
func (p *support) start(collect func(ctx context.Context, dir string)) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cancel != nil {
		return errSupportRunning
	}
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel, p.done = cancel, make(chan struct{})
	go func() {
		collect(ctx, filepath.Join(p.dir, "support"))
		p.mu.Lock()
		defer p.mu.Unlock()
		cancel()
		p.cancel = nil
		close(p.done)
	}()
	return nil
}

func (p *support) running() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cancel != nil
}

// stop asks for the end of the making and reports whether there was one.
func (p *support) stop() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cancel == nil {
		return false
	}
	p.cancel()
	return true
}

// collect makes one archive and removes the oldest ones.
func (s *Server) collect(ctx context.Context, dir string) {
	name := filepath.Join(dir, "tidegate-"+time.Now().UTC().Format("20060102T150405.000000000")+".zip")
	err := os.MkdirAll(dir, 0o700)
	if err == nil {
		err = s.writeArchive(ctx, name)
	}
	if err == nil {
		err = removeOldest(dir)
	}
	if err != nil {
		s.log.Error("support archive failed", "error", err)
		return
	}
	s.log.Info("support archive written", "file", name)
}

// writeArchive writes an archive whole or not at all.
func (s *Server) writeArchive(ctx context.Context, name string) (err error) {
	f, err := os.OpenFile(name+".part", os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
			return
		}
		err = os.Rename(f.Name(), name)
	}()
	z := zip.NewWriter(f)
	for _, part := range s.supportParts() {
		if err := ctx.Err(); err != nil {
			return err
		}
		w, err := z.Create(part.name)
		if err != nil {
			return err
		}
		if err := part.write(w); err != nil {
			return fmt.Errorf("collect %s: %w", part.name, err)
		}
	}
	return z.Close()
}

// supportPart is a file of an archive.
type supportPart struct {
	name  string
	write func(w io.Writer) error
}

// supportParts are the files of an archive.
func (s *Server) supportParts() []supportPart {
	bytesOf := func(b []byte) func(io.Writer) error {
		return func(w io.Writer) error { _, err := w.Write(b); return err }
	}
	version, _ := s.product()
	parts := []supportPart{
		{"version.txt", bytesOf([]byte(version + "\n" + runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH + "\n"))},
		{"config.json", bytesOf(s.startup().Masked())},
		{"expvar.json", func(w io.Writer) error {
			b, err := telemetry.AppendExpvar(nil, s.snapshot(), os.Args[:1])
			if err != nil {
				return err
			}
			return bytesOf(b)(w)
		}},
		{"databases.json", func(w io.Writer) error { return json.NewEncoder(w).Encode(s.registry()) }},
		{"goroutines.txt", func(w io.Writer) error { return runtimepprof.Lookup("goroutine").WriteTo(w, 1) }},
		{"heap.pprof", func(w io.Writer) error { return runtimepprof.Lookup("heap").WriteTo(w, 0) }},
	}
	for i, db := range s.gateway.Databases() {
		cfg, _ := db.Config() // numbered: a database's name is not to become a file name
		parts = append(parts, supportPart{fmt.Sprintf("database-%d.json", i), bytesOf(cfg.Masked())})
	}
	return parts
}

// removeOldest keeps the newest archives.
func removeOldest(dir string) error {
	all, err := filepath.Glob(filepath.Join(dir, "tidegate-*.zip"))
	if err != nil {
		return err
	}
	slices.Sort(all) // by time, which is their name
	for len(all) > keptArchives {
		if err := os.Remove(all[0]); err != nil {
			return err
		}
		all = all[1:]
	}
	return nil
}
