package config

import (
	"fmt"
	"strings"
)

// maxScriptBytes bounds the source of one function.
const maxScriptBytes = 1 << 20

// LoadFiles replaces script settings that name files by the files' content; only a config file may name files
// (gateway-rest.md §10.3). The error is an *Error of all that cannot be read.
func (d *Database) LoadFiles(read func(path string) ([]byte, error)) error {
	var ps problems
	d.eachScript(func(j *JavaScript, path string) {
		name := strings.TrimSpace(string(*j))
		if name == "" || j.IsURL() || j.IsSource() {
			return
		}
		src, err := read(name)
		switch {
		case err != nil:
			ps.add(pos{}, join("databases."+d.Name, path), "neither a JavaScript function nor an http(s) URL nor a file that can be read: %s", err)
		case len(src) > maxScriptBytes:
			ps.add(pos{}, join("databases."+d.Name, path), "the file is larger than %d bytes", maxScriptBytes)
		default:
			*j = JavaScript(src)
		}
	})
	return ps.err()
}

// LoadURLs replaces script settings that name URLs by what fetch returns for them, but for those of replications, which
// are fetched when these start. It changes d, which must be a Clone of the config that is kept.
func (d *Database) LoadURLs(fetch func(url string) ([]byte, error)) error {
	var ps problems
	d.eachScript(func(j *JavaScript, path string) {
		if !j.IsURL() || strings.HasPrefix(path, "replications.") {
			return
		}
		src, err := fetch(string(*j))
		if err == nil && len(src) > maxScriptBytes {
			err = fmt.Errorf("the source is larger than %d bytes", maxScriptBytes)
		}
		if err != nil {
			ps.add(pos{}, path, "fetch script: %s", err)
			return
		}
		*j = JavaScript(src)
	})
	return ps.err()
}
