//go:build !race

package database_test

// modelSeeds is how many histories the model of device sync runs.
const modelSeeds = 300
