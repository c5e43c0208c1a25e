package config

// Runtime is what PUT /_config may change while the process runs (gateway-rest.md §9.4).
type Runtime struct {
	Logging                   *RuntimeLogging `json:"logging,omitzero"`
	MaxConcurrentReplications *int            `json:"max_concurrent_replications,omitzero"`
}

// RuntimeLogging is the part of the log settings that can change.
type RuntimeLogging struct {
	Console *RuntimeConsole `json:"console,omitzero"`
	Error   *RuntimeLogFile `json:"error,omitzero"`
	Warn    *RuntimeLogFile `json:"warn,omitzero"`
	Info    *RuntimeLogFile `json:"info,omitzero"`
	Debug   *RuntimeLogFile `json:"debug,omitzero"`
	Trace   *RuntimeLogFile `json:"trace,omitzero"`
	Stats   *RuntimeLogFile `json:"stats,omitzero"`
	Audit   *RuntimeLogFile `json:"audit,omitzero"`
}

// RuntimeConsole is what of the console's settings can change.
type RuntimeConsole struct {
	LogLevel string   `json:"log_level,omitzero"`
	LogKeys  []string `json:"log_keys,omitzero"`
}

// RuntimeLogFile is what of a log file's settings can change.
type RuntimeLogFile struct {
	Enabled *bool `json:"enabled,omitzero"`
}

// ParseRuntime reads the body of PUT /_config. The error is an *Error: of the form, or of the values.
func ParseRuntime(src []byte) (*Runtime, error) {
	n, err := parse(src, nil)
	if err != nil {
		return nil, err
	}
	d := &decoder{}
	r := &Runtime{}
	d.decodeValue(n, r, "")
	if err := d.err(); err != nil {
		return nil, err
	}
	c := &check{}
	between(c, "max_concurrent_replications", r.MaxConcurrentReplications, 0, 1<<30)
	if l := r.Logging; l != nil {
		if l.Console != nil {
			c.oneOf("logging.console.log_level", l.Console.LogLevel, logLevels...)
		}
		for _, f := range []struct {
			name string
			file *RuntimeLogFile
		}{{"error", l.Error}, {"warn", l.Warn}, {"info", l.Info}, {"debug", l.Debug}, {"trace", l.Trace}, {"stats", l.Stats}, {"audit", l.Audit}} {
			if f.file != nil && value(f.file.Enabled) {
				c.fail("logging."+f.name+".enabled", "this version logs to standard error only")
			}
		}
	}
	return r, c.err()
}
