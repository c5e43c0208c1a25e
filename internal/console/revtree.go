package console

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// rawDocument is what _raw answers, less the body.
type rawDocument struct {
	Sync struct {
		Rev      string     `json:"rev"`
		Sequence uint64     `json:"sequence"`
		History  rawHistory `json:"history"`
		Flags    int        `json:"flags"`
		Saved    string     `json:"time_saved"`
		Set      []period   `json:"channel_set"`
		Past     []period   `json:"channel_set_history"`

		Attachments map[string]attachment        `json:"attachments"`
		Access      map[string]map[string]uint64 `json:"access"`
		RoleAccess  map[string]map[string]uint64 `json:"role_access"`
	} `json:"_sync"`
}

// rawHistory is a revision tree in columns; Parents are indexes, -1 for a root.
type rawHistory struct {
	Revs     []string   `json:"revs"`
	Parents  []int      `json:"parents"`
	Deleted  []int      `json:"deleted"`
	Channels [][]string `json:"channels"`
}

// period is a stay in a channel, in sequences.
type period struct {
	Name  string `json:"name"`
	Start uint64 `json:"start"`
	End   uint64 `json:"end"`
}

type attachment struct {
	Type   string `json:"content_type"`
	Digest string `json:"digest"`
	Length int64  `json:"length"`
}

// Sizes of the drawing, in pixels: of a line, which the style sheet has as well, and of a lane.
const (
	treeRow  = 38
	treeLane = 20
)

// treeDrawing is a revision tree to draw: newest revisions first, branches in lanes.
type treeDrawing struct {
	Width, Height int
	Edges         []string // paths
	Nodes         []treeNode
}

type treeNode struct {
	Rev                    string
	X, Y                   int
	Current, Leaf, Deleted bool
}

// Class is the node's style.
func (n treeNode) Class() string {
	class := "dot"
	if n.Current {
		class += " current"
	} else if n.Leaf {
		class += " leaf"
	}
	if n.Deleted {
		class += " deleted"
	}
	return class
}

// draw lays out a tree: each leaf has a lane, the current one the first; a revision lies in the lane of the first of its
// leaves.
func (h rawHistory) draw(current string) treeDrawing {
	n := min(len(h.Revs), len(h.Parents))
	hasChild := make([]bool, n)
	for i := range n {
		if p := h.Parents[i]; p >= 0 && p < n {
			hasChild[p] = true
		}
	}
	var leaves []int
	for i := range n {
		if !hasChild[i] {
			leaves = append(leaves, i)
		}
	}
	slices.SortStableFunc(leaves, func(a, b int) int {
		if c := rank01(h.Revs[b] == current) - rank01(h.Revs[a] == current); c != 0 {
			return c
		}
		return generation(h.Revs[b]) - generation(h.Revs[a])
	})
	lane := make([]int, n)
	for i := range lane {
		lane[i] = -1
	}
	for l, leaf := range leaves {
		for at, steps := leaf, 0; at >= 0 && at < n && lane[at] < 0 && steps <= n; at, steps = h.Parents[at], steps+1 {
			lane[at] = l
		}
	}
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Or(generation(h.Revs[b])-generation(h.Revs[a]), lane[a]-lane[b])
	})
	return h.place(order, lane, hasChild, current, len(leaves))
}

// place gives every revision its line and draws the edges.
func (h rawHistory) place(order, lane []int, hasChild []bool, current string, lanes int) treeDrawing {
	d := treeDrawing{Width: 24 + treeLane*max(lanes, 1), Height: treeRow * len(order)}
	at := make([]treeNode, len(order))
	for line, i := range order {
		at[i] = treeNode{
			Rev: h.Revs[i], X: 20 + treeLane*lane[i], Y: treeRow*line + treeRow/2,
			Current: h.Revs[i] == current, Leaf: !hasChild[i], Deleted: slices.Contains(h.Deleted, i),
		}
		d.Nodes = append(d.Nodes, at[i])
	}
	for i := range at {
		if p := h.Parents[i]; p >= 0 && p < len(at) {
			d.Edges = append(d.Edges, edge(at[i], at[p]))
		}
	}
	return d
}

// edge is the path from a revision down to its parent: straight within a lane, else bent just above the parent.
func edge(child, parent treeNode) string {
	n := strconv.Itoa
	path := "M" + n(child.X) + " " + n(child.Y)
	if child.X == parent.X {
		return path + "V" + n(parent.Y)
	}
	bend := parent.Y - treeRow
	return path + "V" + n(max(bend, child.Y)) + "C" + n(child.X) + " " + n(parent.Y-6) + " " + n(parent.X) + " " + n(parent.Y-treeRow/2) + " " + n(parent.X) + " " + n(parent.Y)
}

func rank01(b bool) int {
	if b {
		return 1
	}
	return 0
}

// generation is the number at the beginning of a revision id; 0 for a version.
func generation(rev string) int {
	digits, _, _ := strings.Cut(rev, "-")
	n, _ := strconv.Atoi(digits) // a version has none
	return n
}
