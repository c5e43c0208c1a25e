package console

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
)

// channelPages are the channels of a collection, and one of them.
func (c *Console) channelPages() page {
	return page{
		routes: []route{
			{pattern: "GET /db/{db}/channels", nav: "Channels", handler: c.showChannels},
			{pattern: "GET /db/{db}/channel", nav: "Channels", handler: c.showChannel},
		},
		nav: []navEntry{{label: "Channels", icon: "channel", href: "/db/{db}/channels", section: navDatabase, order: 30}},
	}
}

// The lengths of lists.
const (
	channelsPerPage     = 100
	channelDocsPerPage  = 50
	maxChannelHolders   = 200 // users and roles that are looked at for who has a channel
	channelHoldersShown = 50
)

type channelsView struct {
	Keyspace    keyspace
	Collections []string
	Prefix      string
	Names       []string
	Pager       pager
}

func (c *Console) showChannels(rq *request) error {
	v := channelsView{Keyspace: keyspaceOf(rq), Prefix: rq.FormValue("prefix")}
	var list struct {
		Channels []string
		More     bool
	}
	query := queryOf("prefix", v.Prefix, "after", rq.FormValue("after"), "limit", strconv.Itoa(channelsPerPage))
	if err := rq.api.get(rq.Context(), pathOf(v.Keyspace.segment(), "_channels"), query, &list); err != nil {
		return err
	}
	v.Names = list.Channels
	same := func(after string) string {
		return address(queryOf("ks", v.Keyspace.param(), "prefix", v.Prefix, "after", after), "db", rq.db, "channels")
	}
	if list.More {
		v.Pager.Next = same(v.Names[len(v.Names)-1])
	}
	if rq.FormValue("after") != "" {
		v.Pager.First = same("")
	}
	if rq.partial() {
		return rq.part("channels", "rows", v)
	}
	var err error
	if v.Collections, err = collections(rq.Context(), rq.api, rq.db); err != nil {
		return err
	}
	return rq.render("channels", "Channels", v)
}

type channelView struct {
	Keyspace keyspace
	Name     string
	Rows     []documentRow
	Pager    pager
	Holders  []holder
	Looked   int  // how many users and roles were looked at
	All      bool // that are all there are
}

// holder is a user or a role who has a channel.
type holder struct {
	Name, Href string
	Role       bool
}

func (c *Console) showChannel(rq *request) error {
	v := channelView{Keyspace: keyspaceOf(rq), Name: rq.FormValue("name")}
	query := url.Values{
		"filter": {"sync_gateway/bychannel"}, "channels": {v.Name}, "active_only": {"true"}, "limit": {strconv.Itoa(channelDocsPerPage)},
	}
	since := rq.FormValue("since")
	if since != "" {
		query.Set("since", since)
	}
	var feed struct {
		Results []struct {
			ID      string
			Deleted bool
			Changes []struct{ Rev string }
			Removed []string
		}
		LastSeq string `json:"last_seq"`
	}
	if err := rq.api.get(rq.Context(), pathOf(v.Keyspace.segment(), "_changes"), query, &feed); err != nil {
		return err
	}
	for _, r := range feed.Results {
		if len(r.Changes) == 0 || len(r.Removed) > 0 {
			continue // a user's own entry, or a document that left
		}
		v.Rows = append(v.Rows, documentRow{ID: r.ID, Rev: r.Changes[0].Rev, Deleted: r.Deleted, Href: v.Keyspace.Doc(r.ID)})
	}
	same := func(since string) string {
		return address(queryOf("ks", v.Keyspace.param(), "name", v.Name, "since", since), "db", rq.db, "channel")
	}
	if len(feed.Results) == channelDocsPerPage {
		v.Pager.Next = same(feed.LastSeq)
	}
	if since != "" {
		v.Pager.First = same("")
	}
	if err := v.findHolders(rq.Context(), rq); err != nil {
		return err
	}
	return rq.render("channel", "Channel "+v.Name, v)
}

// findHolders looks at users and roles, the first ones by name, for who has the channel.
func (v *channelView) findHolders(ctx context.Context, rq *request) error {
	v.All = true
	for _, kind := range []string{"_user", "_role"} {
		names, err := rq.principals(ctx, kind)
		if err != nil {
			return err
		}
		for i, name := range names {
			if i == maxChannelHolders || len(v.Holders) == channelHoldersShown {
				v.All = false
				break
			}
			p, err := rq.principal(ctx, kind, name)
			if statusOf(err) == http.StatusNotFound {
				continue // deleted a moment ago
			}
			if err != nil {
				return err
			}
			v.Looked++
			if has := p.channels(v.Keyspace); slices.Contains(has, v.Name) || slices.Contains(has, "*") {
				v.Holders = append(v.Holders, holder{name, principalAddress(rq.db, kind, name), kind == "_role"})
			}
		}
	}
	return nil
}
