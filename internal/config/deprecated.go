package config

// deprecated are settings of 2.x and where they are now (gateway-rest.md §23.2).
var deprecated = map[string][]string{
	"rev_cache_size":               {"cache", "rev_cache", "size"},
	"max_wait_pending":             {"cache", "channel_cache", "max_wait_pending"},
	"max_num_pending":              {"cache", "channel_cache", "max_num_pending"},
	"max_wait_skipped":             {"cache", "channel_cache", "max_wait_skipped"},
	"enable_star_channel":          {"cache", "channel_cache", "enable_star_channel"},
	"channel_cache_max_length":     {"cache", "channel_cache", "max_length"},
	"channel_cache_min_length":     {"cache", "channel_cache", "min_length"},
	"channel_cache_expiry_seconds": {"cache", "channel_cache", "expiry_seconds"},
}

// moveDeprecated puts the settings of 2.x in a database's config where they belong. One that is set at both
// places is dropped in favour of the new one, as the product does.
func moveDeprecated(n *node) {
	kept := n.members[:0:0]
	var moved []member
	for _, m := range n.members {
		if deprecated[m.name] == nil {
			kept = append(kept, m)
		} else {
			moved = append(moved, m)
		}
	}
	n.members = kept
	for _, m := range moved {
		m.value.moveTo(n, deprecated[m.name], m.at)
	}
}

// moveTo puts n under root at path, making objects on the way. It does nothing where something else is there.
func (n *node) moveTo(root *node, path []string, at pos) {
	for _, key := range path[:len(path)-1] {
		m := root.get(key)
		if m == nil {
			root.members = append(root.members, member{key, at, &node{kind: kindObject, at: at}})
			m = root.get(key)
		}
		if root = m.value; root.kind != kindObject {
			return
		}
	}
	last := path[len(path)-1]
	if root.get(last) == nil {
		root.members = append(root.members, member{last, at, n})
	}
}
