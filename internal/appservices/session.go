package appservices

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"slices"
	"time"
)

// session is a login: it lives until it expires, is ended, or its user is gone.
type session struct {
	ID       string    `json:"id"`
	UserID   string    `json:"user_id"`
	Provider string    `json:"provider"`
	Name     string    `json:"name"`
	Created  time.Time `json:"created"`
	Expires  time.Time `json:"expires"`
}

// newSession stores a login. Logins that have expired go, and the user's oldest ones beyond MaxSessions.
func (s *Server) newSession(ctx context.Context, who Identity) (*session, error) {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	now := s.now().UTC()
	sess := &session{hex.EncodeToString(id[:]), who.UserID, who.Provider, who.Name, now, now.Add(s.opts.RefreshTTL)}
	all, err := readRows[session](ctx, s.opts.Store, rowKey(rowSession), 0, false)
	if err != nil {
		return nil, err
	}
	w, err := putRow(sess, rowSession, sess.ID)
	if err != nil {
		return nil, err
	}
	return sess, s.store(ctx, append(outdated(all, who.UserID, now), w)...)
}

// outdated returns the deletions of sessions that are to make room for one more of the user.
func outdated(all []*session, userID string, now time.Time) []write {
	var gone []write
	var own []*session
	for _, o := range all {
		switch {
		case !now.Before(o.Expires):
			gone = append(gone, write{rowKey(rowSession, o.ID), nil})
		case o.UserID == userID:
			own = append(own, o)
		}
	}
	slices.SortFunc(own, func(a, b *session) int { return a.Created.Compare(b.Created) })
	for len(own) >= MaxSessions {
		gone = append(gone, write{rowKey(rowSession, own[0].ID), nil})
		own = own[1:]
	}
	return gone
}

// findSession returns the session that a token is of, and its user as he is now. InvalidSession: it has ended, or the user is gone.
func (s *Server) findSession(ctx context.Context, c claims) (*session, Identity, error) {
	sess, err := readRow[session](ctx, s.opts.Store, rowKey(rowSession, c.Session))
	if err != nil {
		return nil, Identity{}, err
	}
	if sess == nil || sess.UserID != c.Subject || !s.now().Before(sess.Expires) {
		return nil, Identity{}, errNoSession
	}
	who, ok, err := s.Lookup(ctx, sess.Provider, sess.UserID, sess.Name)
	if !ok {
		return nil, Identity{}, cmp.Or(err, errNoSession)
	}
	return sess, who, nil
}

func (s *Server) accessToken(sess *session, who Identity) (string, error) {
	return s.token(sess, who, typAccess, s.now().Add(accessTTL))
}

func (s *Server) refreshToken(sess *session, who Identity) (string, error) {
	return s.token(sess, who, typRefresh, sess.Expires)
}

func (s *Server) token(sess *session, who Identity, typ string, expires time.Time) (string, error) {
	if expires.After(sess.Expires) {
		expires = sess.Expires
	}
	return s.signer.sign(claims{
		Expires: expires.Unix(), Issued: s.now().Unix(), Issuer: "tidegate", Subject: who.UserID, Session: sess.ID, Type: typ,
		DeviceID: who.DeviceID, DomainID: s.server.DomainID,
	})
}
