// Package clustersync runs cluster sync as people do: `tidegate clustersync` as a process of its own between real servers, each a process as
// well (SecantusDB for MongoDB, `tidegate serve`), while writers write, and with the sync killed at random.
//
// The sizes are small so that the package is quick. For the long form, for one pair:
//
//	go test ./test/clustersync -run 'TestWhole/mongodb_to_mongodb' -v -timeout 2h -patience 15m -docs 200000 -kills 20 -life 15s -seed 7
package clustersync
