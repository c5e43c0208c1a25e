package rest

import "net/http"

// listener tells the ports of a gateway apart (gateway-rest.md §1).
type listener uint8

// The listeners, as a set.
const (
	public listener = 1 << iota
	admin
	metrics
	client = public | admin // the client API is on both
)

// String returns the listener's name, for logs.
func (l listener) String() string {
	switch l {
	case public:
		return "public"
	case admin:
		return "admin"
	case metrics:
		return "metrics"
	}
	return "several"
}

// permission is what a request needs before its handler runs (gateway-rest.md §5).
//
// On the public listener there are three cases: nothing, open (a missing login counts as guest) and login
// (a user, or the guest if enabled). On the admin and metrics listeners, if authentication is on, it says
// which role of the administrator is asked for.
type permission uint8

// The permissions.
const (
	needNothing     permission = iota // not even credentials are looked at: _ping
	needOpen                          // public: open without login; admin: any administrator
	needLogin                         // public: a user or an enabled guest; admin: the database's role
	needDatabase                      // admin: the database's role
	needServerRead                    // admin: ro_admin or better
	needServerWrite                   // admin: admin or cluster_admin
)

// routeFlags are what makes a route special.
type routeFlags uint8

// The flags.
const (
	anyState   routeFlags = 1 << iota // reachable in every state of the database: † in gateway-rest.md §6
	anyType                           // answers something else than JSON, and sees to Accept itself
	hides                             // force_api_forbidden_errors applies: gateway-rest.md §5.1
	writes                            // guest_read_only refuses it: gateway-rest.md §5.1
	creates                           // the database need not exist
	replicates                        // a one-time login may stand among the subprotocols; a keyspace is 400: replication.md §2
	syncs                             // device sync must be running: † in device-sync.md §12.4
)

// handlerFunc answers a request, or returns the error to answer with.
type handlerFunc func(w http.ResponseWriter, r *request) error

// A route is a row of the table: which requests go to which handler.
//
// pattern is a path with variables {name}; {name...} takes everything that is left. A first segment {db}
// names a database, {ks} a keyspace: the database is then looked up, its state checked and, for {ks}, a
// Handle made before the handler runs.
type route struct {
	methods string // separated by spaces
	pattern string
	where   listener
	needs   permission
	flags   routeFlags
	handler handlerFunc
}

func (rt *route) has(f routeFlags) bool { return rt.flags&f != 0 }

// routes is the whole table. A URL that is not here does not exist.
func (s *Server) routes() []route {
	all := s.routesDocuments()
	all = append(all, s.routesPrincipals()...)
	all = append(all, s.routesAdmin()...)
	all = append(all, s.routesReplications()...)
	all = append(all, s.routesResync()...)
	all = append(all, s.routesWriteBlock()...)
	all = append(all, s.routesDeviceSync()...)
	all = append(all, s.routesAdminKeys()...)
	all = append(all, s.routesMove()...)
	if s.replicate != nil {
		all = append(all, route{"GET", "/{db}/_blipsync", client, needLogin, anyType | replicates | syncs, s.handleBLIPSync})
	}
	return all
}

// routesOf returns the rows of one listener.
func (s *Server) routesOf(l listener) []route {
	var rows []route
	for _, rt := range s.routes() {
		if rt.where&l != 0 {
			rows = append(rows, rt)
		}
	}
	return rows
}
