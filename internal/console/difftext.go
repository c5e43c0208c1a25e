package console

import (
	"strings"

	"github.com/tidegate/tidegate/internal/linediff"
)

// diffFile is the difference of two versions of a file.
type diffFile struct {
	Name  string
	Lines []diffLine
}

// diffLine is a line of it. Kind is "add", "del", "hunk" or "same"; Text begins with the sign of the kind.
type diffLine struct{ Kind, Text string }

// parseDiff reads a difference in unified form. What is not understood is shown as it is.
func parseDiff(text string) diffFile {
	var f diffFile
	for line := range strings.SplitSeq(strings.TrimSuffix(text, "\n"), "\n") {
		switch {
		case strings.HasPrefix(line, "--- ") && f.Lines == nil:
			f.Name = line[4:]
		case strings.HasPrefix(line, "+++ ") && f.Lines == nil:
			if f.Name == "/dev/null" || f.Name == "" {
				f.Name = line[4:]
			}
		case strings.HasPrefix(line, "@@"):
			f.Lines = append(f.Lines, diffLine{"hunk", line})
		case strings.HasPrefix(line, "+"):
			f.Lines = append(f.Lines, diffLine{"add", line})
		case strings.HasPrefix(line, "-"):
			f.Lines = append(f.Lines, diffLine{"del", line})
		default:
			f.Lines = append(f.Lines, diffLine{"same", line})
		}
	}
	return f
}

// diffTexts compares two texts line by line.
func diffTexts(old, now string) []diffLine {
	var out []diffLine
	for _, op := range linediff.Compare(old, now) {
		kind := "same"
		switch op.Kind {
		case '-':
			kind = "del"
		case '+':
			kind = "add"
		}
		out = append(out, diffLine{kind, string(op.Kind) + op.Text})
	}
	return out
}
