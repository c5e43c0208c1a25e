// Command tidegate is the sync server and its tools: `tidegate serve` runs a gateway, the others look after
// one. See `tidegate help`.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
)

// version is set by the linker (see the Makefile); builds without it use what Go knows of the module.
var version = ""

func main() {
	// The first signal ends the context, which drains; stop then lets a second one end the process at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	err := run(ctx, os.Args[1:], os.LookupEnv, stdio{os.Stdin, os.Stdout, os.Stderr})
	if err != nil {
		if err.Error() != "" {
			fmt.Fprintln(os.Stderr, "tidegate:", err)
		}
		os.Exit(exitCode(err))
	}
}

// stdio are the standard streams.
type stdio struct {
	in       io.Reader
	out, err io.Writer
}

// env looks up an environment variable, as os.LookupEnv.
type env func(name string) (string, bool)

// command is one of the program's commands.
type command struct {
	name    string
	summary string
	run     func(ctx context.Context, args []string, getenv env, std stdio) error
}

// commands is the table of all commands, in the order in which help shows them.
func commands() []command {
	return []command{
		{"serve", "run a gateway", serveCommand},
		{"replicate", "copy a database of a gateway to or from another gateway, and show how it goes", replicateCommand},
		{"resync", "run a changed sync function over what is stored, and show how it goes", resyncCommand},
		{"device-sync", "pause, resume, terminate and enable device sync of a database, and show its clients", deviceSyncCommand},
		{"backup", "write everything that a gateway stores into one file", backupCommand},
		{"restore", "put a backup into an empty store", restoreCommand},
		{"move", "copy everything from one store to another", moveCommand},
		{"plan", "tell what a sync function would change, and change nothing", planCommand},
		{"why", "tell why a user sees a document or does not", whyCommand},
		{"clustersync", "sync two clusters, with the API of mongosync: copy, follow, cut over, reverse", clusterSyncCommand},
		{"fsck", "check a data directory whose gateway is stopped", fsckCommand},
		{"bench", "drive a running gateway and print what it does", benchCommand},
		{"admin", "make, list and delete API keys, for the App Services API and the console", adminCommand},
		{"hash-password", "print the hash of a password, for administrators in a config file", hashPasswordCommand},
		{"version", "print the version", versionCommand},
	}
}

// run carries out one command line.
func run(ctx context.Context, args []string, getenv env, std stdio) error {
	if len(args) == 0 {
		help(std.err)
		return errUsage
	}
	name := args[0]
	if name == "help" || name == "-h" || name == "--help" {
		if len(args) > 1 && name == "help" {
			return run(ctx, []string{args[1], "--help"}, getenv, std)
		}
		help(std.out)
		return nil
	}
	var names []string
	for _, c := range commands() {
		if c.name == name {
			return c.run(ctx, args[1:], getenv, std)
		}
		names = append(names, c.name)
	}
	return usageErrorf("unknown command %q%s; try `tidegate help`", name, didYouMean(name, names))
}

func help(w io.Writer) {
	fmt.Fprint(w, "tidegate keeps documents in step: between devices and a gateway, between gateways, between clusters.\n\nUsage: tidegate COMMAND [flags]\n\n")
	for _, c := range commands() {
		fmt.Fprintf(w, "  %-14s %s\n", c.name, c.summary)
	}
	fmt.Fprint(w, "\n`tidegate COMMAND --help` tells more of a command.\n")
}

// errUsage is a command line that was not understood.
var errUsage = errors.New("usage")

type usageError struct{ text string }

func (e *usageError) Error() string        { return e.text }
func (e *usageError) Is(target error) bool { return target == errUsage }

func usageErrorf(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

// exitCode is 2 for a command line that was not understood, 3 for a comparison that found differences, 130 for a command that was
// interrupted, else 1, unless the command says otherwise.
func exitCode(err error) int {
	status, ok := errors.AsType[*exitStatus](err)
	switch {
	case ok:
		return status.code
	case errors.Is(err, errUsage):
		return 2
	case errors.Is(err, errDiffer):
		return exitDiffer
	case errors.Is(err, errInterrupted):
		return 130
	}
	return 1
}

// newFlags makes the flag set of a command, with its help text. parseFlags reads it.
func newFlags(name, text string, std stdio) *flag.FlagSet {
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.SetOutput(io.Discard) // errors are returned, and help is printed by parseFlags
	fs.Usage = func() {
		fmt.Fprintf(std.out, "%s\nFlags:\n", strings.TrimLeft(text, "\n"))
		fs.SetOutput(std.out)
		fs.PrintDefaults()
		fs.SetOutput(io.Discard)
	}
	return fs
}

// errHelp says that help was asked for and has been printed.
var errHelp = errors.New("help was printed")

// parseFlags parses args; a command takes no arguments but flags.
func parseFlags(fs *flag.FlagSet, args []string) error {
	err := parseLeading(fs, args)
	if err == nil && fs.NArg() > 0 {
		return usageErrorf("unexpected argument %q; try `tidegate %s --help`", fs.Arg(0), fs.Name())
	}
	return err
}

// parseLeading parses the flags that args begin with.
func parseLeading(fs *flag.FlagSet, args []string) error {
	err := fs.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return errHelp
	case err != nil:
		if name, ok := strings.CutPrefix(err.Error(), "flag provided but not defined: -"); ok {
			var names []string
			fs.VisitAll(func(f *flag.Flag) { names = append(names, f.Name) })
			return usageErrorf("unknown flag --%s%s; try `tidegate %s --help`", name, didYouMean(name, names), fs.Name())
		}
		return usageErrorf("%v", err)
	}
	return nil
}

// didYouMean returns a hint at the nearest name, if one is near.
func didYouMean(name string, names []string) string {
	best, distance := "", 3
	for _, n := range names {
		if d := editDistance(name, n); d < distance {
			best, distance = n, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %q?)", best)
}

// editDistance counts the insertions, deletions and replacements between two short words.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}

func versionCommand(_ context.Context, args []string, _ env, std stdio) error {
	fs := newFlags("version", "Usage: tidegate version\n\nPrints the version.\n", std)
	if err := parseFlags(fs, args); err != nil {
		return ignoreHelp(err)
	}
	_, err := fmt.Fprintln(std.out, "tidegate", productVersion())
	return err
}

// ignoreHelp turns errHelp into success.
func ignoreHelp(err error) error {
	if errors.Is(err, errHelp) {
		return nil
	}
	return err
}

// productVersion is the version of this build.
func productVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "dev"
}
