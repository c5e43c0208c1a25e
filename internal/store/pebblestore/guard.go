package pebblestore

import (
	"log/slog"
	"time"
)

// diskGuard refuses writes while the disk is nearly full. It is used by the committer alone.
type diskGuard struct {
	dir     string
	min     uint64 // 0: no guard
	free    func(dir string) (uint64, error)
	log     *slog.Logger
	asked   time.Time
	full    bool
	unknown bool // the last question was not answered, and that was said
}

// guardInterval is how often the file system is asked.
const guardInterval = time.Second

func newDiskGuard(dir string, o Options) *diskGuard {
	g := &diskGuard{dir: dir, free: o.FreeBytes, log: o.Logger}
	if o.MinFreeBytes > 0 {
		g.min = uint64(o.MinFreeBytes)
	}
	return g
}

// nearlyFull asks the file system if the last answer is old, and says what holds now. A file system that
// does not answer counts as having room: the write will find out.
func (g *diskGuard) nearlyFull() bool {
	if g.min == 0 {
		return false
	}
	now := time.Now()
	if !g.asked.IsZero() && now.Sub(g.asked) < guardInterval {
		return g.full
	}
	g.asked = now
	free, err := g.free(g.dir)
	if err != nil {
		if !g.unknown {
			g.log.Warn("cannot tell how much room the disk has", "dir", g.dir, "error", err)
		}
		g.full, g.unknown = false, true
		return false
	}
	g.unknown = false
	switch full := free < g.min; {
	case full && !g.full:
		g.log.Error("the disk is nearly full: writes are refused", "dir", g.dir, "free_bytes", free, "min_free_bytes", g.min)
		g.full = true
	case !full && g.full:
		g.log.Info("the disk has room again: writes are taken", "dir", g.dir, "free_bytes", free)
		g.full = false
	}
	return g.full
}
