package rest

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/tidegate/tidegate"
)

// Backup writes an archive of everything that is stored, and says how much it was.
type Backup func(ctx context.Context, w io.Writer) (summary any, err error)

// backupsAtOnce bounds how many archives are written at the same time: each holds a snapshot open.
const backupsAtOnce = 2

// handleBackup answers GET /_backup: an archive of all databases as they were when it was asked for. It has password hashes and
// encrypted passwords in it, so it is for who may change the server. An archive that was cut short has no end, which restoring notices.
func (s *Server) handleBackup(w http.ResponseWriter, r *request) error {
	if s.deps.Backup == nil {
		return tidegate.Errorf(tidegate.Unavailable, "this server does not write backups")
	}
	select {
	case s.backups <- struct{}{}:
		defer func() { <-s.backups }()
	default:
		return tidegate.Errorf(tidegate.TooMany, "%d backups are being written; try again later", backupsAtOnce)
	}
	h := w.Header()
	h.Set("Content-Type", "application/zstd")
	h.Set("Content-Disposition", fmt.Sprintf(`attachment; filename="tidegate-%s.archive"`, time.Now().UTC().Format("20060102-150405")))
	h.Set("Cache-Control", "no-store")
	started := time.Now()
	summary, err := s.deps.Backup(r.Context(), w)
	if err != nil {
		s.log.Error("backup failed", "error", err)
		panic(http.ErrAbortHandler) // the client must not take what it has for the whole
	}
	s.log.Info("backup written", "summary", summary, "took", time.Since(started).Round(time.Millisecond))
	return nil
}
