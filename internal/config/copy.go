package config

import (
	"reflect"
	"strconv"
	"strings"
)

// Clone returns a deep copy.
func (d *Database) Clone() *Database {
	c := *d
	deepCopy(reflect.ValueOf(&c).Elem())
	return &c
}

// Clone returns a deep copy.
func (s *Startup) Clone() *Startup {
	c := *s
	deepCopy(reflect.ValueOf(&c).Elem())
	return &c
}

// deepCopy replaces everything that v refers to by a copy. Secrets are never changed and stay shared.
func deepCopy(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			c := reflect.New(v.Type().Elem())
			c.Elem().Set(v.Elem())
			v.Set(c)
			deepCopy(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				deepCopy(v.Field(i))
			}
		}
	case reflect.Slice:
		if !v.IsNil() {
			c := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
			reflect.Copy(c, v)
			v.Set(c)
			for i := range v.Len() {
				deepCopy(v.Index(i))
			}
		}
	case reflect.Map:
		if !v.IsNil() {
			c := reflect.MakeMapWithSize(v.Type(), v.Len())
			for key, elem := range v.Seq2() {
				e := reflect.New(elem.Type()).Elem()
				e.Set(elem)
				deepCopy(e)
				c.SetMapIndex(key, e)
			}
			v.Set(c)
		}
	}
}

// visit calls fn for v and everything in it that is settable; fn returns false to go no deeper. Elements of
// maps are visited in a copy that is put back.
func visit(v reflect.Value, path string, fn func(v reflect.Value, path string) bool) {
	if !fn(v, path) {
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			visit(v.Elem(), path, fn)
		}
	case reflect.Struct:
		for _, f := range structFields(v.Type()) {
			if v.Type().Field(f.index).IsExported() {
				visit(v.Field(f.index), strings.TrimPrefix(path+"."+f.name, "."), fn)
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			visit(v.Index(i), path+"["+strconv.Itoa(i)+"]", fn)
		}
	case reflect.Map:
		for key, elem := range v.Seq2() {
			e := reflect.New(elem.Type()).Elem()
			e.Set(elem)
			visit(e, path+"."+key.String(), fn)
			v.SetMapIndex(key, e)
		}
	}
}
