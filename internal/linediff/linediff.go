// Package linediff compares two texts line by line.
package linediff

import "strings"

// Op is a line that stays (Kind ' '), goes ('-') or comes ('+'). Old and New are where it stands on both sides, from 1; on the side that
// does not have it, where it would.
type Op struct {
	Kind     byte
	Text     string
	Old, New int
}

// maxCells bounds the table of a comparison; longer texts are told as wholly taken away and added.
const maxCells = 4 << 20

// Compare returns the lines of both texts in order, by their longest common subsequence.
func Compare(old, now string) []Op {
	a, b := lines(old), lines(now)
	common := commonTable(a, b)
	var ops []Op
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		switch {
		case common != nil && i < len(a) && j < len(b) && a[i] == b[j]:
			ops = append(ops, Op{' ', a[i], i + 1, j + 1})
			i, j = i+1, j+1
		case i < len(a) && (j == len(b) || common == nil || common[i+1][j] >= common[i][j+1]):
			ops = append(ops, Op{'-', a[i], i + 1, j + 1})
			i++
		default:
			ops = append(ops, Op{'+', b[j], i + 1, j + 1})
			j++
		}
	}
	return ops
}

func lines(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(s, "\n"), "\n")
}

// commonTable holds at [i][j] how long the longest common subsequence of a[i:] and b[j:] is; nil if it would be too large.
func commonTable(a, b []string) [][]int32 {
	if (len(a)+1)*(len(b)+1) > maxCells {
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
