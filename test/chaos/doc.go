// Package chaos holds the tests that kill the real binary: SIGKILL under concurrent load, again and again, then
// every acknowledged write looked for, every feed compared and the store checked by `tidegate fsck`. Its TestMesh… have several
// gateways replicate with each other through links that are cut, reset, slowed or made deaf. TestSeedResync and TestOnlineResyncUnderLoad run
// resyncs that are killed, and that clients do not notice. TestD… pause, terminate and enable device sync under devices and peers.
//
// TestCluster… run three nodes on one PostgreSQL under clients of every kind, by a schedule of faults that a seed gives; TestMoveWhileServing moves a
// gateway to another store.
//
//	go test ./test/chaos                      # 8 rounds, for everyday use
//	go test ./test/chaos -kills 50 -seed 7    # 50 rounds, reproducible choice of moments
//	go test ./test/chaos -run TestMesh -mesh-docs 20000 -mesh-rounds 20 -timeout 60m
//	go test ./test/chaos -run 'SeedResync|OnlineResync' -v -resync-docs 1000000 -resync-live-docs 50000 -timeout 60m
//	go test ./test/chaos -run D43 -v -sync-rounds 100 # terminations under load; a minute or so
//	make chaos-cluster CLUSTER_MINUTES=60 SEED=7
package chaos
