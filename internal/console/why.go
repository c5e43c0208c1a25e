package console

import "strings"

// whyPages answer why a user sees a document or does not.
func (c *Console) whyPages() page {
	return page{
		routes: []route{{pattern: "GET /db/{db}/why", nav: "Who sees what", handler: c.showWhy}},
		nav:    []navEntry{{label: "Who sees what", icon: "why", href: "/db/{db}/why", section: navDatabase, order: 40}},
	}
}

// explanation is what _explain answers, as far as the page shows it.
type explanation struct {
	Doc, User, Verdict string
	Visible            bool
	Sentences          []string
	Sequence           uint64
	Document           struct {
		Exists, Deleted, Conflict bool
		Rev                       string
		Sequence                  uint64
		Leaves                    []struct {
			Rev      string
			Deleted  bool
			Channels []string
			Visible  bool
		}
		Channels []struct {
			Channel string
			Member  bool
			Periods []struct{ Start, End uint64 }
		}
	}
	Principal struct {
		Exists, Disabled bool
		Roles            []explainedRole
		MoreRoles        int `json:"more_roles"`
	}
	Channels []explainedChannel
}

type explainedRole struct {
	Role         string
	Exists, Held bool
	Since        uint64
	By           []explainedGrant
	MoreDocs     int `json:"more_documents"`
}

type explainedChannel struct {
	Channel   string
	Held      bool
	Since     uint64
	HeldSince uint64 `json:"held_since"`
	By        []explainedGrant
	MoreDocs  int `json:"more_documents"`
	History   []struct{ Start, End uint64 }
}

type explainedGrant struct {
	Kind         string // "admin", "document", "role" and others
	Since        uint64
	Role         string
	Document     string
	Collection   string // of the document
	RoleSince    uint64 `json:"role_since"`
	ChannelSince uint64 `json:"channel_since"`
}

type whyView struct {
	Keyspace    keyspace
	Collections []string
	Doc, User   string
	Asked       bool
	Problem     string
	Answer      explanation
	Users       []string // to choose from
}

// verdicts are the words for what _explain answers.
var verdicts = map[string]string{
	"visible": "sees it", "deleted": "sees that it is deleted", "removed": "sees only that it left a channel", "not_visible": "does not see it",
	"no_such_document": "there is no such document", "user_disabled": "is disabled", "no_such_user": "there is no such user",
}

// Words is the verdict in words.
func (v whyView) Words() string {
	if w := verdicts[v.Answer.Verdict]; w != "" {
		return w
	}
	return strings.ReplaceAll(v.Answer.Verdict, "_", " ")
}

// maxUserChoices is how many users the form suggests.
const maxUserChoices = 500

func (c *Console) showWhy(rq *request) error {
	v := whyView{Keyspace: keyspaceOf(rq), Doc: rq.FormValue("doc"), User: strings.TrimSpace(rq.FormValue("user")), Asked: rq.URL.Query().Has("user")}
	ctx := rq.Context()
	var err error
	if v.Collections, err = collections(ctx, rq.api, rq.db); err != nil {
		return err
	}
	if v.Users, err = rq.principals(ctx, "_user"); err != nil {
		return err
	}
	v.Users = v.Users[:min(len(v.Users), maxUserChoices)]
	if v.Asked && v.Doc != "" {
		err := rq.api.get(ctx, pathOf(v.Keyspace.segment(), "_explain"), queryOf("doc", v.Doc, "user", v.User), &v.Answer)
		if s := statusOf(err); s == 400 || s == 404 {
			v.Problem = reasonOf(err)
		} else if err != nil {
			return err
		}
	} else {
		v.Asked = false
	}
	return rq.render("why", "Who sees what", v)
}
