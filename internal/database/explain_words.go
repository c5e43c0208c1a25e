package database

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/access"
)

// The bounds of what is put into words.
const (
	maxSentences    = 20
	maxNamesInWords = 5 // of channels in one sentence
)

// sentences puts the explanation into words, the verdict first.
func (e *Explanation) sentences() []string {
	all := e.verdictInWords()
	if e.Principal.Exists && !e.Principal.Disabled && e.Document.Exists {
		all = append(all, e.branchesInWords()...)
		all = append(all, e.lossesInWords()...)
	}
	if n := len(all); n > maxSentences {
		all = append(all[:maxSentences-1], fmt.Sprintf("There are %d more things to say; all facts are in the JSON.", n-maxSentences+1))
	}
	return all
}

func (e *Explanation) verdictInWords() []string {
	who, doc := e.who(), inWords(e.Doc)
	switch e.Verdict {
	case VisibilityNoUser:
		return []string{fmt.Sprintf("There is no user %s.", who)}
	case VisibilityDisabled:
		if e.isGuest() {
			return []string{"The guest is disabled: who does not log in can read nothing."}
		}
		return []string{fmt.Sprintf("%s is disabled and can read nothing.", who)}
	case VisibilityNoDocument:
		return []string{fmt.Sprintf("There is no document %s in %s.", doc, e.Collection)}
	case VisibilityFull:
		return e.reasons(fmt.Sprintf("%s sees %s because ", who, doc), e.Document.Leaves[0].Channels)
	case VisibilityDeleted:
		return e.deletionInWords()
	}
	not := fmt.Sprintf("%s does not see %s: %s.", who, doc, e.whyNot())
	return append([]string{not}, e.removalsInWords()...)
}

// reasons gives one sentence for each channel by which a revision is visible. begin is how the first one begins.
func (e *Explanation) reasons(begin string, channels []string) []string {
	var all []string
	const also = "It is also visible because "
	if all = e.appendReason(all, begin, tidegate.AllChannels, `of the channel "*" of all documents`); len(all) > 0 {
		begin = also
	}
	for _, name := range channels {
		if name == tidegate.AllChannels {
			continue
		}
		if all = e.appendReason(all, begin, name, "it is in channel "+inWords(name)); len(all) > 0 {
			begin = also
		}
	}
	return all
}

// appendReason appends why the user has a channel, if it has it.
func (e *Explanation) appendReason(all []string, begin, channel, what string) []string {
	c := e.reach(channel)
	if c == nil || !c.Held {
		return all
	}
	return append(all, begin+what+", which "+e.heldBy(c)+".")
}

// heldBy says by what the user has a channel: by the grant that counts, and how many others there are.
func (e *Explanation) heldBy(c *access.ChannelReach) string {
	if len(c.By) == 0 {
		return fmt.Sprintf("%s has since %d", e.who(), c.Since)
	}
	g := c.By[0]
	for _, other := range c.By[1:] {
		if other.Since < g.Since {
			g = other
		}
	}
	text := ""
	switch g.Kind {
	case access.GrantedToAll:
		text = "everybody has"
	case access.GrantedByRole:
		text = fmt.Sprintf("role %s has since %d%s, and %s has role %s since %d%s", inWords(g.Role), g.ChannelSince,
			e.firstBy(g.Through, g.MoreThroughDocuments), e.who(), inWords(g.Role), g.RoleSince, e.roleBy(g.Role))
	case access.GrantedByAdmin, access.GrantedByDocument:
		text = fmt.Sprintf("%s has since %d%s", e.who(), c.Since, e.grantInWords(g))
	}
	if others := len(c.By) - 1 + c.MoreDocuments + c.MoreRoles; others > 0 {
		text += fmt.Sprintf(" (and by %s)", counted(others, "more grant"))
	}
	return text
}

// firstBy says which of several grants counts.
func (e *Explanation) firstBy(grants []access.Grant, more int) string {
	if len(grants) == 0 {
		return ""
	}
	text := e.grantInWords(grants[0])
	if others := len(grants) - 1 + more; others > 0 {
		text += fmt.Sprintf(" (and by %s)", counted(others, "more grant"))
	}
	return text
}

func (e *Explanation) roleBy(role string) string {
	for _, r := range e.Principal.Roles {
		if r.Role == role {
			return e.firstBy(r.By, r.MoreDocuments)
		}
	}
	return ""
}

func (e *Explanation) grantInWords(g access.Grant) string {
	switch {
	case g.Kind == access.GrantedByAdmin:
		return ", given by an administrator"
	case g.Kind == access.GrantedByDocument && g.Collection != e.Collection:
		return fmt.Sprintf(", granted by document %s of %s", inWords(g.Document), g.Collection)
	case g.Kind == access.GrantedByDocument:
		return ", granted by document " + inWords(g.Document)
	}
	return ""
}

// whyNot says why the current revision is not visible.
func (e *Explanation) whyNot() string {
	channels := e.Document.Leaves[0].Channels
	switch {
	case len(channels) == 0 && e.Document.Deleted:
		return "it is deleted, and left no channel by that which " + e.who() + " has"
	case len(channels) == 0:
		return `it is in no channel, so only administrators and users with channel "*" see it`
	case len(channels) == 1 && channels[0] == tidegate.AllChannels:
		return `it is in channel "*", so only administrators and users with channel "*" see it`
	case len(channels) == 1:
		return fmt.Sprintf("it is in channel %s, which %s does not have", inWords(channels[0]), e.who())
	}
	return fmt.Sprintf("it is in channels %s, and %s has none of them", listed(channels, e.Document.Leaves[0].MoreChannels), e.who())
}

// deletionInWords says that the document is deleted and why the user is told.
func (e *Explanation) deletionInWords() []string {
	all := []string{fmt.Sprintf("%s is deleted, and %s may know that.", inWords(e.Doc), e.who())}
	all = append(all, e.reasons("The deletion is visible because ", e.Document.Leaves[0].Channels)...)
	return append(all, e.removalsInWords()...)
}

// removalsInWords says which channels of the user's the document has left, and whether the user's feed says so: it does not
// if the user got the channel later.
func (e *Explanation) removalsInWords() []string {
	var all []string
	for _, m := range e.Document.Channels {
		c := e.reach(m.Channel)
		if m.Member || c == nil || !c.Held {
			continue
		}
		how, told := "it left", "tells of that"
		if m.Deletion {
			how = "it was deleted out of"
		}
		end := m.Periods[len(m.Periods)-1].End
		if c.HeldSince > end {
			told = "does not tell of that, since it was before"
		}
		all = append(all, fmt.Sprintf("By revision %s at sequence %d %s channel %s, which %s: the feed of %s %s.",
			m.RemovedBy, end, how, inWords(m.Channel), e.heldBy(c), e.who(), told))
	}
	return all
}

// branchesInWords says which of the other branches the user may read.
func (e *Explanation) branchesInWords() []string {
	var all []string
	for _, leaf := range e.Document.Leaves[1:] {
		if leaf.Deleted {
			continue
		}
		can := "may not"
		if leaf.Visible {
			can = "may"
		}
		in := "no channel"
		if len(leaf.Channels) > 0 {
			in = "channels " + listed(leaf.Channels, leaf.MoreChannels)
		}
		all = append(all, fmt.Sprintf("%s has another branch, %s in %s, which %s %s read.", inWords(e.Doc), leaf.Rev, in, e.who(), can))
	}
	return all
}

// lossesInWords says what the user had of the document's channels and has no more, and which roles are missing.
func (e *Explanation) lossesInWords() []string {
	var all []string
	for _, c := range e.Channels {
		if !c.Held && len(c.History) > 0 {
			all = append(all, fmt.Sprintf("%s had channel %s %s.", e.who(), inWords(c.Channel), periods(c.History)))
		}
	}
	for _, r := range e.Principal.Roles {
		switch {
		case r.Held && !r.Exists:
			all = append(all, fmt.Sprintf("%s is given role %s, which does not exist.", e.who(), inWords(r.Role)))
		case !r.Held && len(r.History) > 0 && !e.Visible:
			all = append(all, fmt.Sprintf("%s had role %s %s.", e.who(), inWords(r.Role), periods(r.History)))
		}
	}
	return all
}

// reach finds a channel; nil if it was not asked for.
func (e *Explanation) reach(channel string) *access.ChannelReach {
	i := slices.IndexFunc(e.Channels, func(c access.ChannelReach) bool { return c.Channel == channel })
	if i < 0 {
		return nil
	}
	return &e.Channels[i]
}

func (e *Explanation) isGuest() bool { return e.User == tidegate.GuestName }

// who is the user's name in a sentence.
func (e *Explanation) who() string {
	if e.isGuest() {
		return "the guest"
	}
	return inWords(e.User)
}

// inWords returns a name as it is put into a sentence: in quotes unless it is plain. What comes from clients must not steer
// the terminal that it is printed on.
func inWords(name string) string {
	plain := name != "" && strings.IndexFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-_.:@/", r)
	}) < 0
	if plain {
		return name
	}
	return strconv.Quote(name)
}

// listed joins the first names; more are not among them.
func listed(names []string, more int) string {
	shown := make([]string, 0, maxNamesInWords)
	for _, name := range names[:min(len(names), maxNamesInWords)] {
		shown = append(shown, inWords(name))
	}
	text := strings.Join(shown, ", ")
	if more += len(names) - len(shown); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

func periods(spans []access.Span) string {
	texts := make([]string, 0, len(spans))
	for _, s := range spans {
		texts = append(texts, fmt.Sprintf("from %d to %d", s.Start, s.End))
	}
	return strings.Join(texts, " and ")
}

// counted is "1 grant", "2 grants".
func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}
