package rest

import (
	"net/http"
	"strings"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/jsondoc"
)

const localPrefix = "_local/"

// localID is the {docid} of a local document's path. Names that begin like a design document's are taken by
// these (design.go).
func (r *request) localID() (string, error) {
	id, err := r.pathVar("docid")
	if err == nil {
		err = checkLocalID(id)
	}
	return id, err
}

func checkLocalID(id string) error {
	if id == "" || strings.HasPrefix(id, designPrefix) {
		return tidegate.ErrInvalidDocID
	}
	return nil
}

// handleGetLocal answers GET and HEAD {ks}/_local/{docid} (gateway-rest.md §13.5).
func (s *Server) handleGetLocal(w http.ResponseWriter, r *request) error {
	id, err := r.localID()
	if err != nil {
		return err
	}
	return s.writeLocal(w, r, id, localPrefix)
}

// writeLocal answers with a local document, whose ID on the wire is prefix + id.
func (s *Server) writeLocal(w http.ResponseWriter, r *request, id, prefix string) error {
	doc, err := r.getLocal(id, prefix)
	if err != nil {
		return err
	}
	setETag(w, doc.Rev)
	s.setJSON(w)
	o := s.newOutput(w, http.StatusOK)
	defer o.close()
	o.b = tidegate.AppendJSONString(append(o.b, `{"_id":`...), prefix+doc.ID)
	o.b = append(append(append(o.b, `,"_rev":"`...), doc.Rev...), '"')
	if err := o.object(doc.Body); err != nil {
		return err
	}
	return o.finish()
}

// handlePutLocal answers PUT {ks}/_local/{docid}.
func (s *Server) handlePutLocal(w http.ResponseWriter, r *request) error {
	id, err := r.localID()
	if err != nil {
		return err
	}
	return s.putLocalAndReply(w, r, id, localPrefix)
}

func (s *Server) putLocalAndReply(w http.ResponseWriter, r *request, id, prefix string) error {
	if err := checkJSONType(r.Header); err != nil {
		return err
	}
	in, err := s.readDocument(r)
	if err != nil {
		return err
	}
	defer in.free()
	if in.doc.HasID && in.doc.ID != prefix+id {
		return errIDsDiffer
	}
	if rev := localRev(r); rev != "" {
		if in.doc.Rev != "" && in.doc.Rev != rev {
			return errRevsDiffer
		}
		in.doc.Rev = rev
	}
	rev, err := putLocal(r, id, in.doc)
	if err != nil {
		return err
	}
	return s.writeJSON(w, http.StatusCreated, appendWritten(nil, prefix+id, rev))
}

// localRev is the revision that a request names outside of its body. It is no RevID: those of local documents
// begin with 0.
func localRev(r *request) string {
	if rev := r.q.text("rev"); rev != "" {
		return rev
	}
	return unquoteETag(r.Header.Get("If-Match"))
}

// putLocal writes a local document, also for _bulk_docs. _deleted removes it.
func putLocal(r *request, id string, doc *jsondoc.Doc) (rev string, err error) {
	if doc.Deleted {
		return "0-0", r.handle.DeleteLocal(r.Context(), id, doc.Rev)
	}
	if len(doc.Unknown) > 0 {
		return "", tidegate.Errorf(tidegate.Invalid, "Bad special document member: %s", doc.Unknown[0])
	}
	if strings.HasPrefix(id, designPrefix) {
		return r.handle.PutLocal(r.Context(), id, doc.Rev, doc.Body)
	}
	return r.handle.StoreCheckpoint(r.Context(), r.clientRef(id), doc.Rev, doc.Body)
}

// handleDeleteLocal answers DELETE {ks}/_local/{docid}.
func (s *Server) handleDeleteLocal(w http.ResponseWriter, r *request) error {
	id, err := r.localID()
	if err != nil {
		return err
	}
	return s.deleteLocalAndReply(w, r, id, localPrefix)
}

func (s *Server) deleteLocalAndReply(w http.ResponseWriter, r *request, id, prefix string) error {
	if err := r.handle.DeleteLocal(r.Context(), id, localRev(r)); err != nil {
		return err
	}
	return s.writeJSON(w, http.StatusOK, appendWritten(nil, prefix+id, "0-0"))
}
