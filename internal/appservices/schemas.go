package appservices

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"

	"github.com/tidegate/tidegate/internal/devicesync"
)

// schema is the JSON schema of a collection. It is kept, compared and handed out; documents are not checked against it: that is the
// sync function's.
type schema struct {
	ID            string          `json:"_id"`
	Metadata      schemaMetadata  `json:"metadata"`
	Schema        json.RawMessage `json:"schema"`
	Relationships json.RawMessage `json:"relationships"`
}

// schemaMetadata says which collection a schema is of.
type schemaMetadata struct {
	DataSource string `json:"data_source"` // name of the service
	Database   string `json:"database"`
	Collection string `json:"collection"`
}

// schemaShape is what of a schema is looked at.
type schemaShape struct {
	Title      string                 `json:"title"`
	BSONType   json.RawMessage        `json:"bsonType"`
	Type       json.RawMessage        `json:"type"`
	Properties map[string]schemaShape `json:"properties"`
	Required   []string               `json:"required"`
	Items      *schemaShape           `json:"items"`
}

// check completes and checks a schema that a client gave.
func (s *schema) check(a *app) error {
	var shape schemaShape
	if err := json.Unmarshal(s.Schema, &shape); err != nil || s.Schema[0] != '{' {
		return fail(http.StatusBadRequest, codeSchemaInvalid, "schema: expected an object with title, bsonType, properties and required")
	}
	if s.Metadata.Collection == "" || s.Metadata.Database == "" {
		return missing("metadata.database and metadata.collection")
	}
	if s.Metadata.DataSource == "" {
		s.Metadata.DataSource = serviceName
	}
	if a.find(func(svc *service) bool { return svc.Name == s.Metadata.DataSource }) == nil {
		return fail(http.StatusNotFound, codeServiceNotFound, "service not found: %q", printable(s.Metadata.DataSource))
	}
	if len(s.Relationships) == 0 || bytes.Equal(s.Relationships, []byte("null")) {
		s.Relationships = json.RawMessage("{}")
	}
	if s.Relationships[0] != '{' {
		return invalid("relationships: expected an object")
	}
	return nil
}

// breaks says why a server-side change of a schema is breaking; "" if it is not (device-sync.md §7.2).
func breaks(old, next json.RawMessage) string {
	var a, b schemaShape
	if json.Unmarshal(old, &a) != nil || json.Unmarshal(next, &b) != nil {
		return "it is not a schema"
	}
	if a.Title != b.Title {
		return "the type " + a.Title + " is renamed"
	}
	return a.breaks(&b, "")
}

func (a *schemaShape) breaks(b *schemaShape, path string) string {
	if !bytes.Equal(a.BSONType, b.BSONType) || !bytes.Equal(a.Type, b.Type) {
		return "the type of " + named(path) + " is changed"
	}
	for name, was := range a.Properties {
		at := path + "." + name
		is, there := b.Properties[name]
		switch {
		case !there:
			return "the property " + at[1:] + " is removed"
		case slices.Contains(a.Required, name) != slices.Contains(b.Required, name):
			return "the property " + at[1:] + " changes between optional and required"
		}
		if why := was.breaks(&is, at); why != "" {
			return why
		}
	}
	switch {
	case (a.Items == nil) != (b.Items == nil):
		return "the type of the elements of " + named(path) + " is changed"
	case a.Items != nil:
		return a.Items.breaks(b.Items, path+".[]")
	}
	return ""
}

func named(path string) string {
	if path == "" {
		return "the document"
	}
	return path[1:]
}

// breaking refuses a change of schemas that would break synced clients. Asked for by name it terminates sync: next is changed.
func (c *call) breaking(live, next *snapshot) error {
	if live.State == devicesync.Terminated || next.State == devicesync.Terminated {
		return nil
	}
	why := breakingSchema(live.App.Schemas, next.App.Schemas)
	switch {
	case why == "":
		return nil
	case !c.destructive():
		return fail(http.StatusBadRequest, devicesync.CodeDestructive,
			"%s: that breaks synced clients; terminate sync, change the schema and enable sync again, or insist with allow_destructive_changes=true, "+
				"which terminates sync", why)
	}
	next.State, next.Config = devicesync.Terminated, devicesync.Config{}
	return nil
}

// breakingSchema says which of the changes between two sets of schemas is breaking; "" if none is.
func breakingSchema(old, next []*schema) string {
	for _, was := range old {
		i := slices.IndexFunc(next, func(s *schema) bool { return s.Metadata == was.Metadata })
		if i < 0 {
			return "the schema of " + was.Metadata.Database + "." + was.Metadata.Collection + " is removed"
		}
		if why := breaks(was.Schema, next[i].Schema); why != "" {
			return "in the schema of " + was.Metadata.Database + "." + was.Metadata.Collection + " " + why
		}
	}
	return ""
}

func (c *call) handleListSchemas() error {
	a, err := c.seen()
	if err != nil {
		return err
	}
	type entry struct {
		ID       string         `json:"_id"`
		Metadata schemaMetadata `json:"metadata"`
	}
	views := []entry{}
	for _, s := range a.Schemas {
		views = append(views, entry{s.ID, s.Metadata})
	}
	return c.reply(http.StatusOK, views)
}

// schemaIndex returns where in an app the schema is that the path names.
func (c *call) schemaIndex(a *app) (int, error) {
	id := c.vars["schema"]
	if i := slices.IndexFunc(a.Schemas, func(s *schema) bool { return s.ID == id }); i >= 0 {
		return i, nil
	}
	return 0, fail(http.StatusNotFound, codeSchemaNotFound, "schema not found: %q", printable(id))
}

func (c *call) handleGetSchema() error {
	a, err := c.seen()
	if err != nil {
		return err
	}
	i, err := c.schemaIndex(a)
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, a.Schemas[i])
}

func (c *call) handleCreateSchema() error {
	var body schema
	if err := c.decode(&body); err != nil {
		return err
	}
	if len(body.Schema) == 0 {
		return missing("schema")
	}
	_, err := c.change(func(p *plan) error {
		if err := body.check(p.app); err != nil {
			return err
		}
		if slices.ContainsFunc(p.app.Schemas, func(s *schema) bool { return s.Metadata == body.Metadata }) {
			return invalid("the collection has a schema already")
		}
		body.ID = c.s.ids.next()
		p.app.Schemas = append(p.app.Schemas, &body)
		return nil
	})
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, body)
}

func (c *call) handlePutSchema() error {
	var body schema
	if err := c.decode(&body); err != nil {
		return err
	}
	if len(body.Schema) == 0 {
		return missing("schema")
	}
	_, err := c.change(func(p *plan) error {
		i, err := c.schemaIndex(p.app)
		if err != nil {
			return err
		}
		old := p.app.Schemas[i]
		if body.Metadata == (schemaMetadata{}) {
			body.Metadata = old.Metadata
		}
		body.ID = old.ID
		if err := body.check(p.app); err != nil {
			return err
		}
		if body.Metadata != old.Metadata {
			return invalid("metadata: a schema stays with its collection")
		}
		p.app.Schemas[i] = &body
		return nil
	})
	return c.afterNoContent(err)
}

func (c *call) handleDeleteSchema() error {
	_, err := c.change(func(p *plan) error {
		i, err := c.schemaIndex(p.app)
		if err == nil {
			p.app.Schemas = slices.Delete(p.app.Schemas, i, i+1)
		}
		return err
	})
	return c.afterNoContent(err)
}

// partitionTypes are the types of a partition key, as schemas call them.
var partitionTypes = map[string]string{"string": "string", "int": "int", "long": "long", "objectId": "objectId", "uuid": "uuid"}

// handlePartitionKey adds the partition key to the schemas of a service.
func (c *call) handlePartitionKey() error {
	var body struct {
		ServiceID string `json:"service_id"`
		Key       string `json:"partition_key"`
		Type      string `json:"partition_key_type"`
	}
	if err := c.decode(&body); err != nil {
		return err
	}
	if body.ServiceID == "" || body.Key == "" {
		return missing("service_id and partition_key")
	}
	bsonType, ok := partitionTypes[body.Type]
	if !ok {
		return invalid("partition_key_type: expected string, int, long, objectId or uuid")
	}
	_, err := c.change(func(p *plan) error {
		svc := p.app.service(body.ServiceID)
		if svc == nil {
			return fail(http.StatusNotFound, codeServiceNotFound, "service not found: %q", printable(body.ServiceID))
		}
		for i, s := range p.app.Schemas {
			if s.Metadata.DataSource != svc.Name {
				continue
			}
			next, err := withProperty(s.Schema, body.Key, bsonType)
			if err != nil {
				return err
			}
			changed := *s
			changed.Schema = next
			p.app.Schemas[i] = &changed
		}
		return nil
	})
	return c.afterNoContent(err)
}

// withProperty returns a schema with one more property, unless it has that already.
func withProperty(raw json.RawMessage, name, bsonType string) (json.RawMessage, error) {
	var whole map[string]json.RawMessage
	if err := json.Unmarshal(raw, &whole); err != nil {
		return nil, fail(http.StatusBadRequest, codeSchemaInvalid, "a schema that is stored is no object")
	}
	properties := map[string]json.RawMessage{}
	if p := whole["properties"]; len(p) > 0 {
		if err := json.Unmarshal(p, &properties); err != nil {
			return nil, fail(http.StatusBadRequest, codeSchemaInvalid, "the properties of a schema are no object")
		}
	}
	if _, there := properties[name]; there {
		return raw, nil
	}
	properties[name] = json.RawMessage(`{"bsonType":"` + bsonType + `"}`)
	var err error
	if whole["properties"], err = json.Marshal(properties); err != nil {
		return nil, err
	}
	return json.Marshal(whole)
}
