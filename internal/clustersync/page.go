package clustersync

import (
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"mime"
	"net/http"
	"path"
)

// page is the page for people at /: everything it needs is in it, and it asks only this API.
//
//go:embed page
var page embed.FS

// pagePolicy lets the page load and call nothing but this server, and lets nobody frame it.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// pageHandlers serve the files of the page by path.
func pageHandlers() map[string]http.Handler {
	out := map[string]http.Handler{}
	for at, file := range map[string]string{"/": "index.html", "/page.css": "page.css", "/page.js": "page.js"} {
		body, err := page.ReadFile("page/" + file)
		if err != nil {
			panic(err) // it is embedded
		}
		sum := sha256.Sum256(body)
		etag := `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`
		out[at] = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			h := w.Header()
			h.Set("Content-Type", mime.TypeByExtension(path.Ext(file)))
			h.Set("Content-Security-Policy", pagePolicy)
			h.Set("Referrer-Policy", "no-referrer")
			h.Set("Cross-Origin-Opener-Policy", "same-origin")
			h.Set("Cross-Origin-Resource-Policy", "same-origin")
			h.Set("Cache-Control", "no-cache")
			h.Set("ETag", etag)
			if r.Header.Get("If-None-Match") == etag {
				w.WriteHeader(http.StatusNotModified)
				return
			}
			_, _ = w.Write(body)
		})
	}
	return out
}
