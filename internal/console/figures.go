package console

import "context"

// expvar is what /_expvar answers, as far as pages show it.
type expvar struct {
	SyncGateway struct {
		Global map[string]map[string]float64 `json:"global"`
		PerDB  map[string]dbFigures          `json:"per_db"`
	} `json:"syncgateway"`
	Tidegate map[string]float64 `json:"tidegate"`
}

// dbFigures are the figures of one database by group and key.
type dbFigures struct {
	Database   map[string]any                `json:"database"`
	Pull       map[string]float64            `json:"cbl_replication_pull"`
	Push       map[string]float64            `json:"cbl_replication_push"`
	Security   map[string]float64            `json:"security"`
	Collection map[string]map[string]float64 `json:"per_collection"`
}

// database returns a figure of the group database, which holds objects too.
func (d dbFigures) database(key string) float64 {
	f, _ := d.Database[key].(float64)
	return f
}

// reads is how many documents were read, in whatever way.
func (d dbFigures) reads() float64 {
	return d.database("num_doc_reads_rest") + d.database("num_doc_reads_blip")
}

func (rq *request) expvar(ctx context.Context) (*expvar, error) {
	var e expvar
	err := rq.api.get(ctx, "/_expvar", nil, &e)
	return &e, err
}

// own returns one of tidegate's own figures, of a database or, without one, of the server.
func (e *expvar) own(name, db string) float64 {
	if db != "" {
		name += `{database="` + db + `"}`
	}
	return e.Tidegate[name]
}
