package config

// Logging are the log settings (gateway-rest.md §23.1).
type Logging struct {
	LogFilePath    string   `json:"log_file_path,omitzero"`
	RedactionLevel string   `json:"redaction_level,omitzero"`
	Console        *Console `json:"console,omitzero"`
	Error          *LogFile `json:"error,omitzero"`
	Warn           *LogFile `json:"warn,omitzero"`
	Info           *LogFile `json:"info,omitzero"`
	Debug          *LogFile `json:"debug,omitzero"`
	Trace          *LogFile `json:"trace,omitzero"`
	Stats          *LogFile `json:"stats,omitzero"`
	Audit          *LogFile `json:"audit,omitzero"`
}

// Console is what goes to standard error.
type Console struct {
	Enabled             *bool     `json:"enabled,omitzero"`
	LogLevel            string    `json:"log_level,omitzero"`
	LogKeys             []string  `json:"log_keys,omitzero"`
	ColorEnabled        *bool     `json:"color_enabled,omitzero"`
	FileOutput          string    `json:"file_output,omitzero"`
	Rotation            *Rotation `json:"rotation,omitzero"`
	CollationBufferSize *int      `json:"collation_buffer_size,omitzero"`
}

// LogFile is one log file.
type LogFile struct {
	Enabled             *bool     `json:"enabled,omitzero"`
	Rotation            *Rotation `json:"rotation,omitzero"`
	CollationBufferSize *int      `json:"collation_buffer_size,omitzero"`
}

// Rotation says when a log file is put aside.
type Rotation struct {
	MaxSize              *int  `json:"max_size,omitzero"` // MB
	MaxAge               *int  `json:"max_age,omitzero"`  // days
	LocalTime            *bool `json:"localtime,omitzero"`
	RotatedLogsSizeLimit *int  `json:"rotated_logs_size_limit,omitzero"` // MB
}
