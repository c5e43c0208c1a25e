package blip

import (
	"strings"
	"testing"
)

// play is what a queue does: a letter a frame.
func play(q *queue, frames map[string]int, names map[*outgoing]string) string {
	var out []string
	for {
		m, limit := q.pop()
		if m == nil {
			return strings.Join(out, " ")
		}
		name := names[m]
		shown := name
		if limit == sharedFrame {
			shown += "'"
		}
		out = append(out, shown)
		if frames[name]--; frames[name] > 0 {
			q.back(m)
		} else if !m.single {
			q.begun--
		}
	}
}

// TestQueueOrder: lower case is normal, upper case urgent; a number is how many frames; r is a reply. A ' marks a frame that
// is kept short because something urgent waits.
func TestQueueOrder(t *testing.T) {
	for _, c := range []struct{ push, want string }{
		{"a1 b1 c1", "a b c"},
		{"a3 b3", "a b a b a b"},
		{"a3 b3 c1", "a b a c b a b"},
		{"a3 B3", "a' B a' B a' B"}, // a starts first, and is not starved
		{"a2 b2 C2", "a' b' a' C b' C"},
		{"A3 b3", "A b' A b' A b"},
		{"A2 B2 c3", "A B A c' B c c"},
		{"rA1 rb9 rC1", "A b' C b b b b b b b b"},
		{"a1 b1 rC1", "C a b"}, // a reply need not wait for requests to start
		{"a1 B1 c1", "a' B c"},
	} {
		var q queue
		frames, names := make(map[string]int), make(map[*outgoing]string)
		for _, s := range strings.Fields(c.push) {
			m := &outgoing{kind: kindRequest}
			if s[0] == 'r' {
				m.kind, s = kindReply, s[1:]
			}
			m.urgent = s[0] < 'a'
			frames[s[:1]] = int(s[1] - '0')
			m.single = s[1] == '1'
			names[m] = s[:1]
			q.push(m)
		}
		if got := play(&q, frames, names); got != c.want {
			t.Errorf("%s: %s, want %s", c.push, got, c.want)
		}
		if q.begun != 0 || q.pulled != 0 {
			t.Errorf("%s: begun %d, pulled %d", c.push, q.begun, q.pulled)
		}
	}
}

// TestQueueBeginsFew: a peer has to remember every message that has begun.
func TestQueueBeginsFew(t *testing.T) {
	var q queue
	for range 2 * maxBegun {
		q.push(&outgoing{kind: kindReply})
	}
	q.push(&outgoing{kind: kindReply, single: true, urgent: true})
	begun := make(map[*outgoing]bool)
	for range 5 * maxBegun {
		m, _ := q.pop()
		begun[m] = true
		if !m.single {
			q.back(m)
		}
	}
	if len(begun) != maxBegun+1 {
		t.Errorf("%d messages have begun", len(begun))
	}
	if all := q.drain(); all == nil {
		t.Error("nothing is left")
	}
}
