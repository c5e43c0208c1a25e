package config

import "strings"

// nearest returns the candidate with the smallest edit distance to word, the first of several; "" if there
// are no candidates. Case counts half as much as another letter.
func nearest(word string, candidates []string) string {
	best, bestDistance := "", -1
	for _, c := range candidates {
		d := 2 * editDistance(strings.ToLower(word), strings.ToLower(c))
		if d == 0 && word != c {
			d = 1
		}
		if bestDistance < 0 || d < bestDistance {
			best, bestDistance = c, d
		}
	}
	return best
}

// Nearest returns the candidate that word was most likely meant to be: the one with the smallest edit
// distance; "" if there are no candidates.
func Nearest(word string, candidates []string) string { return nearest(word, candidates) }

// maxNearest bounds the work on a hostile key.
const maxNearest = 128

// editDistance counts insertions, deletions, replacements and swaps of neighbours (optimal string alignment).
func editDistance(a, b string) int {
	a, b = a[:min(len(a), maxNearest)], b[:min(len(b), maxNearest)]
	two, one, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range one {
		one[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(one[j]+1, row[j-1]+1, one[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], two[j-2]+1)
			}
		}
		two, one, row = one, row, two
	}
	return one[len(b)]
}
