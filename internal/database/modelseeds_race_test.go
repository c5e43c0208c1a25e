//go:build race

package database_test

// modelSeeds is how many histories the model of device sync runs: fewer under the race detector, which is an order of magnitude slower.
const modelSeeds = 20
