package mapping

import "strings"

// Members. tidegate reserves names that begin with _ at the top of a document, and objects whose first name begins with $ stand for values
// that JSON lacks. So a MongoDB member $x is ~$x in tidegate, and the other way round ~$x is $x: a tidegate member $x that stands for nothing
// is ~$x in MongoDB, where servers refuse $x. A MongoDB member _x at the top, or ~_x, gets one ~ more in tidegate.

// swapDollar exchanges $x and ~$x, which is its own inverse.
func swapDollar(name string) string {
	switch {
	case strings.HasPrefix(name, "$"):
		return escape + name
	case strings.HasPrefix(name, escape+"$"):
		return name[len(escape):]
	}
	return name
}

// underscored reports whether name is _x behind any number of ~.
func underscored(name string) bool { return strings.HasPrefix(strings.TrimLeft(name, escape), "_") }

// topToJSON is the name in tidegate of a member at the top of a MongoDB document other than _id.
func topToJSON(name string) string {
	if underscored(name) {
		return escape + name
	}
	return swapDollar(name)
}

// topToBSON is the name in MongoDB of a member at the top of a tidegate document, none that tidegate reserves.
func topToBSON(name string) string {
	if underscored(name) {
		return strings.TrimPrefix(name, escape)
	}
	return swapDollar(name)
}
