//go:build race

package script

// raceBuild tells that the race detector is on. It makes QuickJS some forty times slower (every access to its memory is
// checked), so tests that have the engine do much do less of it then.
const raceBuild = true
