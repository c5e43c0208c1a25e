package rest

import (
	"fmt"
	"html"
	"net/http"
	"strconv"
	"strings"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/database"
)

// handleRevTree answers GET {ks}/_revtree/{docid} with the revision tree for Graphviz (gateway-rest.md §17).
func (s *Server) handleRevTree(w http.ResponseWriter, r *request) error {
	id, err := r.docID()
	if err != nil {
		return err
	}
	raw, err := r.handle.Raw(r.Context(), id)
	if err != nil {
		return err
	}
	var b strings.Builder
	b.WriteString("digraph revisions {\n")
	for i := range raw.Tree.Len() {
		rev := raw.Tree.At(i)
		var style []string
		if raw.Tree.IsLeaf(i) {
			style = append(style, "shape=box")
		}
		if rev.Deleted() {
			style = append(style, "style=dotted")
		}
		if rev.ID == raw.Rev {
			style = append(style, "penwidth=2")
		}
		fmt.Fprintf(&b, "  %q [%s];\n", rev.ID.String(), strings.Join(style, ", "))
		if rev.Parent >= 0 {
			fmt.Fprintf(&b, "  %q -> %q;\n", raw.Tree.At(rev.Parent).ID.String(), rev.ID.String())
		}
	}
	b.WriteString("}\n")
	return replyText(w, http.StatusOK, "text/vnd.graphviz; charset=utf-8", b.String())
}

var errNoChannel = tidegate.Errorf(tidegate.NotFound, "no such channel")

// handleDumpChannel answers GET {ks}/_dumpchannel/{channel} with an HTML table (gateway-rest.md §17).
func (s *Server) handleDumpChannel(w http.ResponseWriter, r *request) error {
	channel, err := r.pathVar("channel")
	if err != nil {
		return err
	}
	if !tidegate.ValidChannelName(channel) {
		return tidegate.Errorf(tidegate.Invalid, "Illegal channel name %q", channel)
	}
	var o database.ChangesOptions
	o.Channels = []string{channel}
	if o.Since, err = tidegate.ParseSince(r.q.jsonText("since")); err != nil {
		return err
	}
	feed, err := r.handle.Changes(r.Context(), o)
	if err != nil {
		return err
	}
	defer feed.Close()
	entries, err := feed.Next(r.Context(), s.limits.FeedBatch)
	if err != nil {
		return err
	}
	if len(entries) == 0 {
		return errNoChannel
	}
	title := html.EscapeString("Channel " + channel)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'")
	out := s.newOutput(w, http.StatusOK)
	defer out.close()
	out.b = append(out.b, "<!DOCTYPE html><html><head><title>"+title+"</title></head><body><h1>"+title+
		"</h1>\n<table border=1>\n<tr><th>Seq</th><th>Doc</th><th>Rev</th><th>Flags</th></tr>\n"...)
	for len(entries) > 0 {
		for i := range entries {
			out.b = appendChannelRow(out.b, &entries[i])
			if err := out.spill(); err != nil {
				return err
			}
		}
		if entries, err = feed.Next(r.Context(), s.limits.FeedBatch); err != nil {
			return err
		}
	}
	out.b = append(out.b, "</table></body></html>\n"...)
	return out.finish()
}

func appendChannelRow(b []byte, c *tidegate.Change) []byte {
	var flags []string
	if c.Deleted {
		flags = append(flags, "deleted")
	}
	if len(c.Removed) > 0 {
		flags = append(flags, "removed")
	}
	rev := ""
	if len(c.Revs) > 0 {
		rev = c.Revs[0].String()
	}
	b = strconv.AppendUint(append(b, "<tr><td>"...), uint64(c.Seq.Seq), 10)
	for _, cell := range []string{c.ID, rev, strings.Join(flags, " ")} {
		b = append(append(b, "</td><td>"...), html.EscapeString(cell)...)
	}
	return append(b, "</td></tr>\n"...)
}

var errRepair = tidegate.Errorf(tidegate.Invalid, "_repair endpoint disabled")

// handleRepair answers POST {db}/_repair, which the product has switched off.
func (s *Server) handleRepair(http.ResponseWriter, *request) error {
	return statusError(http.StatusInternalServerError, errRepair.Reason)
}

// handleVacuum answers POST {db}/_vacuum of version 2.8: there is nothing to be vacuumed.
func (s *Server) handleVacuum(w http.ResponseWriter, _ *request) error {
	return s.writeJSON(w, http.StatusOK, []byte(`{"atts":0}`))
}
