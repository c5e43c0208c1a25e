package replicate_test

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// oracle is a naive account of a database, by which every message to a client is judged (I7) and every replica is
// compared at rest (I6, I8, I9). It works by marks: each revision's body has one of its own (and each attachment), so that
// whatever form content travels in, the mark says whose it is.
type oracle struct {
	grants  map[string]map[string]bool // user, then channel: given by an administrator
	byDoc   map[string]map[string]bool // given by documents
	docs    map[string]*oracleDoc
	marks   map[string][]string // channels of the revision that a mark belongs to
	ever    map[string]bool     // "user doc": the user could see the document at some time
	allowed map[string]bool     // "user mark": he could since the last time that all was quiet
	faults  []string
}

// oracleDoc is a document's current revision.
type oracleDoc struct {
	mark     string
	channels []string
	deleted  bool
}

func newOracle(users ...string) *oracle {
	o := &oracle{
		grants: map[string]map[string]bool{}, byDoc: map[string]map[string]bool{}, docs: map[string]*oracleDoc{},
		marks: map[string][]string{}, ever: map[string]bool{}, allowed: map[string]bool{},
	}
	for _, u := range users {
		o.grants[u], o.byDoc[u] = map[string]bool{}, map[string]bool{}
	}
	return o
}

// sees reports whether a user may read what is in these channels.
func (o *oracle) sees(user string, channels []string) bool {
	for _, c := range channels {
		if o.grants[user][c] || o.byDoc[user][c] {
			return true
		}
	}
	return false
}

// wrote takes note of a revision.
func (o *oracle) wrote(id string, d oracleDoc) {
	o.docs[id] = &d
	o.marks[d.mark] = d.channels
	o.moved()
}

// moved takes note of who may see what, after any change.
func (o *oracle) moved() {
	for user := range o.grants {
		for mark, channels := range o.marks {
			if o.sees(user, channels) {
				o.allowed[user+" "+mark] = true
			}
		}
		for id, d := range o.docs {
			if o.sees(user, d.channels) {
				o.ever[user+" "+id] = true
			}
		}
	}
}

// quiet forgets what was allowed before: nothing is under way.
func (o *oracle) quiet() {
	clear(o.allowed)
	o.moved()
}

var (
	markForm  = regexp.MustCompile(`mark-[0-9]+-`)
	docIDForm = regexp.MustCompile(`\bdoc-[a-z]\b`)
)

// judge looks at everything that a user was sent, whatever kind of message it is.
func (o *oracle) judge(user, what, text string) {
	for _, mark := range markForm.FindAllString(text, -1) {
		if !o.allowed[user+" "+mark] {
			o.fault("%s got %s in %s %.200s: it is in %v", user, mark, what, text, o.marks[mark])
		}
	}
	for _, id := range docIDForm.FindAllString(text, -1) {
		if !o.ever[user+" "+id] {
			o.fault("%s was told of %s in %s %.200s", user, id, what, text)
		}
	}
}

func (o *oracle) fault(format string, args ...any) {
	o.faults = append(o.faults, fmt.Sprintf(format, args...))
}

// atRest compares a replica (documents and the marks of what it has) with what its user may see. exact: the client was
// told of what went out of its sight, so it has nothing more.
func (o *oracle) atRest(who, user string, exact bool, replica map[string]string) {
	for _, id := range slices.Sorted(maps.Keys(o.docs)) {
		d := o.docs[id]
		have, has := replica[id]
		switch sees := o.sees(user, d.channels); {
		case sees && !d.deleted && have != d.mark:
			o.fault("%s has %q of %s, which is at %s", who, have, id, d.mark)
		case d.deleted && has && exact:
			o.fault("%s still has %s of %s, which is deleted", who, have, id)
		case !sees && has && exact:
			o.fault("%s still has %s of %s, which is in %v", who, have, id, d.channels)
		}
	}
	for id := range replica {
		if o.docs[id] == nil {
			o.fault("%s has %s, which never was", who, id)
		}
	}
}

// markOf is the mark in a body; "" if there is none.
func markOf(body string) string {
	marks := markForm.FindAllString(strings.ReplaceAll(body, "att-mark", ""), 1)
	if len(marks) == 0 {
		return ""
	}
	return marks[0]
}
