package clustersync

import (
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// placeEvery is how often the place of a natural read is noted: so much at most is read again after a crash.
const placeEvery = 5 * time.Second

// placeKeeper knows how far a natural read has come, and up to where that is on the destination: batches are written in any order (spec §7.5).
// A nil one is of a read that cannot be gone on with.
type placeKeeper struct {
	water *lowWater // its positions are places

	mu     sync.Mutex
	open   *ticket  // of the batch that is being given
	read   bson.Raw // where another read of this process goes on: everything before is on its way
	saved  time.Time
	saving bool
}

func newPlaceKeeper(from bson.Raw) *placeKeeper {
	return &placeKeeper{water: newLowWater(Position{Token: from}), read: from, saved: time.Now()}
}

// prepare has a read go on where the last one ended, and tell its places.
func (k *placeKeeper) prepare(opts *ReadOptions) {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	opts.Resume, opts.Place = k.read, k.told
}

// lose has the next read begin at the beginning. What was written before is written as it is.
func (k *placeKeeper) lose() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.read = nil
	k.water, k.open = newLowWater(Position{}), nil
}

// batch counts a batch that is given to the writers.
func (k *placeKeeper) batch() *ticket {
	if k == nil {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.open == nil {
		k.open = k.water.begin()
	}
	k.open.add()
	return k.open
}

// told notes the place behind what was given so far.
func (k *placeKeeper) told(place bson.Raw) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.open == nil {
		k.open = k.water.begin() // nothing of the batch belongs to the sync
	}
	k.open.seal(Position{Token: place})
	k.open, k.read = nil, place
}

// reached counts a batch as written. If it reports true, record's place is to be noted now, and noted called then.
func (k *placeKeeper) reached(t *ticket, record *partition) bool {
	if k == nil || t == nil {
		return false
	}
	t.done(1)
	k.mu.Lock()
	defer k.mu.Unlock()
	mark, _, _ := k.water.get()
	if k.saving || mark.Token == nil || time.Since(k.saved) < placeEvery {
		return false
	}
	k.saving, k.saved, record.Place = true, time.Now(), mark.Token
	return true
}

func (k *placeKeeper) noted() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.saving = false
}
