package clustersync

// Progress is the answer of /progress (spec §5.2). What is null and what is left out follows mongosync: pointers are null where there is
// nothing to say, members with omitzero are left out. The order of members is that of the spec.
type Progress struct {
	State                       string                `json:"state"`
	CanCommit                   bool                  `json:"canCommit"`
	CanWrite                    *bool                 `json:"canWrite"`
	Info                        *string               `json:"info"`
	CEAStage                    string                `json:"ceaStage,omitzero"`
	Lag                         *Lag                  `json:"lag"`
	LagTimeSeconds              *int64                `json:"lagTimeSeconds"`
	TotalEventsApplied          *int64                `json:"totalEventsApplied"`
	CollectionCopy              *CollectionCopy       `json:"collectionCopy"`
	DirectionMapping            *DirectionMapping     `json:"directionMapping"`
	MongosyncID                 *string               `json:"mongosyncID"`
	CoordinatorID               *string               `json:"coordinatorID"`
	IndexBuilding               *IndexBuilding        `json:"indexBuilding,omitzero"`
	Source                      *Side                 `json:"source,omitzero"`
	Destination                 *Side                 `json:"destination,omitzero"`
	EstimatedSecondsToCatchUp   *int64                `json:"estimatedSecondsToCEACatchup,omitzero"`
	EstimatedOplogTimeRemaining string                `json:"estimatedOplogTimeRemaining,omitzero"`
	Warnings                    []string              `json:"warnings,omitzero"`
	Verification                *VerificationProgress `json:"verification,omitzero"`
}

// Lag says how far the destination is behind.
type Lag struct {
	Overall *int64 `json:"overallLagSeconds"`
	CRUD    *int64 `json:"crudLagSeconds"`
	DDL     *int64 `json:"ddlLagSeconds"`
}

// CollectionCopy is how far the initial sync is.
type CollectionCopy struct {
	EstimatedTotalBytes  *int64 `json:"estimatedTotalBytes"` // null under a document filter
	EstimatedCopiedBytes int64  `json:"estimatedCopiedBytes"`
}

// DirectionMapping says which cluster is which now: "cluster0: host:port".
type DirectionMapping struct {
	Source      string `json:"Source" bson:"Source"`
	Destination string `json:"Destination" bson:"Destination"`
}

// IndexBuilding is how far the indexes are that are built after the copy.
type IndexBuilding struct {
	IndexesBuilt        int64 `json:"indexesBuilt"`
	TotalIndexesToBuild int64 `json:"totalIndexesToBuild"`
	CollectionsFinished int64 `json:"collectionsFinished"`
	CollectionsTotal    int64 `json:"collectionsTotal"`
}

// Side is what is measured of one cluster.
type Side struct {
	PingLatencyMs int64 `json:"pingLatencyMs"`
}
