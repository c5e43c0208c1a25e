package console

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
)

// principal is a user or a role as the API shows it.
type principal struct {
	Name          string   `json:"name"`
	Email         string   `json:"email"`
	Disabled      bool     `json:"disabled"`
	AdminChannels []string `json:"admin_channels"`
	AllChannels   []string `json:"all_channels"`
	AdminRoles    []string `json:"admin_roles"`
	Roles         []string `json:"roles"`
	Created       string   `json:"created_at"`
	Updated       string   `json:"updated_at"`

	CollectionAccess map[string]map[string]collectionAccess `json:"collection_access"`
}

type collectionAccess struct {
	AdminChannels []string `json:"admin_channels"`
	AllChannels   []string `json:"all_channels"`
}

// channels are those that the principal has in a collection, wherever from.
func (p *principal) channels(ks keyspace) []string {
	scope, collection, _ := strings.Cut(ks.Name, ".")
	if a, ok := p.CollectionAccess[scope][collection]; ok {
		return a.AllChannels
	}
	if ks.Name == defaultKeyspace {
		return p.AllChannels
	}
	return nil
}

// adminChannels are those that administrators gave.
func (p *principal) adminChannels(ks keyspace) []string {
	scope, collection, _ := strings.Cut(ks.Name, ".")
	if a, ok := p.CollectionAccess[scope][collection]; ok {
		return a.AdminChannels
	}
	if ks.Name == defaultKeyspace {
		return p.AdminChannels
	}
	return nil
}

// principals returns the names of all users ("_user") or roles ("_role").
func (rq *request) principals(ctx context.Context, kind string) ([]string, error) {
	var names []string
	err := rq.api.get(ctx, pathOf(rq.db, kind)+"/", nil, &names)
	slices.Sort(names)
	return names, err
}

func (rq *request) principal(ctx context.Context, kind, name string) (*principal, error) {
	var p principal
	err := rq.api.get(ctx, pathOf(rq.db, kind, name), nil, &p)
	return &p, err
}

// principalAddress is the address of a user's or role's page.
func principalAddress(db, kind, name string) string {
	return address(queryOf("name", name), "db", db, strings.TrimPrefix(kind, "_"))
}

// usersPages and rolesPages are alike: lists, and a page for each with everything that can be changed.
func (c *Console) usersPages() page { return c.principalPages("_user", "Users", "users", 50) }

func (c *Console) rolesPages() page { return c.principalPages("_role", "Roles", "role", 60) }

func (c *Console) principalPages(kind, label, icon string, order int) page {
	one := strings.TrimPrefix(kind, "_")
	p := principalKind{c: c, kind: kind, label: label}
	return page{
		routes: []route{
			{pattern: "GET /db/{db}/" + one + "s", nav: label, handler: p.showList},
			{pattern: "GET /db/{db}/" + one, nav: label, handler: p.showOne},
			{pattern: "GET /db/{db}/" + one + "/new", nav: label, handler: p.showNew},
			{pattern: "POST /db/{db}/" + one, nav: label, handler: p.save},
			{pattern: "POST /db/{db}/" + one + "/delete", nav: label, handler: p.remove},
			{pattern: "POST /db/{db}/" + one + "/session", nav: label, handler: p.startSession},
			{pattern: "POST /db/{db}/" + one + "/end-sessions", nav: label, handler: p.endSessions},
		},
		nav: []navEntry{{label: label, icon: icon, href: "/db/{db}/" + one + "s", section: navDatabase, order: order}},
	}
}

// principalKind are the pages of users, or those of roles.
type principalKind struct {
	c           *Console
	kind, label string
}

func (k principalKind) user() bool { return k.kind == "_user" }

// noun is "user" or "role".
func (k principalKind) noun() string { return strings.TrimPrefix(k.kind, "_") }

// principalsPerPage is how many names a page of a list has.
const principalsPerPage = 100

type principalsView struct {
	User         bool
	Noun, Prefix string
	Rows         []principalRow
	Pager        pager
	Total        int64
}

type principalRow struct{ Name, Href string }

func (k principalKind) showList(rq *request) error {
	names, err := rq.principals(rq.Context(), k.kind)
	if err != nil {
		return err
	}
	v := principalsView{User: k.user(), Noun: k.noun(), Prefix: rq.FormValue("prefix"), Total: int64(len(names))}
	from := rq.FormValue("from")
	names = slices.DeleteFunc(names, func(n string) bool { return !strings.HasPrefix(n, v.Prefix) || n < from })
	same := func(from string) string {
		return address(queryOf("prefix", v.Prefix, "from", from), "db", rq.db, v.Noun+"s")
	}
	if len(names) > principalsPerPage {
		v.Pager.Next = same(names[principalsPerPage])
		names = names[:principalsPerPage]
	}
	if from != "" {
		v.Pager.First = same("")
	}
	for _, n := range names {
		v.Rows = append(v.Rows, principalRow{n, principalAddress(rq.db, k.kind, n)})
	}
	if rq.partial() {
		return rq.part("principals", "rows", v)
	}
	return rq.render("principals", k.label, v)
}

// principalView is the page of a user or role; what was typed is in it when it was refused.
type principalView struct {
	User, New   bool
	Noun        string
	Name        string
	Email       string
	Disabled    bool
	Roles       string // given by administrators, one in each line
	Reach       []reach
	HasRoles    []string // wherever from
	Created     string
	Updated     string
	Problem     string
	Session     string // a session that was just made
	SessionName string // of its cookie
	Expires     string
	Guest       bool
}

// reach is what a principal has in one collection.
type reach struct {
	Keyspace keyspace
	Given    string   // by administrators, one in each line
	All      []string // wherever from
}

func (k principalKind) view(rq *request, name string) (principalView, error) {
	v := principalView{User: k.user(), New: name == "", Noun: k.noun(), Name: name, Guest: name == "GUEST"}
	p := &principal{}
	if name != "" {
		var err error
		if p, err = rq.principal(rq.Context(), k.kind, name); err != nil {
			return v, err
		}
	}
	v.Email, v.Disabled, v.Roles, v.HasRoles = p.Email, p.Disabled, strings.Join(p.AdminRoles, "\n"), p.Roles
	v.Created, v.Updated = p.Created, p.Updated
	names, err := collections(rq.Context(), rq.api, rq.db)
	if err != nil {
		return v, err
	}
	for _, n := range names {
		ks := keyspace{rq.db, n}
		v.Reach = append(v.Reach, reach{ks, strings.Join(p.adminChannels(ks), "\n"), p.channels(ks)})
	}
	return v, nil
}

func (k principalKind) showOne(rq *request) error {
	v, err := k.view(rq, rq.FormValue("name"))
	if err != nil {
		return err
	}
	return rq.render("principal", v.Name, v)
}

func (k principalKind) showNew(rq *request) error {
	v, err := k.view(rq, "")
	if err != nil {
		return err
	}
	return rq.render("principal", "New "+v.Noun, v)
}

// save creates a user or role, or changes one.
func (k principalKind) save(rq *request) error {
	isNew := rq.PostFormValue("new") != ""
	name := strings.TrimSpace(rq.PostFormValue("name"))
	known := name
	if isNew {
		known = ""
	}
	v, err := k.view(rq, known)
	if err != nil {
		return err
	}
	v.Name = name
	change := v.change(rq)
	switch {
	case name == "":
		err = &pageError{http.StatusUnprocessableEntity, "", "The " + v.Noun + " needs a name."}
	case isNew: // POST refuses a name that is taken
		change["name"] = name
		err = rq.api.send(rq.Context(), http.MethodPost, pathOf(rq.db, k.kind)+"/", nil, change, nil)
	default:
		err = rq.api.send(rq.Context(), http.MethodPut, pathOf(rq.db, k.kind, name), nil, change, nil)
	}
	if err == nil {
		done := "The " + v.Noun + " " + name + " was saved."
		return rq.redirect(strings.TrimPrefix(principalAddress(rq.db, k.kind, name), Base), done)
	}
	if isUnauthorized(err) {
		return err
	}
	if v.Problem = reasonOf(err); statusOf(err) == http.StatusConflict {
		v.Problem = "There is a " + v.Noun + " of that name already."
	}
	return rq.renderStatus(http.StatusUnprocessableEntity, "principal", name, v)
}

// change is what the form asks for, as the API takes it; v gets what was typed.
func (v *principalView) change(rq *request) map[string]any {
	change := map[string]any{}
	access := map[string]map[string]map[string][]string{}
	for i := range v.Reach {
		r := &v.Reach[i]
		r.Given = rq.PostFormValue("channels:" + r.Keyspace.Name)
		if r.Keyspace.Name == defaultKeyspace {
			change["admin_channels"] = words(r.Given)
			continue
		}
		scope, collection, _ := strings.Cut(r.Keyspace.Name, ".")
		if access[scope] == nil {
			access[scope] = map[string]map[string][]string{}
		}
		access[scope][collection] = map[string][]string{"admin_channels": words(r.Given)}
	}
	if len(access) > 0 {
		change["collection_access"] = access
	}
	if !v.User {
		return change
	}
	v.Email, v.Disabled, v.Roles = strings.TrimSpace(rq.PostFormValue("email")), rq.PostFormValue("disabled") != "", rq.PostFormValue("roles")
	change["disabled"], change["admin_roles"] = v.Disabled, words(v.Roles)
	if !v.Guest {
		change["email"] = v.Email
	}
	if password := rq.PostFormValue("password"); password != "" {
		change["password"] = password
	}
	return change
}

func (k principalKind) remove(rq *request) error {
	name := rq.PostFormValue("name")
	if err := rq.api.send(rq.Context(), http.MethodDelete, pathOf(rq.db, k.kind, name), nil, nil, nil); err != nil {
		return err
	}
	return rq.redirect(pathOf("db", rq.db, k.noun()+"s"), "The "+k.noun()+" "+name+" was deleted.")
}

// startSession makes a session for a user and shows it, once.
func (k principalKind) startSession(rq *request) error {
	v, err := k.view(rq, rq.PostFormValue("name"))
	if err != nil {
		return err
	}
	var made struct {
		ID      string `json:"session_id"`
		Cookie  string `json:"cookie_name"`
		Expires string `json:"expires"`
	}
	err = rq.api.send(rq.Context(), http.MethodPost, pathOf(rq.db, "_session"), nil, map[string]any{"name": v.Name, "ttl": json.Number("3600")}, &made)
	if isUnauthorized(err) {
		return err
	}
	if err != nil {
		v.Problem = reasonOf(err)
		return rq.renderStatus(http.StatusUnprocessableEntity, "principal", v.Name, v)
	}
	v.Session, v.SessionName, v.Expires = made.ID, made.Cookie, made.Expires
	return rq.render("principal", v.Name, v)
}

func (k principalKind) endSessions(rq *request) error {
	name := rq.PostFormValue("name")
	if err := rq.api.send(rq.Context(), http.MethodDelete, pathOf(rq.db, "_user", name, "_session"), nil, nil, nil); err != nil {
		return err
	}
	return rq.redirect(strings.TrimPrefix(principalAddress(rq.db, k.kind, name), Base), "All sessions of "+name+" were ended.")
}
