package console

import "strings"

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

// maxDiffCells bounds the table of a comparison; longer texts are shown whole, as taken away and added.
const maxDiffCells = 4 << 20

// diffTexts compares two texts line by line.
func diffTexts(old, now string) []diffLine {
	a, b := splitLines(old), splitLines(now)
	common := commonLines(a, b)
	var out []diffLine
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		switch {
		case common != nil && i < len(a) && j < len(b) && a[i] == b[j]:
			out = append(out, diffLine{"same", " " + a[i]})
			i, j = i+1, j+1
		case i < len(a) && (j == len(b) || common == nil || common[i+1][j] >= common[i][j+1]):
			out = append(out, diffLine{"del", "-" + a[i]})
			i++
		default:
			out = append(out, diffLine{"add", "+" + b[j]})
			j++
		}
	}
	return out
}

func splitLines(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(s, "\n"), "\n")
}

// commonLines holds at [i][j] how many lines a[i:] and b[j:] have in common at most; nil if the table would be too large.
func commonLines(a, b []string) [][]int32 {
	if (len(a)+1)*(len(b)+1) > maxDiffCells {
		return nil
	}
	t := make([][]int32, len(a)+1)
	for i := range t {
		t[i] = make([]int32, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				t[i][j] = t[i+1][j+1] + 1
			} else {
				t[i][j] = max(t[i+1][j], t[i][j+1])
			}
		}
	}
	return t
}
