package changes

import (
	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// waiter is the hub's side of a feed. All but the alarm is guarded by the hub's lock.
type waiter struct {
	alarm      alarm
	registered bool         // written by the feed's goroutine only
	places     []place      // where it stands in the hub's lists
	armed      bool         // wake it on the next concern
	quiet      tidegate.Seq // up to here nothing concerned it since it was armed
}

// place is a waiter's place in the list of a channel.
type place struct {
	list *waitList
	at   int
}

// waitList are the waiters of one channel.
type waitList struct {
	key   channelKey
	items []waitItem
}

// waitItem is an item of a list: the waiter, and which of its places this is.
type waitItem struct {
	w     *waiter
	place int
}

// channelKey names a channel of a collection.
type channelKey struct {
	coll    store.Collection
	channel string
}

// noChannel is where those wait who read no channel at all. No document is in it.
const noChannel = ""

// waitLists finds the waiters of a channel.
type waitLists map[channelKey]*waitList

// add puts w into the list of each channel.
func (l waitLists) add(w *waiter, coll store.Collection, channels func(func(string) bool), n int) {
	w.places = make([]place, 0, n)
	for channel := range channels {
		key := channelKey{coll, channel}
		list := l[key]
		if list == nil {
			list = &waitList{key: key}
			l[key] = list
		}
		w.places = append(w.places, place{list, len(list.items)})
		list.items = append(list.items, waitItem{w, len(w.places) - 1})
	}
}

// remove takes w out of its lists.
func (l waitLists) remove(w *waiter) {
	for _, p := range w.places {
		items := p.list.items
		last := len(items) - 1
		items[p.at] = items[last]
		moved := items[p.at]
		moved.w.places[moved.place].at = p.at
		items[last] = waitItem{}
		p.list.items = items[:last]
		if last == 0 {
			delete(l, p.list.key)
		} else if cap(items) > 16 && last < cap(items)/4 {
			p.list.items = append(make([]waitItem, 0, 2*last), items[:last]...)
		}
	}
	w.places = nil
}

// all disarms and returns all waiters; some more than once. What came in between may concern each of them.
func (l waitLists) all() (woken []*waiter) {
	for _, list := range l {
		for _, item := range list.items {
			item.w.armed = false
			woken = append(woken, item.w)
		}
	}
	return woken
}

// wake appends to woken the armed waiters of a channel and disarms them. before is the last sequence that did
// not concern them.
func (l waitLists) wake(key channelKey, before tidegate.Seq, woken []*waiter) []*waiter {
	list := l[key]
	if list == nil {
		return woken
	}
	for _, item := range list.items {
		if item.w.armed {
			item.w.armed, item.w.quiet = false, before
			woken = append(woken, item.w)
		}
	}
	return woken
}
