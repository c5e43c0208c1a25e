package pgstore

// Dialed is how many connections Views have made.
func (s *Store) Dialed() int64 { return s.views.Stat().NewConnsCount() }
