// Package rest is the HTTP face of a gateway: the public, admin and metrics listeners of gateway-rest.md.
//
// Everything a request passes through is visible in serve.go, in order. Which URLs exist is in routes.go
// and the routes_*.go files next to it; a handler is a method
//
//	func (s *Server) handleX(w http.ResponseWriter, r *request) error
//
// that answers with writeJSON, reply or replyEmpty, or returns an error, which error.go alone turns into a
// status and a body. Query parameters are read through the getters of query.go, bodies through body.go.
package rest
