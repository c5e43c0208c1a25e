package config

import (
	"fmt"
	"maps"
	"math"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"
)

// Validate checks the values of all settings. Each error is one problem; Join makes one error of them.
func (s *Startup) Validate() []error {
	c := &check{}
	s.checkAPI(c)
	s.checkAuth(c)
	s.Logging.check(c)
	s.Replicator.check(c)
	between(c, "max_file_descriptors", s.MaxFileDescriptors, 64, 1<<30)
	notNegative(c, "bootstrap.config_update_frequency", s.Bootstrap.ConfigUpdateFrequency)
	notNegative(c, "unsupported.stats_log_frequency", s.Unsupported.StatsLogFrequency)
	if value(s.Unsupported.DiagnosticInterface) != "" {
		c.fail("unsupported.diagnostic_interface", "is not supported in this version")
	}
	return c.errors()
}

// Check is Validate as one *Error, or nil.
func (s *Startup) Check() error { return Join(s.Validate()) }

func (s *Startup) checkAPI(c *check) {
	a := s.API
	addr(c, "api.public_interface", a.PublicInterface)
	addr(c, "api.admin_interface", a.AdminInterface)
	addr(c, "api.metrics_interface", a.MetricsInterface)
	addr(c, "api.profile_interface", a.ProfileInterface)
	notNegative(c, "api.server_read_timeout", a.ServerReadTimeout)
	notNegative(c, "api.server_write_timeout", a.ServerWriteTimeout)
	notNegative(c, "api.read_header_timeout", a.ReadHeaderTimeout)
	notNegative(c, "api.idle_timeout", a.IdleTimeout)
	between(c, "api.max_connections", a.MaxConnections, 0, math.MaxInt32)
	if (a.HTTPS.TLSCertPath == "") != (a.HTTPS.TLSKeyPath == "") {
		c.fail("api.https", "tls_cert_path and tls_key_path must be given together")
	}
	c.oneOf("api.https.tls_minimum_version", a.HTTPS.TLSMinimumVersion, "tlsv1", "tlsv1.1", "tlsv1.2", "tlsv1.3")
	if a.CORS != nil {
		a.CORS.check(c, "api.cors")
	}
	if value(a.EnableAdvancedAuthDP) {
		c.fail("api.enable_advanced_auth_dp", "is not supported in this version")
	}
}

// addr checks the address of a listener; "" switches it off.
func addr(c *check, path string, v *string) {
	if value(v) == "" {
		return
	}
	_, port, err := net.SplitHostPort(*v)
	if _, portErr := strconv.ParseUint(port, 10, 16); err != nil || portErr != nil {
		c.fail(path, `expected [host]:port, as in "127.0.0.1:4985" or ":4984"`)
	}
}

// IsLoopback reports whether only this machine can reach a listener at the address ([host]:port).
func IsLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

func notNegative(c *check, path string, d Duration) {
	if d < 0 {
		c.fail(path, "must not be negative")
	}
}

// adminRoles are the roles of administrators (gateway-rest.md §5.2).
var adminRoles = []string{"admin", "cluster_admin", "ro_admin", "mobile_sync_gateway", "bucket_full_access", "bucket_admin"}

func (s *Startup) checkAuth(c *check) {
	between(c, "auth.bcrypt_cost", s.Auth.BcryptCost, 10, 31)
	if d := time.Duration(s.Auth.RefreshTokenExpiry); d != 0 && (d < MinRefreshTokenExpiry || d > MaxRefreshTokenExpiry) {
		c.fail("auth.refresh_token_expiry", "must be from 30m to %s", MaxRefreshTokenExpiry)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Auth.Administrators)) {
		a, path := s.Auth.Administrators[name], join("auth.administrators", name)
		if a.Password.IsZero() == a.PasswordHash.IsZero() {
			c.fail(path, "give either password or password_hash")
		}
		if p := a.Password.Reveal(); p != "" && (len(p) < 8 || len(p) > maxPasswordBytes) {
			c.fail(path+".password", "must have 8 to %d bytes", maxPasswordBytes)
		}
		if len(a.Roles) == 0 {
			c.fail(path+".roles", "at least one role is needed")
		}
		for i, role := range a.Roles {
			c.oneOf(fmt.Sprintf("%s.roles[%d]", path, i), orString(role, "(empty)"), adminRoles...)
		}
	}
}

func (l *Logging) check(c *check) {
	c.oneOf("logging.redaction_level", l.RedactionLevel, "none", "partial", "full")
	if l.Console != nil {
		c.oneOf("logging.console.log_level", l.Console.LogLevel, logLevels...)
		l.Console.Rotation.check(c, "logging.console.rotation")
		if l.Console.Rotation != nil && l.Console.FileOutput == "" {
			c.fail("logging.console.rotation", "needs logging.console.file_output")
		}
	}
	if f := l.Audit; f != nil && value(f.Enabled) {
		c.fail("logging.audit.enabled", "audit logging is not supported in this version")
	}
	for name, f := range l.Files() {
		if f == nil {
			continue
		}
		f.Rotation.check(c, "logging."+name+".rotation")
		if value(f.Enabled) && l.LogFilePath == "" {
			c.fail("logging."+name+".enabled", "needs logging.log_file_path")
		}
	}
}

// Files returns the log files by level.
func (l *Logging) Files() map[string]*LogFile {
	return map[string]*LogFile{
		"error": l.Error, "warn": l.Warn, "info": l.Info, "debug": l.Debug, "trace": l.Trace, "stats": l.Stats,
	}
}

func (r *Rotation) check(c *check, path string) {
	if r == nil {
		return
	}
	between(c, path+".max_size", r.MaxSize, 1, 1<<20)
	between(c, path+".max_age", r.MaxAge, 0, int(time.Duration(math.MaxInt64)/day))
	between(c, path+".rotated_logs_size_limit", r.RotatedLogsSizeLimit, 0, 1<<30)
}

// Warnings names settings that are kept but do nothing in this version, one sentence each. They are logged at
// start.
func (s *Startup) Warnings() []string {
	var w []string
	warn := func(given bool, text string) {
		if given {
			w = append(w, text)
		}
	}
	files := s.Logging.LogFilePath != "" || value(s.Logging.Console).FileOutput != ""
	for _, f := range s.Logging.Files() {
		files = files || f != nil && value(f.Enabled)
	}
	warn(files, "logging: this version logs to standard error only; log files and their rotation are left to what runs the process")
	warn(s.Logging.RedactionLevel == "full", "logging.redaction_level: secrets are always masked; nothing more is with full")
	warn(value(s.API.ProfileInterface) != "", "api.profile_interface: profiles are on the metrics listener, at /debug/pprof/")
	warn(value(value(s.Unsupported.HTTP2).Enabled), "unsupported.http2: HTTP/2 is on only if the toolchain that built this has a sound one")
	warn(s.Unsupported.StatsLogFrequency != 0, "unsupported.stats_log_frequency: this version does not log statistics; scrape /metrics")
	warn(value(s.Unsupported.UserQueries), "unsupported.user_queries: there are none")
	return w
}
