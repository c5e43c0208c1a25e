package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/crypto/bcrypt"
)

const hashPasswordHelp = `
Usage: tidegate hash-password [--cost N] < FILE

Reads a password from standard input (one line) and prints its bcrypt hash, for
auth.administrators.NAME.password_hash in a config file.
`

// maxPasswordBytes is what bcrypt looks at.
const maxPasswordBytes = 72

// hashPasswordCommand prints the hash of a password.
func hashPasswordCommand(_ context.Context, args []string, _ env, std stdio) error {
	fs := newFlags("hash-password", hashPasswordHelp, std)
	cost := fs.Int("cost", bcrypt.DefaultCost, "bcrypt `cost`, 10 to 31; each step doubles the time of a login")
	if err := parseFlags(fs, args); err != nil {
		return ignoreHelp(err)
	}
	if *cost < bcrypt.DefaultCost || *cost > bcrypt.MaxCost {
		return usageErrorf("--cost must be from %d to %d", bcrypt.DefaultCost, bcrypt.MaxCost)
	}
	line, err := bufio.NewReader(io.LimitReader(std.in, 4096)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read password: %w", err)
	}
	password := strings.TrimRight(line, "\r\n")
	if len(password) < 3 || len(password) > maxPasswordBytes {
		return fmt.Errorf("a password has 3 to %d bytes", maxPasswordBytes)
	}
	hash, err := bcrypt.GenerateFromPassword([]byte(password), *cost)
	if err != nil {
		return fmt.Errorf("hash password: %w", err)
	}
	_, err = fmt.Fprintln(std.out, string(hash))
	return err
}
