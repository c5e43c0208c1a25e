package appservices

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// pathSegment makes a name a segment of a path in an archive.
func pathSegment(name string) string {
	if name == "." || name == ".." {
		return strings.ReplaceAll(name, ".", "%2E")
	}
	return url.PathEscape(name)
}

// zipped packs files into an archive; the same files give the same bytes.
func zipped(files map[string][]byte) ([]byte, error) {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, name := range sortedKeys(files) {
		w, err := z.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Deflate, Modified: time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)})
		if err == nil {
			_, err = w.Write(files[name])
		}
		if err != nil {
			return nil, fmt.Errorf("pack configuration: %w", err)
		}
	}
	if err := z.Close(); err != nil {
		return nil, fmt.Errorf("pack configuration: %w", err)
	}
	return b.Bytes(), nil
}

func (c *call) replyZip(n *snapshot) error {
	b, err := zipped(n.files())
	if err != nil {
		return err
	}
	h := c.w.Header()
	h.Set("Content-Type", "application/zip")
	h.Set("Content-Disposition", fmt.Sprintf(`attachment; filename="%s_%s.zip"`, n.App.ClientAppID, c.s.now().UTC().Format("20060102150405")))
	h.Set("X-Content-Type-Options", "nosniff")
	c.w.WriteHeader(http.StatusOK)
	_, _ = c.w.Write(b)
	return nil
}

// unzipped reads an archive, within the bounds on its size and number of files. Directories are left out.
func unzipped(b []byte) (map[string][]byte, error) {
	z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return nil, fail(http.StatusBadRequest, codeBadRequest, "the body is no zip archive")
	}
	if len(z.File) > maxArchiveFiles {
		return nil, fail(http.StatusRequestEntityTooLarge, codeBadRequest, "the archive holds more than %d files", maxArchiveFiles)
	}
	files := map[string][]byte{}
	left := int64(MaxBodyBytes)
	for _, f := range z.File {
		if strings.HasSuffix(f.Name, "/") {
			continue
		}
		r, err := f.Open()
		if err != nil {
			return nil, fail(http.StatusBadRequest, codeBadRequest, "the archive cannot be read")
		}
		text, err := io.ReadAll(io.LimitReader(r, left+1))
		if err != nil || r.Close() != nil {
			return nil, fail(http.StatusBadRequest, codeBadRequest, "the archive cannot be read")
		}
		if left -= int64(len(text)); left < 0 {
			return nil, errTooLarge
		}
		if _, twice := files[f.Name]; twice {
			return nil, fail(http.StatusBadRequest, codeBadRequest, "the archive holds a file twice")
		}
		files[f.Name] = text
	}
	return files, nil
}

// fromFiles puts the files of a configuration together to the one object that an import reads. What is no file of it is named among
// its other members, so that it is told to be ignored.
func fromFiles(files map[string][]byte) ([]byte, error) {
	whole := map[string]json.RawMessage{}
	sources := map[string]*sourceFiles{}
	for _, path := range sortedKeys(files) {
		text := files[path]
		if len(bytes.TrimSpace(text)) == 0 {
			continue // an empty file is normal (device-sync.md §6.4)
		}
		parts := strings.Split(path, "/")
		read := len(parts) == 1 && strings.HasSuffix(path, ".json") || parts[0] == "sync" || parts[0] == "data_sources"
		if _, err := checkObject(text); err != nil && read {
			return nil, fail(http.StatusBadRequest, asAPIError(err).code, "%s: %s", printable(path), asAPIError(err).text)
		}
		switch {
		case path == "realm_config.json" || path == "config.json":
			var head map[string]json.RawMessage
			if err := json.Unmarshal(text, &head); err != nil {
				return nil, errNotObject
			}
			for name, value := range head {
				whole[name] = value
			}
		case path == "sync/config.json":
			whole["sync"] = json.RawMessage(`{"config":` + string(text) + `}`)
		case parts[0] == "data_sources" && len(parts) == 3 && parts[2] == "config.json":
			source(sources, parts[1]).config = text
		case parts[0] == "data_sources" && len(parts) == 5:
			source(sources, parts[1]).add(parts[2], parts[3], parts[4], text)
		case !slices.Contains([]string{"sync", "data_sources"}, parts[0]):
			whole[parts[0]] = json.RawMessage("{}")
		}
	}
	if len(sources) > 0 {
		list := make([]json.RawMessage, 0, len(sources))
		for _, name := range sortedKeys(sources) {
			raw, err := sources[name].join()
			if err != nil {
				return nil, err
			}
			list = append(list, raw)
		}
		raw, err := json.Marshal(list)
		if err != nil {
			return nil, err
		}
		whole["data_sources"] = raw
	}
	return json.Marshal(whole)
}

// sourceFiles are the files of a data source.
type sourceFiles struct {
	config json.RawMessage
	colls  map[[2]string]map[string]json.RawMessage
}

func source(all map[string]*sourceFiles, name string) *sourceFiles {
	if all[name] == nil {
		all[name] = &sourceFiles{colls: map[[2]string]map[string]json.RawMessage{}}
	}
	return all[name]
}

// add takes a file about a collection. rules.json is left out: access is the sync function's.
func (s *sourceFiles) add(database, collection, file string, text []byte) {
	name, ok := map[string]string{"schema.json": "schema", "relationships.json": "relationships"}[file]
	if !ok {
		return
	}
	db, errDB := url.PathUnescape(database)
	coll, errColl := url.PathUnescape(collection)
	if errDB != nil || errColl != nil {
		db, coll = database, collection
	}
	at := [2]string{db, coll}
	if s.colls[at] == nil {
		s.colls[at] = map[string]json.RawMessage{}
	}
	s.colls[at][name] = text
}

func (s *sourceFiles) join() (json.RawMessage, error) {
	if s.config == nil {
		return nil, fail(http.StatusBadRequest, codeBadRequest, "a data source has no config.json")
	}
	rules := []collectionJSON{}
	for at, files := range s.colls {
		rules = append(rules, collectionJSON{at[0], at[1], files["schema"], files["relationships"]})
	}
	slices.SortFunc(rules, func(a, b collectionJSON) int {
		return strings.Compare(a.Database+"\x00"+a.Collection, b.Database+"\x00"+b.Collection)
	})
	return json.Marshal(map[string]any{"config": s.config, "rules": rules})
}
