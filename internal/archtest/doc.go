// Package archtest holds the rules of the house as tests: which package may import which (imports_test.go), and
// what no file may do (files_test.go). A failure says what is wrong, where, and why the rule is there.
//
// A new package is added to the table in imports_test.go with its level.
package archtest
