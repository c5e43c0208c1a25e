package delta

import (
	"bytes"
	"cmp"
	"slices"
	"strconv"
)

// elementChange is a member of a delta object that is applied to an array: "12" changes the element 12, "12-"
// puts other elements in the place of all from 12 on.
type elementChange struct {
	index int
	rest  bool
	delta uint32
}

// elementChanges returns the members that name an element, in the order in which they are looked at. Of two with
// the same index the change of the element wins. Other keys mean nothing.
func (t *tree) elementChanges(object uint32) []elementChange {
	all := make([]elementChange, 0, t.members(object))
	for at := object + 1; at < t.nodes[object].next; at = t.nodes[at+1].next {
		number, rest := bytes.CutSuffix(t.key(at), []byte("-"))
		index, err := strconv.Atoi(string(number))
		if err != nil || digits(number) != len(number) || len(number) > 1 && number[0] == '0' {
			continue
		}
		all = append(all, elementChange{index, rest, at + 1})
	}
	slices.SortFunc(all, func(a, b elementChange) int {
		if a.index != b.index {
			return cmp.Compare(a.index, b.index)
		}
		return cmp.Compare(boolInt(a.rest), boolInt(b.rest))
	})
	return all
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// array applies an object of changes to the old array at i.
func (a *applier) array(i int, delta uint32) (end int, err error) {
	changes := a.t.elementChanges(delta)
	start := len(a.out)
	a.out = append(a.out, '[')
	i = skipSpace(a.old, i+1)
	index := 0
	for ; i < len(a.old) && a.old[i] != ']'; index++ {
		for len(changes) > 0 && changes[0].index < index {
			changes = changes[1:]
		}
		switch {
		case len(changes) == 0 || changes[0].index > index:
			a.separate(start)
			i, err = a.copyValue(i)
		case changes[0].rest:
			if err = a.rest(changes[0].delta, start); err == nil {
				return a.skipRest(i)
			}
		default:
			i, err = a.element(i, changes[0].delta, start)
		}
		if err != nil {
			return 0, err
		}
		if i, err = skipComma(a.old, i, ']'); err != nil {
			return 0, err
		}
	}
	if i == len(a.old) {
		return 0, ErrBase
	}
	for _, c := range changes {
		if c.index == index && c.rest {
			if err := a.rest(c.delta, start); err != nil {
				return 0, err
			}
		}
	}
	a.out = append(a.out, ']')
	return i + 1, nil
}

// element applies a change to the old element at i.
func (a *applier) element(i int, delta uint32, start int) (end int, err error) {
	f, operand, err := a.form(delta)
	if err != nil {
		return 0, err
	}
	a.separate(start)
	return a.value(i, f, operand)
}

// rest writes the elements that are put in the place of the rest of an array.
func (a *applier) rest(delta uint32, start int) error {
	if a.t.nodes[delta].kind != kindArray {
		return invalid("the rest of an array must be an array")
	}
	if a.t.nodes[delta].next > delta+1 { // not empty
		raw := a.t.value(delta)
		a.separate(start)
		a.out = append(a.out, raw[1:len(raw)-1]...)
	}
	return nil
}

// skipRest ends the result of an array whose old element at i and all behind it are left out.
func (a *applier) skipRest(i int) (end int, err error) {
	for i < len(a.old) && a.old[i] != ']' {
		if i, err = skipValue(a.old, i); err != nil {
			return 0, err
		}
		if i, err = skipComma(a.old, i, ']'); err != nil {
			return 0, err
		}
	}
	if i == len(a.old) {
		return 0, ErrBase
	}
	a.out = append(a.out, ']')
	return i + 1, nil
}
