package config

// Startup is the config of the process (gateway-rest.md §23.1), normalised from either file form. A nil
// pointer or an empty value is a setting that was left out; Settings has the values in force.
type Startup struct {
	Bootstrap            Bootstrap              `json:"bootstrap,omitzero"`
	API                  API                    `json:"api,omitzero"`
	Logging              Logging                `json:"logging,omitzero"`
	Auth                 Auth                   `json:"auth,omitzero"`
	Replicator           Replicator             `json:"replicator,omitzero"`
	Unsupported          StartupUnsupported     `json:"unsupported,omitzero"`
	DatabaseCredentials  map[string]Credentials `json:"database_credentials,omitzero"`
	BucketCredentials    map[string]Credentials `json:"bucket_credentials,omitzero"`
	MaxFileDescriptors   *uint64                `json:"max_file_descriptors,omitzero"`
	CouchbaseKeepalive   *int                   `json:"couchbase_keepalive_interval,omitzero"`
	HeapProfileThreshold *uint64                `json:"heap_profile_collection_threshold,omitzero"`
	HeapProfileDisable   *bool                  `json:"heap_profile_disable_collection,omitzero"`

	// SecretsKeyFile is a file with the keys that stored passwords are encrypted with, as ParseKeys reads it.
	SecretsKeyFile string `json:"secrets_key_file,omitzero"`

	// DisablePersistentConfig (2.8 form) makes the file the only place of database configs: changes over the
	// admin API then last until the process ends.
	DisablePersistentConfig bool `json:"-"`
}

// Bootstrap are the settings of the product's storage cluster. GroupID and ConfigUpdateFrequency are ours too.
type Bootstrap struct {
	GroupID               string   `json:"group_id,omitzero"`
	ConfigUpdateFrequency Duration `json:"config_update_frequency,omitzero"`
	Server                string   `json:"server,omitzero"`
	Username              string   `json:"username,omitzero"`
	Password              Secret   `json:"password,omitzero"`
	CACertPath            string   `json:"ca_cert_path,omitzero"`
	ServerTLSSkipVerify   *bool    `json:"server_tls_skip_verify,omitzero"`
	X509CertPath          string   `json:"x509_cert_path,omitzero"`
	X509KeyPath           string   `json:"x509_key_path,omitzero"`
	UseTLSServer          *bool    `json:"use_tls_server,omitzero"`
}

// API are the settings of the listeners. A nil interface is the default one, an empty one is off.
type API struct {
	PublicInterface      *string  `json:"public_interface,omitzero"`
	AdminInterface       *string  `json:"admin_interface,omitzero"`
	MetricsInterface     *string  `json:"metrics_interface,omitzero"`
	ProfileInterface     *string  `json:"profile_interface,omitzero"`
	AdminAuth            *bool    `json:"admin_interface_authentication,omitzero"`
	MetricsAuth          *bool    `json:"metrics_interface_authentication,omitzero"`
	EnableAdvancedAuthDP *bool    `json:"enable_advanced_auth_dp,omitzero"`
	ServerReadTimeout    Duration `json:"server_read_timeout,omitzero"`
	ServerWriteTimeout   Duration `json:"server_write_timeout,omitzero"`
	ReadHeaderTimeout    Duration `json:"read_header_timeout,omitzero"`
	IdleTimeout          Duration `json:"idle_timeout,omitzero"`
	Pretty               *bool    `json:"pretty,omitzero"`
	MaxConnections       *int     `json:"max_connections,omitzero"`
	CompressResponses    *bool    `json:"compress_responses,omitzero"`
	HideProductVersion   *bool    `json:"hide_product_version,omitzero"`
	CompatVersionString  string   `json:"compat_version_string,omitzero"`
	HTTPS                HTTPS    `json:"https,omitzero"`
	CORS                 *CORS    `json:"cors,omitzero"`
}

// HTTPS turns TLS on for the public, admin and metrics listeners.
type HTTPS struct {
	TLSMinimumVersion string `json:"tls_minimum_version,omitzero"`
	TLSCertPath       string `json:"tls_cert_path,omitzero"`
	TLSKeyPath        string `json:"tls_key_path,omitzero"`
}

// Auth are the settings of password hashing and of administrators.
type Auth struct {
	BcryptCost *int `json:"bcrypt_cost,omitzero"`
	// RefreshTokenExpiry is how long a login to the App Services API lasts.
	RefreshTokenExpiry Duration `json:"refresh_token_expiry,omitzero"`
	// Administrators are the accounts of the admin and metrics listeners, by name.
	Administrators map[string]Administrator `json:"administrators,omitzero"`
}

// StartupUnsupported are switches of the process outside the stable set.
type StartupUnsupported struct {
	StatsLogFrequency    Duration `json:"stats_log_frequency,omitzero"`
	UseStdlibJSON        *bool    `json:"use_stdlib_json,omitzero"`
	HTTP2                *HTTP2   `json:"http2,omitzero"`
	UserQueries          *bool    `json:"user_queries,omitzero"`
	UseXattrConfig       *bool    `json:"use_xattr_config,omitzero"`
	AllowDBConfigEnvVars *bool    `json:"allow_dbconfig_env_vars,omitzero"`
	DiagnosticInterface  *string  `json:"diagnostic_interface,omitzero"`
}

// HTTP2 turns HTTP/2 on.
type HTTP2 struct {
	Enabled *bool `json:"enabled,omitzero"`
}

// Credentials are storage credentials of the product; accepted and kept.
type Credentials struct {
	Username     string `json:"username,omitzero"`
	Password     Secret `json:"password,omitzero"`
	X509CertPath string `json:"x509_cert_path,omitzero"`
	X509KeyPath  string `json:"x509_key_path,omitzero"`
}

// Administrator is an account of the admin and metrics listeners (gateway-rest.md §5.2): a password, or better
// its bcrypt hash as `tidegate hash-password` prints it.
type Administrator struct {
	Password     Secret `json:"password,omitzero"`
	PasswordHash Secret `json:"password_hash,omitzero"`
	// Roles are those of gateway-rest.md §5.2: admin, cluster_admin, ro_admin, mobile_sync_gateway,
	// bucket_full_access, bucket_admin.
	Roles []string `json:"roles,omitzero"`
	// Databases limits the database roles to these databases; empty means all.
	Databases []string `json:"databases,omitzero"`
}
