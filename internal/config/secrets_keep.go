package config

import (
	"net/url"
	"reflect"
)

// KeepSecrets puts old's secrets in place of masked ones: a mask in input means "unchanged" (gateway-rest.md
// §23.4). old may be nil. The error is an *Error that names masks which stand for nothing, and masked URLs
// whose host or user changed.
func (d *Database) KeepSecrets(old *Database) error {
	if old == nil {
		old = &Database{}
	}
	stored := map[string]reflect.Value{}
	visit(reflect.ValueOf(old.Clone()).Elem(), "", func(v reflect.Value, path string) bool {
		if isSecret(v) {
			stored[path] = v
			return false
		}
		return true
	})
	ps := d.keepReplicationSecrets(old)
	visit(reflect.ValueOf(d).Elem(), "", func(v reflect.Value, path string) bool {
		if _, done := v.Interface().(Replications); done {
			return false
		}
		if !isSecret(v) {
			return true
		}
		switch value := v.Interface().(type) {
		case Secret:
			keepSecret(&ps, v, value, stored[path], path)
		case RemoteURL:
			keepPassword(&ps, v, value, stored[path], path)
		}
		return false
	})
	return ps.err()
}

// keepReplicationSecrets is KeepSecrets for the definitions of a config, which masks stand for more strictly: the password
// of one host is not sent to another.
func (d *Database) keepReplicationSecrets(old *Database) problems {
	var ps problems
	for id, r := range sortedMap(d.Replications) {
		if err := r.keepSecrets(old.Replications[id]); err != nil {
			ps = append(ps, Problems(Under(join("replications", id), err))...)
		}
	}
	return ps
}

// isSecret reports whether v holds something that is masked in output.
func isSecret(v reflect.Value) bool {
	switch v.Interface().(type) {
	case Secret, RemoteURL:
		return true
	}
	return false
}

func keepSecret(ps *problems, v reflect.Value, value Secret, stored reflect.Value, path string) {
	if !IsMask(value.Reveal()) {
		return
	}
	if !stored.IsValid() || stored.IsZero() {
		ps.add(pos{}, path, "a masked secret means the stored one, and none is stored")
		return
	}
	v.Set(stored)
}

// keepPassword handles a URL whose password is masked: the stored one's password stays if host and user do.
func keepPassword(ps *problems, v reflect.Value, value RemoteURL, stored reflect.Value, path string) {
	u, err := url.Parse(value.Reveal())
	if err != nil {
		return // Validate says so
	}
	password, _ := u.User.Password()
	if !IsMask(password) {
		return
	}
	var before *url.URL
	if stored.IsValid() {
		before, err = url.Parse(stored.Interface().(RemoteURL).Reveal())
	}
	if stored.IsValid() && stored.Interface().(RemoteURL).Locked() {
		ps.add(pos{}, path, "the stored password cannot be decrypted: its key is not there")
		return
	}
	if before == nil || err != nil || before.Host != u.Host || before.User.Username() != u.User.Username() {
		ps.add(pos{}, path, "a masked password means the stored one, and none is stored for this host and user")
		return
	}
	u.User = before.User
	v.Set(reflect.ValueOf(NewRemoteURL(u.String())))
}
