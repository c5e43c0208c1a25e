package rest

import "github.com/tidegate/tidegate"

// batchFeedBytes is about how much a normal feed loads at a time.
const batchFeedBytes = 4 * outputChunk

// A pacer decides how many entries a feed loads at a time, so that what it holds while its client does not read
// is about target bytes, however long the documents are, and at most one entry more.
type pacer struct {
	target int  // bytes
	most   int  // entries
	docs   bool // entries come with documents

	average int // bytes of an entry, as seen so far; 0: none was
}

// Sizes of entries to begin with, in bytes.
const (
	typicalEntry = 100
	typicalDoc   = 4 << 10
)

// next is how many entries to ask for.
func (p *pacer) next() int {
	average := p.average
	if average == 0 {
		if average = typicalEntry; p.docs {
			average = typicalDoc
		}
	}
	return min(max(p.target/average, 1), p.most)
}

// note learns from entries that came.
func (p *pacer) note(entries []tidegate.Change) {
	if len(entries) == 0 {
		return
	}
	size := 0
	for i := range entries {
		size += typicalEntry + len(entries[i].Doc)
	}
	size /= len(entries)
	if size < p.average { // large ones are believed at once, small ones by and by
		size = (3*p.average + size) / 4
	}
	p.average = size
}
