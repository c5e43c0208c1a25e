package changes

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/tidegate/tidegate"
)

// Writers, changes of access and followers at the same time: when all is written, every follower that was awake
// all along and slept only in Wait, or armed, holds what its user may see.
func TestI6LiveFeedsUnderConcurrentWrites(t *testing.T) {
	for _, ring := range []int{1, 20, LeftWindow} {
		t.Run(fmt.Sprint("ring of ", ring), func(t *testing.T) {
			t.Parallel()
			w := newWorld(openStore(t))
			for _, name := range modelUsers {
				w.user(name, "end", "a")
			}
			h := NewHub(w.st, w.space, HubOptions{RingEntries: ring, ScanRows: 20})
			ctx, cancel := context.WithCancel(t.Context())
			var hub, others sync.WaitGroup
			defer hub.Wait()
			defer cancel()
			hub.Go(func() { _ = h.Run(ctx) })
			for i := range 8 {
				c := newClient(w, modelUsers[i/2%2])
				if i >= 4 {
					c.filter = tidegate.NewChannelSet("a", "b", "end")
				}
				others.Go(func() {
					if err := c.follow(ctx, h, i); err != nil {
						t.Error(err)
					}
				})
			}
			w.busy(rand.New(rand.NewPCG(1, uint64(ring))), 400)
			w.put("end", "end")
			others.Wait()
		})
	}
}

// busy makes n random changes.
func (w *world) busy(rnd *rand.Rand, n int) {
	pick := func(from []string) (some []string) {
		for _, s := range from {
			if rnd.IntN(3) == 0 {
				some = append(some, s)
			}
		}
		return some
	}
	for range n {
		switch id := fmt.Sprint("d", rnd.IntN(20)); rnd.IntN(12) {
		case 0:
			w.admin(modelUsers[rnd.IntN(2)], append(pick(modelChannels), "end")...)
		case 1:
			user := modelUsers[rnd.IntN(2)]
			w.write(write{id: id, channels: pick(modelChannels), access: map[string][]string{user: pick(modelChannels)}})
		case 2, 3:
			w.del(id)
		default:
			w.put(id, pick(modelChannels)...)
		}
	}
}

// follow applies a live feed until the document "end" has come, and checks what the client holds then.
func (c *client) follow(ctx context.Context, h *Hub, i int) error {
	f, err := h.Feed(Request{Viewer: c.user, Revocations: true, Channels: c.filter}, c.w, worldHistory{c.w})
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		batch, err := f.Next(ctx, 1+i)
		if err != nil {
			return err
		}
		for _, e := range batch {
			if err := checkI7(c.w, c.user, e); err != nil {
				return err
			}
			c.apply(e)
		}
		if len(batch) > 0 {
			continue
		}
		if c.docs["end"].Generation > 0 {
			err := cmp.Or(checkI6Order(c.seen), checkI6(c), checkI9(c), checkI8(c))
			if err != nil {
				err = fmt.Errorf("%w\n%s", err, strings.Join(c.w.story, "\n"))
			}
			return err
		}
		sleep := f.Wait
		if i%2 == 1 {
			sleep = func(ctx context.Context) error { return sleepArmed(ctx, f) }
		}
		if err := sleep(ctx); err != nil {
			return err
		}
	}
}
