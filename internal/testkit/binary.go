package testkit

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
)

// Binary is tidegate as a user would build it, without the race detector: the one that TIDEGATE_BIN names, or one that is built once for
// all tests of a package.
var Binary = sync.OnceValues(func() (string, error) {
	if bin := os.Getenv("TIDEGATE_BIN"); bin != "" {
		return bin, nil
	}
	dir, err := os.MkdirTemp("", "tidegate-test-")
	if err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "tidegate")
	out, err := exec.Command("go", "build", "-o", bin, "github.com/tidegate/tidegate/cmd/tidegate").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return bin, nil
})
