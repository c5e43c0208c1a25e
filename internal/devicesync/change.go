package devicesync

// Change is a change of a database's device sync that somebody asks for.
type Change struct {
	Patch Patch
	// By is who asks, as it is recorded: "user:<id>", "auto", "system" or "".
	By string
	// Origin is what the request came through, for logs and deployments: "API", "UI", "CLI", "gateway", "system".
	Origin string
	// AllowDestructive: what would need a termination terminates (§7.1).
	AllowDestructive bool
	// Serverless: the data source is of the kind that cannot sync.
	Serverless bool
}

// Outcome is what came of a Change.
type Outcome struct {
	From, To State // the same unless the state changed
	Changed  bool  // something is different now
	// Terminating: a termination runs, or has just begun; it goes on after the answer.
	Terminating bool
	Row         *Row // as it is now
}
