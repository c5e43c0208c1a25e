package replicate_test

import (
	"encoding/binary"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/replicate"
)

// TestBrokenFrames: who breaks the rules of the framing is told which way it ends (blip.md §12.2), and nobody else is.
func TestBrokenFrames(t *testing.T) {
	bomb := strings.Repeat("\x00", 1<<20)
	for _, tt := range []struct {
		name string
		code int
		send func(r *rawPeer)
	}{
		{"empty message", 1002, func(r *rawPeer) { r.put(nil) }},
		{"one byte", 1002, func(r *rawPeer) { r.put([]byte{1}) }},
		{"no checksum", 1002, func(r *rawPeer) { r.put([]byte{1, 0, 0, 0}) }},
		{"unreadable number", 1002, func(r *rawPeer) { r.put([]byte(strings.Repeat("\xff", 20))) }},
		{"garbage", 1002, func(r *rawPeer) { r.put([]byte("\x00\x00garbage, and more of it")) }},
		{"wrong checksum", 1002, func(r *rawPeer) { r.crc++; r.request(0, "", "Profile", "PING") }},
		{"checksum goes wrong later", 1002, func(r *rawPeer) {
			r.request(0, "", "Profile", "PING")
			r.crc++
			r.request(0, "", "Profile", "PING")
		}},
		{"bad deflate data", 1002, func(r *rawPeer) { r.put([]byte("\x01\x08\xff\xff\xff\xff\xff\xff\xff")) }},
		{"number 0", 1002, func(r *rawPeer) { r.frame(0, 0, props("Profile", "PING")) }},
		{"number 2 first", 1002, func(r *rawPeer) { r.frame(2, 0, props("Profile", "PING")) }},
		{"the same number again", 1002, func(r *rawPeer) {
			r.request(0, "", "Profile", "PING")
			r.frame(1, 0, props("Profile", "PING"))
		}},
		{"reply to nothing", 1002, func(r *rawPeer) { r.frame(7, isReply, "\x00") }},
		{"endless properties", 1009, func(r *rawPeer) { r.frame(1, isMore, string(binary.AppendUvarint(nil, 1<<40))) }},
		{"properties that go on", 1009, func(r *rawPeer) {
			r.frame(1, isMore, string(binary.AppendUvarint(nil, 102401))+"Profile\x00")
		}},
		{"compression bomb", 1009, func(r *rawPeer) {
			r.frame(1, isMore|isCompressed, props("Profile", "rev")+bomb)
			for range strictMessage>>20 + 4 {
				r.frame(1, isMore|isCompressed, bomb)
			}
		}},
		{"a message too long", 1009, func(r *rawPeer) {
			r.frame(1, isMore, props("Profile", "rev"))
			for range strictMessage>>20 + 4 {
				r.frame(1, isMore, bomb)
			}
		}},
		{"messages never finished", 1009, func(r *rawPeer) {
			for range 2000 {
				r.request(isMore, "", "Profile", "rev")
			}
		}},
		{"long messages never finished", 1009, func(r *rawPeer) {
			for range 200 {
				r.request(isMore|isCompressed, bomb, "Profile", "rev")
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			hostile(t, database.Options{}, func(t *testing.T, e *env) {
				bounded(t, 8<<20, func() {
					r := e.raw(replicate.Peer{User: "eve"})
					tt.send(r)
					if code := r.ended(); code != tt.code {
						t.Errorf("ended with %d, want %d", code, tt.code)
					}
				})
			})
		})
	}
}

// TestOddFrames: what is strange, and no reason to end anything.
func TestOddFrames(t *testing.T) {
	for name, send := range map[string]func(r *rawPeer){
		"undefined types":      func(r *rawPeer) { r.frame(9, 3, "x"); r.frame(9, 6, "y"); r.frame(9, 7, "z") },
		"unknown flags":        func(r *rawPeer) { r.put([]byte{9, 0x84, 1, 0}) },
		"ACKs of nothing":      func(r *rawPeer) { r.put([]byte{9, 0x34, 5}); r.put([]byte{9, 0x35}); r.put([]byte{0, 0x34, 0xff}) },
		"properties cut short": func(r *rawPeer) { r.last++; r.frame(1, 0, "\x10Profile\x00") },
		"odd properties":       func(r *rawPeer) { r.request(0, "", "Profile") },
		"properties twice":     func(r *rawPeer) { r.request(0, "", "Profile", "PING", "Profile", "PING") },
		"an empty message":     func(r *rawPeer) { r.last++; r.frame(1, 0, "") },
		"no profile":           func(r *rawPeer) { r.request(0, "body") },
		"nobody asked":         func(r *rawPeer) { r.request(isNoReply, "body", "Profile", "what") },
	} {
		t.Run(name, func(t *testing.T) {
			hostile(t, database.Options{}, func(t *testing.T, e *env) {
				r := e.raw(replicate.Peer{User: "eve"})
				send(r)
				synctest.Wait()
				r.frames()
				r.request(0, "", "Profile", "PING")
				synctest.Wait()
				if f := r.frames(); len(f) != 1 || f[0].number != r.last || f[0].kind != isReply {
					t.Errorf("a ping after it: %v", f)
				}
			})
		})
	}
}

// TestAnswersOfAllKinds: whatever a peer answers to changes is no reason to send what it did not ask for.
func TestAnswersOfAllKinds(t *testing.T) {
	for answer, want := range map[string]string{
		`[[],[]]`: "a b", `[[]]`: "a", `[0,[]]`: "b", `[null,["1-aa"]]`: "b", `[[],[],[],[],[],[7]]`: "a b", `[]`: "", `null`: "", ``: "",
		`[409,"x"]`: "", `{}`: "", `nonsense`: "", `7`: "", `[[1,2,{}],[[[]]]]`: "a b", `[[[[[[]]]]]]`: "",
		`[` + strings.Repeat(`[],`, 1_000_000) + `0]`: "",
	} {
		hostile(t, database.Options{}, func(t *testing.T, e *env) {
			e.put("a", `{"channels":["A"]}`)
			e.put("b", `{"channels":["A"]}`)
			c := e.as("eve")
			c.must("subChanges", "", "continuous", "true")
			c.expect("changes").answer(answer, "maxHistory", "nonsense", "deltas", "perhaps")
			synctest.Wait()
			var got []string
			for len(c.in) > 0 {
				if a := c.next(); a.profile == "rev" {
					got = append(got, a.props["id"])
				} else {
					a.r.Release()
				}
			}
			if strings.Join(got, " ") != want {
				t.Errorf("%.40s brings %v, want %s", answer, got, want)
			}
			e.put("c", `{"channels":["A"]}`)
			if a := c.expect("changes"); !strings.Contains(a.body, `"c"`) {
				t.Errorf("%.40s: then %s", answer, a.body)
			}
		})
	}
}

// TestSecondAnswer: the first counts.
func TestSecondAnswer(t *testing.T) {
	hostile(t, database.Options{}, func(t *testing.T, e *env) {
		e.put("a", `{"channels":["A"]}`)
		r := e.raw(replicate.Peer{User: "eve"})
		r.request(0, "", "Profile", "subChanges", "continuous", "true")
		synctest.Wait()
		r.frames()
		for range 3 {
			r.frame(1, isReply, "\x00[[]]")
		}
		synctest.Wait()
		n := 0
		for _, f := range r.frames() {
			if f.kind == 0 {
				n++
			}
		}
		if n != 1 { // the revision
			t.Errorf("%d requests came", n)
		}
	})
}
