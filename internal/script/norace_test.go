//go:build !race

package script

const raceBuild = false
