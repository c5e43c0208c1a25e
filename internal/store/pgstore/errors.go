package pgstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// unavailable wraps an error of the connection. The driver's texts name host and user, never the password.
func unavailable(doing string, err error) error {
	return tidegate.Errorf(tidegate.Unavailable, "%s: %v", doing, err)
}

// Classes of SQLSTATE (PostgreSQL manual, appendix A).
const (
	stateUniqueViolation   = "23505"
	stateDuplicateTable    = "42P07"
	stateDuplicateSchema   = "42P06"
	stateUndefinedColumn   = "42703"
	stateIdleInTransaction = "25P03"
	stateProgramLimit      = "54000" // an index row is too large: the key is
	stateDiskFull          = "53100"
)

// retryable reports whether the same work may succeed if it is done again: the connection was lost, the server is starting or
// stopping, or transactions got into each other's way.
func retryable(err error) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, store.ErrFenced)
	}
	switch pg.Code[:2] {
	case "08", "57", "40": // connection, operator intervention (shutdown, crash), transaction rollback
		return true
	case "25": // the server ended a transaction that stood still, as one of a process that was stopped
		return pg.Code == stateIdleInTransaction
	case "53": // resources: too many connections is worth waiting for, a full disk is not
		return pg.Code == "53300"
	}
	return false
}

// translate gives an error of the database the code that callers know.
func translate(doing string, err error) error {
	var pg *pgconn.PgError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: %w", doing, err)
	case retryable(err):
		return unavailable(doing, err)
	case errors.As(err, &pg) && pg.Code == stateProgramLimit:
		return tidegate.Errorf(tidegate.TooLarge, "%s: a key is too long for the database", doing)
	case errors.As(err, &pg) && pg.Code == stateDiskFull:
		return tidegate.Errorf(tidegate.Unavailable, "%s: the database's disk is full", doing)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

func hasState(err error, states ...string) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return false
	}
	for _, state := range states {
		if pg.Code == state {
			return true
		}
	}
	return false
}
