// Package config holds what a user can set: the start-up settings of the process and the settings of each
// database, as the files and REST bodies of gateway-rest.md §23 spell them.
//
// [ParseStartup] reads a config file in either form (3.x, or the 2.8 form with interface, adminInterface and
// databases), [ParseDatabase] one database's config as the admin API takes it. Both are strict: an unknown or
// mistyped key is an error that names the key, its path and the nearest valid key, and all problems of a
// text are reported together. A [Database] remembers which settings were given; [Database.Settings] fills in
// the defaults.
//
// # Strings in back quotes
//
// A value may be written between back quotes over several lines, as JavaScript usually is. A value in double
// quotes whose text itself begins and ends with a back quote loses those two.
//
// # Environment variables
//
// In files, and only there, $NAME, ${NAME} and ${NAME:-default} inside a string value are replaced by the
// environment's value, and $$ by a dollar. JavaScript is left alone (sync, import_filter,
// custom_conflict_resolver, a webhook's filter), and so is everything in back quotes: a dollar is an ordinary
// character of regular expressions and template strings. Where a number or a boolean is wanted, the variable
// is written without quotes: "revs_limit": $LIMIT.
package config
