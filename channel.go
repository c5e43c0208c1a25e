package tidegate

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// The special channels (sync-function.md §7).
const (
	AllChannels   = "*" // on a document: only it; on a principal: sees everything
	PublicChannel = "!" // every principal has it, since sequence 1
)

// ChannelSet is a sorted set of channel names without duplicates. The zero value is the empty set; sets
// are not changed once made.
type ChannelSet []string

// NewChannelSet makes a set of the names. If "*" is among them the set is exactly {"*"}. It takes
// ownership of names.
func NewChannelSet(names ...string) ChannelSet {
	slices.Sort(names)
	names = slices.Compact(names)
	if slices.Contains(names, AllChannels) {
		return ChannelSet{AllChannels}
	}
	return ChannelSet(names)
}

// Has reports whether the set holds the name.
func (c ChannelSet) Has(name string) bool {
	_, ok := slices.BinarySearch(c, name)
	return ok
}

// ValidChannelName reports whether name may be a channel: UTF-8, not empty, no comma (sync-function.md §4). It
// may be of any length; beyond 250 bytes the database warns.
func ValidChannelName(name string) bool {
	return name != "" && !strings.Contains(name, ",") && utf8.ValidString(name)
}

// Grants maps a channel (or a role name) to the sequence since which a principal has it. 1 means always:
// nothing is backfilled for it.
type Grants map[string]Seq

// Add notes that name is granted at seq; of several grants the lowest sequence counts.
func (g Grants) Add(name string, seq Seq) {
	if old, ok := g[name]; !ok || seq < old {
		g[name] = seq
	}
}

// CanSee reports whether a principal with these channels may read a revision in the given channels: it
// has "*", or one of them.
func (g Grants) CanSee(channels ChannelSet) bool {
	if _, ok := g[AllChannels]; ok {
		return true
	}
	for _, c := range channels {
		if _, ok := g[c]; ok {
			return true
		}
		if c == PublicChannel {
			return true
		}
	}
	return false
}

// AppendJSON appends the set as a JSON array of strings, in order.
func (c ChannelSet) AppendJSON(b []byte) []byte {
	b = append(b, '[')
	for i, name := range c {
		if i > 0 {
			b = append(b, ',')
		}
		b = AppendJSONString(b, name)
	}
	return append(b, ']')
}
