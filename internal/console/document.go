package console

import (
	"encoding/json"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// documentPages are a document: looking at it, its history and attachments, changing and deleting it.
func (c *Console) documentPages() page {
	return page{routes: []route{
		{pattern: "GET /db/{db}/document", nav: "Documents", handler: c.showDocument},
		{pattern: "GET /db/{db}/document/attachment", nav: "Documents", handler: c.downloadAttachment},
		{pattern: "GET /db/{db}/document/new", nav: "Documents", handler: c.newDocument},
		{pattern: "POST /db/{db}/document/new", nav: "Documents", handler: c.createDocument},
		{pattern: "GET /db/{db}/document/edit", nav: "Documents", handler: c.editDocument},
		{pattern: "POST /db/{db}/document/edit", nav: "Documents", handler: c.saveDocument},
		{pattern: "POST /db/{db}/document/delete", nav: "Documents", handler: c.deleteDocument},
	}}
}

type documentView struct {
	Keyspace    keyspace
	ID          string
	Rev         string // that is shown
	Current     string
	Deleted     bool // the document is
	Body        string
	NoBody      string // why there is none
	Sequence    uint64
	Saved       string
	Tree        treeDrawing
	Branches    []string // live leaves other than the current one
	Channels    []period
	Past        []period
	Attachments []attachmentRow
	Grants      []grantRow
	Users       string // address of "why", without the user
}

type attachmentRow struct {
	Name, Href string
	attachment
}

// grantRow is what a document gives to a user or role.
type grantRow struct {
	Who  string
	What []string
	Role bool // roles, not channels
}

// RevHref is the address of a revision of the document.
func (v documentView) RevHref(rev string) string {
	return address(queryOf("ks", v.Keyspace.param(), "id", v.ID, "rev", rev), "db", v.Keyspace.DB, "document")
}

// Edit is the address of the editor.
func (v documentView) Edit() string {
	return address(queryOf("ks", v.Keyspace.param(), "id", v.ID), "db", v.Keyspace.DB, "document", "edit")
}

// Why is the address of the page that explains who sees the document.
func (v documentView) Why() string {
	return address(queryOf("ks", v.Keyspace.param(), "doc", v.ID), "db", v.Keyspace.DB, "why")
}

func (c *Console) showDocument(rq *request) error {
	v := documentView{Keyspace: keyspaceOf(rq), ID: rq.FormValue("id"), Rev: rq.FormValue("rev")}
	var raw rawDocument
	if err := rq.api.get(rq.Context(), pathOf(v.Keyspace.segment(), "_raw", v.ID), nil, &raw); err != nil {
		return err
	}
	v.fill(&raw)
	if err := v.loadBody(rq); err != nil {
		return err
	}
	return rq.render("document", v.ID, v)
}

// fill takes over what is kept beside the body.
func (v *documentView) fill(raw *rawDocument) {
	sync := &raw.Sync
	v.Current, v.Sequence, v.Saved = sync.Rev, sync.Sequence, sync.Saved
	if v.Rev == "" {
		v.Rev = v.Current
	}
	v.Deleted = sync.Flags&1 != 0
	v.Tree = sync.History.draw(sync.Rev)
	for _, n := range v.Tree.Nodes {
		if n.Leaf && !n.Deleted && !n.Current {
			v.Branches = append(v.Branches, n.Rev)
		}
	}
	for _, p := range sync.Set {
		if p.End == 0 {
			v.Channels = append(v.Channels, p)
		} else {
			v.Past = append(v.Past, p)
		}
	}
	v.Past = append(v.Past, sync.Past...)
	for name, a := range sync.Attachments {
		href := address(queryOf("ks", v.Keyspace.param(), "id", v.ID, "name", name), "db", v.Keyspace.DB, "document", "attachment")
		v.Attachments = append(v.Attachments, attachmentRow{name, href, a})
	}
	slices.SortFunc(v.Attachments, func(a, b attachmentRow) int { return strings.Compare(a.Name, b.Name) })
	v.Grants = append(grantRows(sync.Access, false), grantRows(sync.RoleAccess, true)...)
}

func grantRows(given map[string]map[string]uint64, role bool) []grantRow {
	var rows []grantRow
	for _, who := range slices.Sorted(maps.Keys(given)) {
		rows = append(rows, grantRow{who, slices.Sorted(maps.Keys(given[who])), role})
	}
	return rows
}

// loadBody reads the revision that is shown; old ones are not kept for ever.
func (v *documentView) loadBody(rq *request) error {
	var body json.RawMessage
	err := rq.api.get(rq.Context(), pathOf(v.Keyspace.segment(), v.ID), url.Values{"rev": {v.Rev}}, &body)
	if s := statusOf(err); s == http.StatusNotFound || s == http.StatusGone {
		v.NoBody = "The body of this revision is not kept any more: " + reasonOf(err) + "."
		return nil
	}
	if err != nil {
		return err
	}
	v.Body = pretty(body)
	return nil
}

// downloadAttachment answers with an attachment as a file to keep, whatever it claims to be: nothing that a device
// uploaded is shown by the console.
func (c *Console) downloadAttachment(rq *request) error {
	ks, id, name := keyspaceOf(rq), rq.FormValue("id"), rq.FormValue("name")
	h := rq.w.Header()
	h.Set("Content-Security-Policy", "default-src 'none'; sandbox")
	d := &download{ResponseWriter: rq.w, name: name, header: make(http.Header)}
	err := rq.api.do(rq.Context(), d, http.MethodGet, pathOf(ks.segment(), id)+"/"+url.PathEscape(name), nil, nil, nil)
	if err != nil {
		return err
	}
	if d.status != http.StatusOK {
		return readError(&answer{Status: d.status, Body: d.problem})
	}
	return nil
}

// download passes an attachment on as a file. What the API says in the header is not: its type above all.
type download struct {
	http.ResponseWriter
	name    string
	header  http.Header
	status  int
	problem []byte // the beginning of an answer that is no success
}

// Header implements http.ResponseWriter; the header goes nowhere.
func (d *download) Header() http.Header { return d.header }

// WriteHeader implements http.ResponseWriter.
func (d *download) WriteHeader(status int) {
	if d.status != 0 {
		return
	}
	if d.status = status; status != http.StatusOK {
		return
	}
	h := d.ResponseWriter.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": d.name}))
	if n := d.header.Get("Content-Length"); n != "" {
		h.Set("Content-Length", n)
	}
	d.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (d *download) Write(b []byte) (int, error) {
	d.WriteHeader(http.StatusOK)
	if d.status != http.StatusOK {
		d.problem = append(d.problem, b[:min(len(b), 1<<10)]...)
		return len(b), nil
	}
	return d.ResponseWriter.Write(b)
}

// editView is the editor of a document, new or not.
type editView struct {
	Keyspace keyspace
	ID       string
	New      bool
	Rev      string // that the text is a change of
	Text     string
	Problems []placedProblem
	Problem  string
	// Theirs is what somebody else made of it meanwhile, as revision TheirRev.
	Theirs, TheirRev string
}

// Back is where the editor leads when nothing is saved.
func (v editView) Back() string {
	if v.New {
		return v.Keyspace.Documents()
	}
	return v.Keyspace.Doc(v.ID)
}

func (rq *request) renderEditor(status int, v editView) error {
	title := "New document"
	if !v.New {
		title = "Edit " + v.ID
	}
	return rq.renderStatus(status, "edit", title, v)
}

func (c *Console) newDocument(rq *request) error {
	return rq.renderEditor(http.StatusOK, editView{Keyspace: keyspaceOf(rq), New: true, Text: "{\n  \n}"})
}

func (c *Console) createDocument(rq *request) error {
	v := editView{Keyspace: keyspaceOf(rq), New: true, ID: strings.TrimSpace(rq.PostFormValue("newid")), Text: formText(rq, "doc")}
	if p := jsonProblem(v.Text); p != nil {
		v.Problems = []placedProblem{*p}
		return rq.renderEditor(http.StatusUnprocessableEntity, v)
	}
	method, target := http.MethodPost, pathOf(v.Keyspace.segment())+"/"
	if v.ID != "" {
		method, target = http.MethodPut, pathOf(v.Keyspace.segment(), v.ID)
	}
	var made struct{ ID string }
	err := rq.api.send(rq.Context(), method, target, nil, []byte(v.Text), &made)
	switch statusOf(err) {
	case 0:
		if err != nil {
			return err
		}
		return rq.redirect(strings.TrimPrefix(v.Keyspace.Doc(made.ID), Base), "The document was created.")
	case http.StatusUnauthorized:
		return err
	case http.StatusConflict:
		v.Problem = "There is a document " + v.ID + " already. Open it to change it."
	default:
		v.Problem = reasonOf(err)
	}
	return rq.renderEditor(http.StatusUnprocessableEntity, v)
}

func (c *Console) editDocument(rq *request) error {
	v := editView{Keyspace: keyspaceOf(rq), ID: rq.FormValue("id")}
	var err error
	if v.Text, v.Rev, err = rq.editable(v.Keyspace, v.ID); err != nil {
		return err
	}
	return rq.renderEditor(http.StatusOK, v)
}

// editable returns a document without what is not edited in its text, and its revision.
func (rq *request) editable(ks keyspace, id string) (text, rev string, err error) {
	var body json.RawMessage
	if err := rq.api.get(rq.Context(), pathOf(ks.segment(), id), nil, &body); err != nil {
		return "", "", err
	}
	members, err := membersOf(body)
	if err != nil {
		return "", "", err
	}
	for _, m := range members {
		if m.name == "_rev" {
			if err := json.Unmarshal(m.value, &rev); err != nil {
				return "", "", err
			}
		}
	}
	return pretty(joinMembers(without(members, "_id", "_rev", "_cv"))), rev, nil
}

func (c *Console) saveDocument(rq *request) error {
	v := editView{Keyspace: keyspaceOf(rq), ID: rq.FormValue("id"), Rev: rq.PostFormValue("rev"), Text: formText(rq, "doc")}
	if onto := rq.PostFormValue("onto"); onto != "" { // the other's revision was shown
		v.Rev = onto
	}
	if p := jsonProblem(v.Text); p != nil {
		v.Problems = []placedProblem{*p}
		return rq.renderEditor(http.StatusUnprocessableEntity, v)
	}
	err := rq.api.send(rq.Context(), http.MethodPut, pathOf(v.Keyspace.segment(), v.ID), queryOf("rev", v.Rev), []byte(v.Text), nil)
	switch statusOf(err) {
	case 0:
		if err != nil {
			return err
		}
		return rq.redirect(strings.TrimPrefix(v.Keyspace.Doc(v.ID), Base), "The document was saved.")
	case http.StatusUnauthorized:
		return err
	case http.StatusConflict:
		v.Theirs, v.TheirRev, err = rq.editable(v.Keyspace, v.ID)
		if err != nil {
			v.Problem = "The document was deleted meanwhile. Saving makes a new one of the same name."
			v.Rev = ""
		}
	default:
		v.Problem = reasonOf(err)
	}
	return rq.renderEditor(http.StatusUnprocessableEntity, v)
}

func (c *Console) deleteDocument(rq *request) error {
	ks, id := keyspaceOf(rq), rq.FormValue("id")
	err := rq.api.send(rq.Context(), http.MethodDelete, pathOf(ks.segment(), id), queryOf("rev", rq.PostFormValue("rev")), nil, nil)
	if statusOf(err) == http.StatusConflict {
		rq.session.addFlash("error", "The document changed meanwhile, so it was not deleted. This is how it looks now.")
		return rq.redirect(strings.TrimPrefix(ks.Doc(id), Base), "")
	}
	if err != nil {
		return err
	}
	if rq.PostFormValue("branch") != "" {
		return rq.redirect(strings.TrimPrefix(ks.Doc(id), Base), "The branch was closed.")
	}
	return rq.redirect(strings.TrimPrefix(ks.Documents(), Base), "The document "+id+" was deleted.")
}

// formText returns a text as it was typed: browsers send lines as CRLF.
func formText(rq *request, name string) string {
	return strings.ReplaceAll(rq.PostFormValue(name), "\r\n", "\n")
}
