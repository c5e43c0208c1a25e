package console

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strconv"
	"strings"
)

// configPages are the config of a database.
func (c *Console) configPages() page {
	return page{
		routes: []route{
			{pattern: "GET /db/{db}/config", nav: "Configuration", handler: c.showConfig},
			{pattern: "POST /db/{db}/config", nav: "Configuration", handler: c.saveConfig},
		},
		nav: []navEntry{{label: "Configuration", icon: "config", href: "/db/{db}/config", section: navDatabase, order: 95}},
	}
}

type configView struct {
	Text     string
	Version  string
	Problems []placedProblem
	Changed  bool // somebody else changed the config meanwhile
}

// placedProblem is what is wrong with a text, and where.
type placedProblem struct {
	Line, Column int // from 1; 0: at no place
	Text         string
}

// served are members that the server adds to a config and that are not part of it.
var served = []string{"name", "created_at", "updated_at", "version"}

func (c *Console) showConfig(rq *request) error {
	text, version, err := rq.config()
	if err != nil {
		return err
	}
	return rq.render("config", "Configuration", configView{Text: text, Version: version})
}

// config returns the config as text, without what the server adds, and its version.
func (rq *request) config() (text, version string, err error) {
	a, err := rq.api.call(rq.Context(), http.MethodGet, pathOf(rq.db, "_config"), nil, nil, nil)
	if err != nil {
		return "", "", err
	}
	members, err := membersOf(a.Body)
	if err != nil {
		return "", "", err
	}
	return pretty(joinMembers(without(members, served...))), strings.Trim(a.Header.Get("ETag"), `"`), nil
}

func (c *Console) saveConfig(rq *request) error {
	v := configView{Text: strings.ReplaceAll(rq.PostFormValue("config"), "\r\n", "\n"), Version: rq.PostFormValue("version")}
	header := http.Header{"If-Match": {`"` + v.Version + `"`}}
	_, err := rq.api.call(rq.Context(), http.MethodPut, pathOf(rq.db, "_config"), nil, []byte(v.Text), header)
	switch statusOf(err) {
	case 0:
		if err != nil {
			return err
		}
		return rq.redirect(pathOf("db", rq.db, "config"), "The configuration was changed.")
	case http.StatusPreconditionFailed, http.StatusConflict:
		v.Changed = true
		_, v.Version, _ = rq.config() // a second save is on purpose
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound:
		return err
	default:
		v.Problems = placeProblems(reasonOf(err))
	}
	return rq.renderStatus(http.StatusUnprocessableEntity, "config", "Configuration", v)
}

var placePattern = regexp.MustCompile(`^(?:JSON Unknown Field: |Bad JSON: )?line (\d+), column (\d+): (.*)$`)

// placeProblems reads the lines of a refusal: "line 1, column 21: users: …".
func placeProblems(reason string) []placedProblem {
	var all []placedProblem
	for line := range strings.Lines(reason) {
		line = strings.TrimSpace(line)
		if m := placePattern.FindStringSubmatch(line); m != nil {
			l, _ := strconv.Atoi(m[1]) // digits
			col, _ := strconv.Atoi(m[2])
			all = append(all, placedProblem{l, col, m[3]})
		} else if line != "" {
			all = append(all, placedProblem{Text: line})
		}
	}
	return all
}

// jsonProblem returns what is wrong with a text that is to be a JSON object, nil if nothing is.
func jsonProblem(text string) *placedProblem {
	var object map[string]json.RawMessage
	err := json.Unmarshal([]byte(text), &object)
	if err == nil && object != nil {
		return nil
	}
	p := &placedProblem{Text: "A document is a JSON object: { … }"}
	syntax, ok := err.(*json.SyntaxError)
	if !ok {
		return p
	}
	before := text[:max(0, min(int(syntax.Offset)-1, len(text)))]
	p.Line = strings.Count(before, "\n") + 1
	p.Column = len(before) - strings.LastIndexByte(before, '\n')
	p.Text = "This is no JSON: " + syntax.Error()
	return p
}
