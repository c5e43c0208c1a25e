package database

// resyncs is the resync of a database that runs in this process, if any.
type resyncs struct{}

func (s *resyncs) init() {}
