package console

import (
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

//go:embed templates
var templateFiles embed.FS

// shared are the templates that every page can use.
var shared = []string{"templates/layout.html", "templates/parts.html", "templates/icons.html", "templates/syncparts.html"}

// loadTemplates parses one set for each page: the shared ones and templates/<page>.html, which defines "content".
func (c *Console) loadTemplates() (map[string]*template.Template, error) {
	base, err := template.New("").Funcs(c.funcs()).ParseFS(templateFiles, shared...)
	if err != nil {
		return nil, fmt.Errorf("parse templates: %w", err)
	}
	names, err := fs.Glob(templateFiles, "templates/*.html")
	if err != nil {
		return nil, fmt.Errorf("list templates: %w", err)
	}
	all := make(map[string]*template.Template)
	for _, file := range names {
		if slices.Contains(shared, file) {
			continue
		}
		set, err := base.Clone()
		if err == nil {
			set, err = set.ParseFS(templateFiles, file)
		}
		if err != nil {
			return nil, fmt.Errorf("parse %s: %w", file, err)
		}
		all[strings.TrimSuffix(path.Base(file), ".html")] = set
	}
	return all, nil
}

// view is what a template gets.
type view struct {
	Title   string
	Version string
	Who     string // "" without a session
	Read    bool   // the account may only read
	CSRF    string
	Flashes []flash
	Nav     []navItem
	DB      string   // that the page is about
	DBs     []string // that the account may see
	Live    string   // address of the page's events, "" without a session
	Data    any
}

// navItem is a navEntry in a page.
type navItem struct {
	Label, Icon, Href string
	Database          bool // it is about the database, not the server
	Sync, Manage      bool // likewise, in a part of its own
	Nested            bool // below the one before
	Current           bool
}

// view fills in what the layout shows.
func (rq *request) view(title string, data any) view {
	v := view{Title: title, Version: rq.c.o.Version, DB: rq.db, Data: data}
	if rq.session == nil {
		return v
	}
	v.Who, v.Read, v.CSRF = rq.session.identity.Name(), rq.session.identity.ReadOnly(), rq.session.csrf
	if rq.partial() {
		return v
	}
	v.Flashes = rq.session.takeFlashes()
	v.Nav = rq.navigation()
	// Who may not list databases gets the navigation without them.
	_ = rq.api.get(rq.Context(), "/_all_dbs", nil, &v.DBs)
	v.Live = Base + "/events?" + url.Values{"t": rq.live}.Encode()
	return v
}

func (rq *request) navigation() []navItem {
	var items []navItem
	entries := slices.Clone(rq.c.nav)
	slices.SortStableFunc(entries, func(a, b navEntry) int { return int(a.section-b.section)*1000 + a.order - b.order })
	for _, e := range entries {
		if e.section != navServer && rq.db == "" {
			continue
		}
		items = append(items, navItem{
			Label: e.label, Icon: e.icon, Href: Base + strings.ReplaceAll(e.href, "{db}", url.PathEscape(rq.db)),
			Database: e.section == navDatabase, Sync: e.section == navSync, Manage: e.section == navManage, Current: rq.route.nav == e.label,
		})
	}
	return append(items, rq.sources...)
}

// funcs are the functions of templates.
func (c *Console) funcs() template.FuncMap {
	return template.FuncMap{
		"asset": c.assetURL,
		"base":  func() string { return Base },
		"seg":   url.PathEscape, // a value as one segment of a path
		"count": count[int64],
		"counti": func(n int) string {
			return count(n)
		},
		"bytes":    byteSize[int64],
		"ago":      func(t time.Time) string { return ago(c.o.Now(), t) },
		"stamp":    stamp,
		"pretty":   pretty,
		"dict":     dict,
		"join":     strings.Join,
		"lower":    strings.ToLower,
		"shortrev": shortRev,
		"int64":    func(n int) int64 { return int64(n) },
		"list":     func(items ...string) []string { return items },
		"plural":   plural,
	}
}

func (c *Console) assetURL(name string) (string, error) { return c.assets.url(name) }

// dict makes a map of pairs, for templates that take several values.
func dict(pairs ...any) (map[string]any, error) {
	if len(pairs)%2 != 0 {
		return nil, errors.New("dict: a key without a value")
	}
	m := make(map[string]any, len(pairs)/2)
	for i := 0; i < len(pairs); i += 2 {
		key, ok := pairs[i].(string)
		if !ok {
			return nil, fmt.Errorf("dict: key %v is no string", pairs[i])
		}
		m[key] = pairs[i+1]
	}
	return m, nil
}

// count writes a number with its thousands apart.
func count[T int | int64](n T) string {
	s := strconv.FormatInt(int64(n), 10)
	sign := ""
	if s[0] == '-' {
		sign, s = "−", s[1:]
	}
	var b strings.Builder
	for i, digit := range s {
		if i > 0 && (len(s)-i)%3 == 0 {
			b.WriteRune('\u202f') // narrow no-break space
		}
		b.WriteRune(digit)
	}
	return sign + b.String()
}

// plural writes "1 document", "2 documents".
func plural(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return count(n) + " " + many
}

// byteSize writes a number of bytes for people.
func byteSize[T int | int64](n T) string {
	f := float64(n)
	for _, unit := range []string{"B", "KiB", "MiB", "GiB"} {
		if f < 1024 || unit == "GiB" {
			if f < 10 && unit != "B" {
				return fmt.Sprintf("%.1f %s", f, unit)
			}
			return fmt.Sprintf("%.0f %s", f, unit)
		}
		f /= 1024
	}
	return ""
}

// ago writes how long ago t was, roughly; "never" for the zero time.
func ago(now, t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	d := now.Sub(t)
	switch {
	case d < 0:
		return "in " + span(-d)
	case d < 5*time.Second:
		return "just now"
	}
	return span(d) + " ago"
}

func span(d time.Duration) string {
	switch {
	case d < time.Minute:
		return plural(int64(d.Seconds()), "second", "seconds")
	case d < time.Hour:
		return plural(int64(d.Minutes()), "minute", "minutes")
	case d < 48*time.Hour:
		return plural(int64(d.Hours()), "hour", "hours")
	}
	return plural(int64(d.Hours()/24), "day", "days")
}

// stamp writes a time exactly.
func stamp(t time.Time) string {
	if t.IsZero() {
		return "–"
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}

// pretty indents JSON without touching its numbers and strings; what is no JSON stays as it is.
func pretty(raw json.RawMessage) string {
	var b strings.Builder
	if err := indent(&b, raw); err != nil {
		return string(raw)
	}
	return b.String()
}
