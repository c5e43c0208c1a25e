package rest

import "net/http"

// The bounds of GET {ks}/_channels.
const (
	channelsDefault = 100
	channelsMost    = 10_000
)

// handleChannels answers GET {ks}/_channels: the names of channels that documents are in or have left, in order. prefix: those that
// begin with it; after: those that come after it; limit: at most so many.
func (s *Server) handleChannels(w http.ResponseWriter, r *request) error {
	limit := int(min(max(r.q.integer("limit", channelsDefault), 1), channelsMost))
	names, err := r.handle.ChannelNames(r.Context(), r.q.text("prefix"), r.q.text("after"), limit+1)
	if err != nil {
		return err
	}
	answer := struct {
		Channels []string `json:"channels"`
		More     bool     `json:"more"` // there are more after the last one
	}{Channels: names, More: len(names) > limit}
	if answer.More {
		answer.Channels = names[:limit]
	}
	if answer.Channels == nil {
		answer.Channels = []string{}
	}
	return s.reply(w, http.StatusOK, answer)
}
