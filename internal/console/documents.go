package console

import (
	"net/url"
	"slices"
	"strconv"
	"unicode/utf8"
)

// documentsPages are the lists of documents; document.go has the pages of one.
func (c *Console) documentsPages() page {
	return page{
		routes: []route{{pattern: "GET /db/{db}/documents", nav: "Documents", handler: c.showDocuments}},
		nav:    []navEntry{{label: "Documents", icon: "document", href: "/db/{db}/documents", section: navDatabase, order: 20}},
	}
}

// documentsPerPage is how many documents a page of the list has.
const documentsPerPage = 50

type documentsView struct {
	Keyspace    keyspace
	Collections []string
	Prefix      string
	Deleted     bool
	Rows        []documentRow
	Pager       pager
	New         string // address
}

type documentRow struct {
	ID, Rev, Href string
	Deleted       bool
	Channels      []string
	MoreChannels  int
}

// maxRowChannels is how many channels a line of the list shows.
const maxRowChannels = 6

func (c *Console) showDocuments(rq *request) error {
	v := documentsView{Keyspace: keyspaceOf(rq), Prefix: rq.FormValue("prefix"), Deleted: rq.FormValue("deleted") != ""}
	v.New = address(queryOf("ks", v.Keyspace.param()), "db", rq.db, "document", "new")
	if err := v.load(rq); err != nil {
		return err
	}
	if rq.partial() {
		return rq.part("documents", "rows", v)
	}
	var err error
	if v.Collections, err = collections(rq.Context(), rq.api, rq.db); err != nil {
		return err
	}
	return rq.render("documents", "Documents", v)
}

// load reads one page of the list: the documents that begin with the prefix, from "from" on.
func (v *documentsView) load(rq *request) error {
	from := rq.FormValue("from")
	query := url.Values{"channels": {"true"}, "limit": {strconv.Itoa(documentsPerPage + 1)}}
	if start := max(v.Prefix, from); start != "" {
		query.Set("startkey", compact(start))
	}
	if v.Prefix != "" {
		query.Set("endkey", compact(v.Prefix+string(utf8.MaxRune)))
	}
	if v.Deleted {
		query.Set("deleted", "true")
	}
	var list struct {
		Rows []struct {
			ID    string
			Value struct {
				Rev      string
				Deleted  bool
				Channels []string
			}
		}
	}
	if err := rq.api.get(rq.Context(), pathOf(v.Keyspace.segment(), "_all_docs"), query, &list); err != nil {
		return err
	}
	same := func(from string) string {
		deleted := ""
		if v.Deleted {
			deleted = "1"
		}
		return address(queryOf("ks", v.Keyspace.param(), "prefix", v.Prefix, "deleted", deleted, "from", from), "db", rq.db, "documents")
	}
	for i, r := range list.Rows {
		if i == documentsPerPage {
			v.Pager.Next = same(r.ID)
			break
		}
		row := documentRow{ID: r.ID, Rev: r.Value.Rev, Deleted: r.Value.Deleted, Channels: r.Value.Channels, Href: v.Keyspace.Doc(r.ID)}
		slices.Sort(row.Channels)
		if over := len(row.Channels) - maxRowChannels; over > 0 {
			row.Channels, row.MoreChannels = row.Channels[:maxRowChannels], over
		}
		v.Rows = append(v.Rows, row)
	}
	if from != "" {
		v.Pager.First = same("")
	}
	return nil
}

// shortRev is a revision as people can read it: the generation and the beginning of the digest.
func shortRev(rev string) string {
	const most = 12
	if len(rev) <= most {
		return rev
	}
	return rev[:most] + "…"
}
