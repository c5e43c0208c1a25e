package console

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
)

//go:embed assets
var assetFiles embed.FS

// assets are the style sheets, scripts and icons. The name of each holds a hash of its content, so that browsers may
// keep it for ever and a new version is another file.
type assets struct {
	hashed map[string]string // by plain name
	files  map[string][]byte // by hashed name
}

func loadAssets() (*assets, error) {
	a := &assets{hashed: make(map[string]string), files: make(map[string][]byte)}
	names, err := fs.Glob(assetFiles, "assets/*.*")
	if err != nil {
		return nil, fmt.Errorf("list assets: %w", err)
	}
	// Style sheets come last: they name other files.
	slices.SortStableFunc(names, func(x, y string) int { return rank(x) - rank(y) })
	for _, full := range names {
		b, err := assetFiles.ReadFile(full)
		if err != nil {
			return nil, fmt.Errorf("read asset: %w", err)
		}
		a.add(path.Base(full), b)
	}
	return a, nil
}

func rank(name string) int {
	if path.Ext(name) == ".css" {
		return 1
	}
	return 0
}

// add keeps a file under its hashed name.
func (a *assets) add(name string, b []byte) {
	stem, ext, _ := strings.Cut(name, ".")
	if ext == "css" {
		for plain, hashed := range a.hashed {
			b = bytes.ReplaceAll(b, []byte(`url("`+plain+`")`), []byte(`url("`+hashed+`")`))
		}
	}
	sum := sha256.Sum256(b)
	a.hashed[name] = stem + "-" + hex.EncodeToString(sum[:6]) + "." + ext
	a.files[a.hashed[name]] = b
}

// url is the address of a file by its plain name.
func (a *assets) url(name string) (string, error) {
	hashed, ok := a.hashed[name]
	if !ok {
		return "", fmt.Errorf("no asset %q", name)
	}
	return Base + "/assets/" + hashed, nil
}

// assetTypes are the media types by extension; a machine's own table may lack some.
var assetTypes = map[string]string{
	".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml", ".txt": "text/plain; charset=utf-8",
	".woff2": "font/woff2",
}

// ServeHTTP answers GET /assets/{name}. They are no secrets: the login page needs them.
func (a *assets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	b, ok := a.files[name]
	if !ok {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", assetTypes[path.Ext(name)])
	h.Set("Content-Length", strconv.Itoa(len(b)))
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	_, _ = w.Write(b) // a browser that went away needs no answer
}
