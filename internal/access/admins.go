package access

import (
	"context"
	"fmt"
	"slices"

	"golang.org/x/crypto/bcrypt"

	"github.com/tidegate/tidegate"
)

// AdminAccount is an account of the admin and metrics listeners (gateway-rest.md §5.2).
type AdminAccount struct {
	Name         string
	PasswordHash Secret   // bcrypt
	Roles        []string // of AdminRoles
	Databases    []string // that the database roles are for; empty: all
}

// Admin is an administrator who has logged in.
type Admin struct {
	name      string
	databases []string // nil: none; else those it may do everything in
	all       bool     // databases: all of them
	read      bool     // server-level reading, metrics
	write     bool     // server-level writing, and all databases
}

// adminRoles are the roles an account may have.
var adminRoles = map[string]func(*Admin, []string){
	"mobile_sync_gateway": databaseRole,
	"bucket_full_access":  databaseRole,
	"bucket_admin":        databaseRole,
	"ro_admin":            func(a *Admin, _ []string) { a.read = true },
	"cluster_admin":       func(a *Admin, _ []string) { a.read, a.write, a.all = true, true, true },
	"admin":               func(a *Admin, _ []string) { a.read, a.write, a.all = true, true, true },
}

func databaseRole(a *Admin, databases []string) {
	a.databases = append(a.databases, databases...)
	a.all = a.all || len(databases) == 0
}

// Name returns the account's name.
func (a *Admin) Name() string { return a.name }

// MayDatabase reports whether the administrator may do everything in the named database.
func (a *Admin) MayDatabase(name string) bool { return a.all || slices.Contains(a.databases, name) }

// MayReadServer reports whether the administrator may read what concerns all databases, and metrics.
func (a *Admin) MayReadServer() bool { return a.read }

// MayWriteServer reports whether the administrator may change what concerns all databases, and make some.
func (a *Admin) MayWriteServer() bool { return a.write }

// AdminAccounts are the administrators of a process.
type AdminAccounts struct {
	passwords *Passwords
	accounts  map[string]adminEntry
}

type adminEntry struct {
	admin *Admin
	hash  []byte
}

// NewAdminAccounts returns the accounts; passwords checks them. Invalid: a name twice or empty, an unknown
// role, a hash that is none; the reason names the account.
func NewAdminAccounts(accounts []AdminAccount, passwords *Passwords) (*AdminAccounts, error) {
	a := &AdminAccounts{passwords: passwords, accounts: make(map[string]adminEntry, len(accounts))}
	for _, account := range accounts {
		admin := &Admin{name: account.Name}
		for _, role := range account.Roles {
			grant := adminRoles[role]
			if grant == nil {
				return nil, tidegate.Errorf(tidegate.Invalid, "administrator %q: unknown role %q", account.Name, role)
			}
			grant(admin, account.Databases)
		}
		if _, twice := a.accounts[account.Name]; twice || account.Name == "" {
			return nil, tidegate.Errorf(tidegate.Invalid, "administrator %q: the name is empty or there twice", account.Name)
		}
		if _, err := bcrypt.Cost([]byte(account.PasswordHash.Reveal())); err != nil {
			return nil, tidegate.Errorf(tidegate.Invalid, "administrator %q: the password hash is not a bcrypt hash", account.Name)
		}
		a.accounts[account.Name] = adminEntry{admin, []byte(account.PasswordHash.Reveal())}
	}
	return a, nil
}

// Len returns how many accounts there are.
func (a *AdminAccounts) Len() int { return len(a.accounts) }

// Account returns the administrator of a name, who is not logged in by that; nil if there is none.
func (a *AdminAccounts) Account(name string) *Admin { return a.accounts[name].admin }

// Authenticate checks an administrator's name and password, with the errors of Registry.Authenticate.
func (a *AdminAccounts) Authenticate(ctx context.Context, name, password, remoteAddr string) (*Admin, error) {
	entry := a.accounts[name]
	ok, _, err := a.passwords.check(ctx, remoteAddr, "admin:"+name, entry.hash, password)
	if err != nil {
		return nil, fmt.Errorf("check administrator: %w", err)
	}
	if !ok || entry.admin == nil {
		return nil, errInvalidLogin
	}
	return entry.admin, nil
}
