package clustersync

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// stats are what is counted of an engine.
type stats struct {
	retries, read, readBytes, applied, crud, ddl, duplicates, refetches, indexes atomic.Int64

	mu    sync.Mutex
	copy  CopyCounts
	parts map[string]*NamespaceProgress // by mapping
	over  bool

	workers []int64 // events that each writer of changes has applied
}

// beginApply counts anew how changes are spread over so many writers.
func (s *stats) beginApply(workers int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.workers = make([]int64, workers)
}

// appliedBy counts events that a writer has applied.
func (s *stats) appliedBy(worker, n int) {
	s.applied.Add(int64(n))
	s.crud.Add(int64(n))
	s.mu.Lock()
	defer s.mu.Unlock()
	if worker < len(s.workers) {
		s.workers[worker] += int64(n)
	}
}

// spread is how unevenly the writers are busy: what the busiest has applied less what the idlest has, as a part of what one has on average. nil: nothing
// is applied.
func (s *stats) spread() *float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	var sum int64
	for _, n := range s.workers {
		sum += n
	}
	if sum == 0 {
		return nil
	}
	most, least := slices.Max(s.workers), slices.Min(s.workers)
	return new(float64(most-least) / (float64(sum) / float64(len(s.workers))))
}

// statsRecord is the record in statistics.
type statsRecord struct {
	ID              string `bson:"_id"`
	CopiedBytes     int64  `bson:"copiedBytes"`
	CopiedDocuments int64  `bson:"copiedDocuments"`
	Partitions      int64  `bson:"partitions"`
}

func (s *stats) record(id string) statsRecord {
	s.mu.Lock()
	defer s.mu.Unlock()
	return statsRecord{id, s.copy.CopiedBytes, s.copy.CopiedDocuments, s.copy.Partitions}
}

// restore has the counts of a copy that is over.
func (s *stats) restore(r statsRecord) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.copy.CopiedBytes, s.copy.TotalBytes, s.copy.CopiedDocuments = r.CopiedBytes, r.CopiedBytes, r.CopiedDocuments
	s.copy.Partitions, s.copy.PartitionsDone, s.over = r.Partitions, r.Partitions, true
}

// beginCopy begins to count. Partitions that are done count as copied.
func (s *stats) beginCopy(parts []*partition, c *catalog) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.copy = CopyCounts{StartedAt: time.Now()}
	s.parts = map[string]*NamespaceProgress{}
	for _, p := range parts {
		n := s.parts[p.ID.Collection]
		if n == nil {
			n = &NamespaceProgress{Source: p.Namespace, Destination: p.Namespace}
			if m := c.get(p.ID.Collection); m != nil {
				n.Destination = m.Destination
			}
			s.parts[p.ID.Collection] = n
		}
		s.copy.Partitions++
		s.copy.TotalBytes += p.Total
		n.Partitions++
		n.TotalBytes += p.Total
		if p.Phase == PartitionDone {
			s.count(n, p.Copied, p.Documents)
			s.copy.PartitionsDone++
			n.Done++
		}
	}
	s.copy.Collection = int64(len(s.parts))
	for _, n := range s.parts {
		if n.Done == n.Partitions {
			s.copy.CollectionsDone++
		}
	}
}

// count counts what is copied. mu is held.
func (s *stats) count(n *NamespaceProgress, bytes, docs int64) {
	s.copy.CopiedBytes += bytes
	s.copy.CopiedDocuments += docs
	s.copy.TotalBytes = max(s.copy.TotalBytes, s.copy.CopiedBytes)
	n.CopiedBytes += bytes
	n.CopiedDocuments += docs
	n.TotalBytes = max(n.TotalBytes, n.CopiedBytes)
}

// copied counts a batch that is written.
func (s *stats) copied(p *partition, bytes, docs int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.copy.Batches++
	if n := s.parts[p.ID.Collection]; n != nil {
		s.count(n, bytes, docs)
	}
}

// partitionDone counts a partition.
func (s *stats) partitionDone(p *partition) (done, of int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.parts[p.ID.Collection]; n != nil {
		s.copy.PartitionsDone++
		if n.Done++; n.Done == n.Partitions {
			s.copy.CollectionsDone++
		}
	}
	return s.copy.PartitionsDone, s.copy.Partitions
}

// endCopy makes the total what it turned out to be.
func (s *stats) endCopy() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	s.copy.TotalBytes = s.copy.CopiedBytes
	for _, n := range s.parts {
		n.TotalBytes = n.CopiedBytes
	}
}

// copyCounts are the counts so far, with an estimate of the end.
func (s *stats) copyCounts() (CopyCounts, []NamespaceProgress) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.copy
	if took := time.Since(c.StartedAt); !s.over && !c.StartedAt.IsZero() && c.CopiedBytes > 0 {
		c.EstimatedDoneAt = c.StartedAt.Add(time.Duration(float64(took) * float64(c.TotalBytes) / float64(c.CopiedBytes)))
	}
	var names []NamespaceProgress
	for _, n := range s.parts {
		names = append(names, *n)
	}
	slices.SortFunc(names, func(a, b NamespaceProgress) int { return cmp.Compare(a.Source.String(), b.Source.String()) })
	return c, names
}

func (s *stats) events() EventCounts {
	return EventCounts{
		Read: s.read.Load(), ReadBytes: s.readBytes.Load(), Applied: s.applied.Load(), CRUD: s.crud.Load(), DDL: s.ddl.Load(),
		DuplicateKeys: s.duplicates.Load(), Refetchs: s.refetches.Load(), Retries: s.retries.Load(), IndexesCreated: s.indexes.Load(),
		Spread: s.spread(),
	}
}
