package config

import (
	"reflect"
	"slices"
	"time"
)

// file is a config file: the union of the 3.x form and of the 2.8 form (gateway-rest.md §23.1, §23.2), so that
// either loads, and a 3.x file may list databases.
type file struct {
	Bootstrap            Bootstrap              `json:"bootstrap"`
	API                  API                    `json:"api"`
	Logging              Logging                `json:"logging"`
	Auth                 Auth                   `json:"auth"`
	Replicator           Replicator             `json:"replicator"`
	Unsupported          fileUnsupported        `json:"unsupported"`
	DatabaseCredentials  map[string]Credentials `json:"database_credentials"`
	BucketCredentials    map[string]Credentials `json:"bucket_credentials"`
	MaxFileDescriptors   *uint64                `json:"max_file_descriptors" alias:"maxFileDescriptors"`
	CouchbaseKeepalive   *int                   `json:"couchbase_keepalive_interval" alias:"couchbaseKeepaliveInterval"`
	HeapProfileThreshold *uint64                `json:"heap_profile_collection_threshold"`
	HeapProfileDisable   *bool                  `json:"heap_profile_disable_collection"`
	SecretsKeyFile       string                 `json:"secrets_key_file"`

	Databases map[string]*Database `json:"databases"`

	// The 2.8 form.
	Interface               *string     `json:"interface"`
	AdminInterface          *string     `json:"adminInterface"`
	MetricsInterface        *string     `json:"metricsInterface"`
	ProfileInterface        *string     `json:"profileInterface"`
	SSLCert                 string      `json:"SSLCert"`
	SSLKey                  string      `json:"SSLKey"`
	TLSMinimumVersion       string      `json:"tls_minimum_version"`
	Log                     []string    `json:"log"`
	LogFilePath             string      `json:"logFilePath"`
	CORS                    *legacyCORS `json:"CORS"`
	MaxIncomingConnections  *int        `json:"maxIncomingConnections"`
	CompressResponses       *bool       `json:"compressResponses"`
	ServerReadTimeout       *int        `json:"serverReadTimeout"`  // s
	ServerWriteTimeout      *int        `json:"serverWriteTimeout"` // s
	ReadHeaderTimeout       *int        `json:"readHeaderTimeout"`  // s
	IdleTimeout             *int        `json:"idleTimeout"`        // s
	Pretty                  *bool       `json:"pretty"`
	HideProductVersion      *bool       `json:"hide_product_version"`
	BcryptCost              *int        `json:"bcrypt_cost"`
	MaxHeartbeat            *int        `json:"maxHeartbeat"` // s
	ReplicatorCompression   *int        `json:"replicator_compression"`
	AdminAuth               *bool       `json:"adminInterfaceAuthentication"`
	MetricsAuth             *bool       `json:"metricsInterfaceAuthentication"`
	DisablePersistentConfig *bool       `json:"disable_persistent_config"`
}

// fileUnsupported is StartupUnsupported with its 2.8 spelling of one setting.
type fileUnsupported struct {
	StatsLogFrequency    Duration `json:"stats_log_frequency"`
	StatsLogFreqSecs     *int     `json:"stats_log_freq_secs"`
	UseStdlibJSON        *bool    `json:"use_stdlib_json"`
	HTTP2                *HTTP2   `json:"http2"`
	UserQueries          *bool    `json:"user_queries"`
	UseXattrConfig       *bool    `json:"use_xattr_config"`
	AllowDBConfigEnvVars *bool    `json:"allow_dbconfig_env_vars"`
	DiagnosticInterface  *string  `json:"diagnostic_interface"`
}

// legacyCORS is CORS with the keys of the 2.8 form.
type legacyCORS struct {
	Origin      []string `json:"Origin"`
	LoginOrigin []string `json:"LoginOrigin"`
	Headers     []string `json:"Headers"`
	MaxAge      *int     `json:"MaxAge"`
}

// decode reads the file. Databases come last: whether their strings see the environment is itself a setting.
func (f *file) decode(d *decoder, n *node) {
	if !d.want(n, kindObject, "") {
		return
	}
	top := *n
	var databases *node
	if m := n.get("databases"); m != nil {
		databases = m.value
		top.members = slices.DeleteFunc(slices.Clone(n.members), func(m member) bool { return m.name == "databases" })
	}
	d.decodeValue(&top, f, "")
	if databases == nil || databases.kind == kindNull {
		return
	}
	expand := d.expand
	if allow := f.Unsupported.AllowDBConfigEnvVars; allow != nil && !*allow {
		d.expand = nil
	}
	f.decodeDatabases(d, databases)
	d.expand = expand
}

func (f *file) decodeDatabases(d *decoder, n *node) {
	if !d.want(n, kindObject, "databases") {
		return
	}
	f.Databases = map[string]*Database{}
	for _, m := range n.members {
		path := join("databases", m.name)
		db := &Database{}
		if m.value.kind == kindObject {
			moveDeprecated(m.value)
		}
		d.decodeValue(m.value, db, path)
		if db.Name != "" && db.Name != m.name {
			d.add(m.at, path+".name", "the name differs from the key")
		}
		db.Name = m.name
		db.normalizeFile(d, m.at, path)
		f.Databases[m.name] = db
	}
}

// normalizeFile moves users.GUEST of 2.8 to guest.
func (db *Database) normalizeFile(d *decoder, at pos, path string) {
	for name, p := range db.Users {
		if p == nil {
			db.Users[name] = &Principal{}
		}
	}
	for name, p := range db.Roles {
		if p == nil {
			db.Roles[name] = &Principal{}
		}
	}
	guest, ok := db.Users["GUEST"]
	if !ok {
		return
	}
	delete(db.Users, "GUEST")
	if db.Guest != nil {
		d.add(at, path+".users.GUEST", "the guest is configured here and under guest")
		return
	}
	db.Guest = guest
}

// startup returns the settings of the process in their 3.x form. A setting given in both forms is a problem.
func (f *file) startup(d *decoder) *Startup {
	s := &Startup{
		Bootstrap: f.Bootstrap, API: f.API, Logging: f.Logging, Auth: f.Auth, Replicator: f.Replicator,
		DatabaseCredentials: f.DatabaseCredentials, BucketCredentials: f.BucketCredentials,
		MaxFileDescriptors: f.MaxFileDescriptors, CouchbaseKeepalive: f.CouchbaseKeepalive,
		HeapProfileThreshold: f.HeapProfileThreshold, HeapProfileDisable: f.HeapProfileDisable, SecretsKeyFile: f.SecretsKeyFile,
		Unsupported: StartupUnsupported{
			StatsLogFrequency: f.Unsupported.StatsLogFrequency, UseStdlibJSON: f.Unsupported.UseStdlibJSON,
			HTTP2: f.Unsupported.HTTP2, UserQueries: f.Unsupported.UserQueries, UseXattrConfig: f.Unsupported.UseXattrConfig,
			AllowDBConfigEnvVars: f.Unsupported.AllowDBConfigEnvVars, DiagnosticInterface: f.Unsupported.DiagnosticInterface,
		},
		DisablePersistentConfig: f.DisablePersistentConfig != nil && *f.DisablePersistentConfig,
	}
	m := mover{d}
	m.move("interface", &s.API.PublicInterface, f.Interface)
	m.move("adminInterface", &s.API.AdminInterface, f.AdminInterface)
	m.move("metricsInterface", &s.API.MetricsInterface, f.MetricsInterface)
	m.move("profileInterface", &s.API.ProfileInterface, f.ProfileInterface)
	m.move("adminInterfaceAuthentication", &s.API.AdminAuth, f.AdminAuth)
	m.move("metricsInterfaceAuthentication", &s.API.MetricsAuth, f.MetricsAuth)
	m.move("SSLCert", &s.API.HTTPS.TLSCertPath, f.SSLCert)
	m.move("SSLKey", &s.API.HTTPS.TLSKeyPath, f.SSLKey)
	m.move("tls_minimum_version", &s.API.HTTPS.TLSMinimumVersion, f.TLSMinimumVersion)
	m.move("maxIncomingConnections", &s.API.MaxConnections, f.MaxIncomingConnections)
	m.move("compressResponses", &s.API.CompressResponses, f.CompressResponses)
	m.move("serverReadTimeout", &s.API.ServerReadTimeout, seconds(f.ServerReadTimeout))
	m.move("serverWriteTimeout", &s.API.ServerWriteTimeout, seconds(f.ServerWriteTimeout))
	m.move("readHeaderTimeout", &s.API.ReadHeaderTimeout, seconds(f.ReadHeaderTimeout))
	m.move("idleTimeout", &s.API.IdleTimeout, seconds(f.IdleTimeout))
	m.move("pretty", &s.API.Pretty, f.Pretty)
	m.move("hide_product_version", &s.API.HideProductVersion, f.HideProductVersion)
	m.move("bcrypt_cost", &s.Auth.BcryptCost, f.BcryptCost)
	m.move("maxHeartbeat", &s.Replicator.MaxHeartbeat, seconds(f.MaxHeartbeat))
	m.move("replicator_compression", &s.Replicator.BLIPCompression, f.ReplicatorCompression)
	m.move("logFilePath", &s.Logging.LogFilePath, f.LogFilePath)
	m.move("unsupported.stats_log_freq_secs", &s.Unsupported.StatsLogFrequency, seconds(f.Unsupported.StatsLogFreqSecs))
	if f.CORS != nil {
		m.move("CORS", &s.API.CORS, &CORS{f.CORS.Origin, f.CORS.LoginOrigin, f.CORS.Headers, f.CORS.MaxAge})
	}
	if f.Log != nil {
		if s.Logging.Console == nil {
			s.Logging.Console = &Console{}
		}
		m.move("log", &s.Logging.Console.LogKeys, f.Log)
	}
	return s
}

// mover puts settings of the 2.8 form into their places.
type mover struct{ d *decoder }

// move sets *to, a pointer to the place of the 3.x form, to from, unless from was not given.
func (m mover) move(key string, to, from any) {
	src, dst := reflect.ValueOf(from), reflect.ValueOf(to).Elem()
	if src.IsZero() {
		return
	}
	if !dst.IsZero() {
		m.d.add(pos{}, key, "the setting is given in its 2.8 form and in its 3.x form")
		return
	}
	dst.Set(src)
}

// seconds turns a number of seconds into a Duration; nil into 0.
func seconds(n *int) Duration {
	if n == nil {
		return 0
	}
	return Duration(time.Duration(*n) * time.Second)
}
