package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/access"
	"github.com/tidegate/tidegate/internal/database"
)

const whyHelp = `
Usage: tidegate why --db NAME --doc ID [--user NAME] [flags]

Tells why a user sees a document or does not: the channels that the document is in, by what the user has them (an
administrator's word, a role, a document that grants them) and since which sequence, and what the user had and lost.
Without --user it is about the guest.

  tidegate why --db notes --doc order-1 --user bob
  tidegate why --db notes --keyspace shop.orders --doc order-1 --user bob -o json

Ends with 0 if the user sees the document; 1 if not, for whatever reason, also if there is no such user or document; 2 if
that could not be found out, or the command line was not understood; 130 after Ctrl-C.

A password is best given in the environment: TIDEGATE_ADMIN_PASSWORD is that of --admin-user.
`

// The exit statuses of why (and 0).
const (
	exitNotVisible = 1
	exitUnknown    = 2
)

// whyOptions are what the command line of why asks for.
type whyOptions struct {
	keyspace  endpoint
	doc, user string
	json      bool
}

// whyCommand asks for an explanation and prints it.
func whyCommand(ctx context.Context, args []string, getenv env, std stdio) error {
	o, err := parseWhy(args, getenv, std)
	if err != nil {
		return ignoreHelp(err)
	}
	query := url.Values{"doc": {o.doc}}
	if o.user != "" {
		query.Set("user", o.user)
	}
	var answer json.RawMessage
	var e database.Explanation
	err = newDatabaseClient(o.keyspace).request(ctx, http.MethodGet, "/_explain?"+query.Encode(), nil, &answer)
	if err == nil {
		err = json.Unmarshal(answer, &e)
	}
	switch {
	case ctx.Err() != nil:
		return errInterrupted
	case err != nil:
		return &exitStatus{exitUnknown, fmt.Errorf("ask for an explanation: %w", err)}
	case o.json:
		_, err = fmt.Fprintf(std.out, "%s\n", answer)
	default:
		err = printExplanation(std.out, &e)
	}
	switch {
	case err != nil:
		return &exitStatus{exitUnknown, err}
	case !e.Visible:
		return &exitStatus{code: exitNotVisible}
	}
	return nil
}

// parseWhy reads the command line.
func parseWhy(args []string, getenv env, std stdio) (*whyOptions, error) {
	o := &whyOptions{}
	fs := newFlags("why", whyHelp, std)
	db := fs.String("db", "", "`name` of the database; required")
	fs.StringVar(&o.doc, "doc", "", "`ID` of the document; required")
	fs.StringVar(&o.user, "user", "", "`name` of the user; the guest if not given")
	keyspace := fs.String("keyspace", "", "the `collection`, as scope.collection; the default one if not given")
	adminURL := fs.String("admin", defaultAdmin, "`URL` of the gateway's admin API")
	adminUser := fs.String("admin-user", "", "`name` to log in with there; may be in the URL")
	adminPassword := fs.String("admin-password", "", "its password; "+adminPasswordVariable+" in the environment if not given")
	output := fs.String("o", "text", "what to print: `text` or json")
	if err := parseFlags(fs, args); err != nil {
		return nil, err
	}
	switch {
	case *db == "":
		return nil, usageErrorf("say which database with --db; try `tidegate why --help`")
	case o.doc == "":
		return nil, usageErrorf("say which document with --doc; try `tidegate why --help`")
	}
	var err error
	if o.json, err = parseOutput(*output); err != nil {
		return nil, err
	}
	if o.keyspace, err = parseKeyspaceAt(*adminURL, *db, *keyspace, *adminUser, *adminPassword); err != nil {
		return nil, err
	}
	o.keyspace.passwordFrom(getenv, adminPasswordVariable)
	return o, nil
}

// defaultAdmin is where an admin API is unless its config says otherwise.
const defaultAdmin = "http://127.0.0.1:4985"

// parseOutput reads the flag -o.
func parseOutput(text string) (asJSON bool, err error) {
	switch text {
	case "text":
		return false, nil
	case "json":
		return true, nil
	}
	return false, usageErrorf("-o must be text or json")
}

// parseKeyspaceAt makes the endpoint of a collection of an admin API; "" is the default one.
func parseKeyspaceAt(admin, db, keyspace, user, password string) (endpoint, error) {
	if keyspace != "" {
		if scope, coll, ok := strings.Cut(keyspace, "."); !ok || scope == "" || coll == "" || strings.Contains(coll, ".") {
			return endpoint{}, usageErrorf("--keyspace %q is not of the form scope.collection", keyspace)
		}
		db += "." + keyspace
	}
	return parseAdmin(admin, db, user, password)
}

// printExplanation prints the sentences, and below them the facts.
func printExplanation(out io.Writer, e *database.Explanation) error {
	fmt.Fprintf(out, "%s: %s for %s\n", shown(e.Doc), verdict(e.Verdict), shown(e.User))
	for _, s := range e.Sentences {
		fmt.Fprintf(out, "  %s\n", s)
	}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	if e.Document.Exists {
		printDocument(t, e)
	}
	if e.Principal.Exists {
		printReach(t, e)
	}
	fmt.Fprintf(t, "\nAs of sequence %d of %s.\n", e.Sequence, e.Collection)
	return t.Flush()
}

// verdict is a verdict in words.
func verdict(v database.Visibility) string {
	switch v {
	case database.VisibilityRemoved:
		return "visible only as a removal"
	case database.VisibilityDeleted:
		return "visible only as a deletion"
	}
	return strings.ReplaceAll(string(v), "_", " ")
}

func printDocument(t io.Writer, e *database.Explanation) {
	d := &e.Document
	fmt.Fprintf(t, "\nDocument %s at sequence %d\n", d.Rev, d.Sequence)
	if d.Conflict || d.Deleted {
		fmt.Fprintf(t, "  deleted\t%v\n  in conflict\t%v\n", d.Deleted, d.Conflict)
	}
	for _, m := range d.Channels {
		how := ""
		switch {
		case m.Member:
		case m.Deletion:
			how = ", deleted by " + m.RemovedBy
		default:
			how = ", removed by " + m.RemovedBy
		}
		fmt.Fprintf(t, "  in channel %s\t%s%s\n", shown(m.Channel), spans(m.Periods), how)
	}
	more(t, d.MoreChannels, "channels")
	if len(d.Leaves) > 1 {
		for _, leaf := range d.Leaves {
			fmt.Fprintf(t, "  branch %s\tdeleted: %v, visible: %v, channels: %s\n", leaf.Rev, leaf.Deleted, leaf.Visible, shownAll(leaf.Channels))
		}
	}
	more(t, d.MoreLeaves, "branches")
}

func printReach(t io.Writer, e *database.Explanation) {
	fmt.Fprintf(t, "\nWhat %s has of these channels\n", shown(e.User))
	for _, c := range e.Channels {
		if c.Channel == tidegate.AllChannels && !c.Held && len(c.By)+len(c.History) == 0 && len(e.Channels) > 1 {
			continue // the usual case
		}
		fmt.Fprintf(t, "  %s\t%s\n", shown(c.Channel), held(c.Held, c.Since, c.History))
		for _, g := range c.By {
			printGrant(t, g, e)
		}
		more(t, c.MoreDocuments, "documents that grant it")
		more(t, c.MoreRoles, "roles that have it")
	}
	more(t, e.MoreChannels, "channels")
	if len(e.Principal.Roles) == 0 {
		return
	}
	fmt.Fprintf(t, "\nRoles\n")
	for _, r := range e.Principal.Roles {
		exists := ""
		if !r.Exists {
			exists = " (there is no such role)"
		}
		fmt.Fprintf(t, "  %s\t%s%s\n", shown(r.Role), held(r.Held, r.Since, r.History), exists)
		for _, g := range r.By {
			printGrant(t, g, e)
		}
		more(t, r.MoreDocuments, "documents that grant it")
	}
	more(t, e.Principal.MoreRoles, "roles")
}

func printGrant(t io.Writer, g access.Grant, e *database.Explanation) {
	switch g.Kind {
	case access.GrantedByAdmin:
		fmt.Fprintf(t, "  \tby an administrator, since %d\n", g.Since)
	case access.GrantedToAll:
		fmt.Fprintf(t, "  \tpublic\n")
	case access.GrantedByDocument:
		in := ""
		if g.Collection != e.Collection {
			in = " of " + g.Collection
		}
		fmt.Fprintf(t, "  \tby document %s%s, since %d\n", shown(g.Document), in, g.Since)
	case access.GrantedByRole:
		fmt.Fprintf(t, "  \tby role %s, since %d: the user has the role since %d, the role the channel since %d\n", shown(g.Role), g.Since, g.RoleSince, g.ChannelSince)
	}
}

func held(now bool, since any, past []access.Span) string {
	text := "no"
	if now {
		text = fmt.Sprintf("since %v", since)
	}
	if len(past) > 0 {
		text += "; before, " + spans(past)
	}
	return text
}

func spans(list []access.Span) string {
	texts := make([]string, 0, len(list))
	for _, s := range list {
		if s.End == 0 {
			texts = append(texts, fmt.Sprintf("since %d", s.Start))
		} else {
			texts = append(texts, fmt.Sprintf("from %d to %d", s.Start, s.End))
		}
	}
	return strings.Join(texts, ", ")
}

func more(t io.Writer, n int, what string) {
	if n > 0 {
		fmt.Fprintf(t, "  and %d more %s\n", n, what)
	}
}

// shown is a name as it is printed: in quotes if something in it could steer a terminal or be taken for several words.
func shown(name string) string {
	quoted := strconv.Quote(name)
	if quoted == `"`+name+`"` && name != "" && !strings.ContainsAny(name, " ,") {
		return name
	}
	return quoted
}

func shownAll(names []string) string {
	texts := make([]string, 0, len(names))
	for _, n := range names {
		texts = append(texts, shown(n))
	}
	return strings.Join(texts, ", ")
}
