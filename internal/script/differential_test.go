package script

import (
	"testing"

	"pgregory.net/rapid"
)

const inputsPerProgram = 2

// TestGeneratedPrograms holds the direct evaluator against QuickJS and goja, on programs of its subset and documents that
// are both made up. It also sees to it that the evaluator does most of these runs itself.
func TestGeneratedPrograms(t *testing.T) {
	engines := sharedEngines()
	programs, runs, direct := 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		g := programGen{t: t}
		source := g.program()
		f := engines.function(source)
		if f.direct == nil {
			t.Fatalf("not in the subset:\n%s", source)
		}
		programs++
		for range inputsPerProgram {
			in := inputs().Draw(t, "in")
			results, err := f.runAll(in)
			if err != nil {
				t.Fatalf("%s\n%v", source, err)
			}
			if d := disagreement(results); d != "" {
				t.Fatalf("%s\non %s\nold %s\n%s", source, in.Body, in.OldBody, d)
			}
			runs++
			if _, ok := results["direct"]; ok {
				direct++
			}
		}
	})
	if direct*5 < runs {
		t.Errorf("the direct evaluator did %d of %d runs of %d programs", direct, runs, programs)
	}
	t.Logf("%d programs, %d runs, %d of them direct", programs, runs, direct)
}
