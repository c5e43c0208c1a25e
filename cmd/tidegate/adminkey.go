package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/tidegate/tidegate/internal/access"
	"github.com/tidegate/tidegate/internal/store/pebblestore"
)

const adminHelp = `
Usage: tidegate admin apikey create [--name NAME] [--role ROLE] [flags]
       tidegate admin apikey list [flags]
       tidegate admin apikey delete ID [flags]

Makes, lists and deletes API keys. With one, programs log in to the App Services API (/api/admin/v3.0 on the admin
listener) and people to the console. The private key is printed once, when the key is made, and cannot be had again.

  tidegate admin apikey create                                   # asks the gateway at http://127.0.0.1:4985
  tidegate admin apikey create --name ci --role GROUP_READ_ONLY -o json
  tidegate admin apikey create --data tidegate-data              # while no gateway runs on the data directory

ROLE is GROUP_OWNER (everything) or GROUP_READ_ONLY (reading).

Passwords are best given in the environment: TIDEGATE_ADMIN_PASSWORD is that of --admin-user.
`

// adminKeyOptions are what the command line of `admin apikey` asks for.
type adminKeyOptions struct {
	admin      endpoint
	data       string
	name, role string
	json       bool
}

// adminKeyMade is a new key.
type adminKeyMade struct {
	access.APIKey
	PrivateKey string `json:"private_key"`
}

// adminKeyring makes, lists and deletes keys: over a gateway, or in a data directory that no gateway uses.
type adminKeyring interface {
	create(ctx context.Context, name, role string) (adminKeyMade, error)
	list(ctx context.Context) ([]access.APIKey, error)
	remove(ctx context.Context, id string) error
}

// adminCommand carries out `tidegate admin …`.
func adminCommand(ctx context.Context, args []string, getenv env, std stdio) error {
	verb, id, o, err := parseAdminKey(args, getenv, std)
	if err != nil {
		return ignoreHelp(err)
	}
	keys, done, err := o.keyring()
	if err != nil {
		return err
	}
	defer done()
	switch verb {
	case "create":
		made, err := keys.create(ctx, o.name, o.role)
		if err != nil {
			return fmt.Errorf("make API key: %w", err)
		}
		return printAdminKey(std, made, o.json)
	case "list":
		all, err := keys.list(ctx)
		if err != nil {
			return fmt.Errorf("list API keys: %w", err)
		}
		return printAdminKeys(std, all, o.json)
	default:
		if err := keys.remove(ctx, id); err != nil {
			return fmt.Errorf("delete API key: %w", err)
		}
		return nil
	}
}

// parseAdminKey reads the command line. id is that of a key to delete.
func parseAdminKey(args []string, getenv env, std stdio) (verb, id string, o *adminKeyOptions, err error) {
	o = &adminKeyOptions{}
	fs := newFlags("admin", adminHelp, std)
	admin := fs.String("admin", "http://127.0.0.1:4985", "`URL` of the gateway's admin API")
	fs.StringVar(&o.admin.user, "admin-user", "", "`name` of the administrator, where the admin API asks for a login")
	fs.StringVar(&o.data, "data", "", "data `directory` to work on instead, while no gateway runs on it")
	fs.StringVar(&o.name, "name", "key", "`name` of the new key")
	fs.StringVar(&o.role, "role", access.RoleOwner, "`role` of the new key: GROUP_OWNER or GROUP_READ_ONLY")
	output := fs.String("o", "text", "`form` of the output: text or json")
	words, flags := leadingWords(args)
	if err := parseFlags(fs, flags); err != nil {
		return "", "", nil, err
	}
	o.json = *output == "json"
	o.admin.url = strings.TrimSuffix(*admin, "/")
	o.admin.password, _ = getenv(adminPasswordVariable)
	if u, err := url.Parse(o.admin.url); err != nil || u.Host == "" || u.User != nil {
		return "", "", nil, usageErrorf("--admin: expected a URL such as http://127.0.0.1:4985")
	}
	switch {
	case *output != "text" && *output != "json":
		return "", "", nil, usageErrorf("-o: expected text or json")
	case len(words) < 2 || words[0] != "apikey":
		return "", "", nil, usageErrorf("expected: admin apikey create, list or delete; try `tidegate admin --help`")
	case words[1] == "delete" && len(words) == 3:
		return "delete", words[2], o, nil
	case (words[1] == "create" || words[1] == "list") && len(words) == 2:
		return words[1], "", o, nil
	}
	return "", "", nil, usageErrorf("expected: admin apikey create, list, or delete ID; try `tidegate admin --help`")
}

// leadingWords splits the arguments before the first flag from the others.
func leadingWords(args []string) (words, flags []string) {
	for i, a := range args {
		if strings.HasPrefix(a, "-") {
			return args[:i], args[i:]
		}
	}
	return args, nil
}

// keyring returns where the keys are. done is to be called at the end.
func (o *adminKeyOptions) keyring() (keys adminKeyring, done func(), err error) {
	if o.data == "" {
		return remoteKeys{newDatabaseClient(o.admin)}, func() {}, nil
	}
	dir := filepath.Join(o.data, storeDir)
	if _, err := os.Stat(dir); err != nil {
		return nil, nil, fmt.Errorf("open the data directory: %w", err)
	}
	st, err := pebblestore.Open(dir, pebblestore.Options{})
	if err != nil {
		return nil, nil, fmt.Errorf("open the data directory: %w", err)
	}
	local := access.NewAPIKeys(st, access.NewPasswords(access.PasswordsConfig{}))
	return localKeys{local}, func() { _ = st.Close() }, nil
}

// remoteKeys are the keys of a running gateway.
type remoteKeys struct{ c *databaseClient }

const adminKeysPath = "/_admin_api_keys"

func (k remoteKeys) create(ctx context.Context, name, role string) (made adminKeyMade, err error) {
	err = k.c.request(ctx, http.MethodPost, adminKeysPath, map[string]string{"name": name, "role": role}, &made)
	return made, err
}

func (k remoteKeys) list(ctx context.Context) (all []access.APIKey, err error) {
	err = k.c.request(ctx, http.MethodGet, adminKeysPath, nil, &all)
	return all, err
}

func (k remoteKeys) remove(ctx context.Context, id string) error {
	return k.c.request(ctx, http.MethodDelete, adminKeysPath+"/"+url.PathEscape(id), nil, nil)
}

// localKeys are the keys of a data directory.
type localKeys struct{ keys *access.APIKeys }

func (k localKeys) create(ctx context.Context, name, role string) (adminKeyMade, error) {
	key, private, err := k.keys.Create(ctx, name, role)
	return adminKeyMade{key, private.Reveal()}, err
}

func (k localKeys) list(ctx context.Context) ([]access.APIKey, error) { return k.keys.List(ctx) }

func (k localKeys) remove(ctx context.Context, id string) error { return k.keys.Delete(ctx, id) }

// printAdminKey prints a new key, in JSON as the two halves alone: what programs put into a login.
func printAdminKey(std stdio, made adminKeyMade, asJSON bool) error {
	if asJSON {
		b, err := json.Marshal(map[string]string{"public_key": made.PublicKey, "private_key": made.PrivateKey})
		if err == nil {
			_, err = fmt.Fprintf(std.out, "%s\n", b)
		}
		return err
	}
	_, err := fmt.Fprintf(std.out, "public key   %s\nprivate key  %s\n\nThe private key is not stored and cannot be shown again. Role: %s, id: %s.\n",
		made.PublicKey, made.PrivateKey, made.Role, made.ID)
	return err
}

func printAdminKeys(std stdio, all []access.APIKey, asJSON bool) error {
	if asJSON {
		if all == nil {
			all = []access.APIKey{}
		}
		b, err := json.Marshal(all)
		if err == nil {
			_, err = fmt.Fprintf(std.out, "%s\n", b)
		}
		return err
	}
	w := tabwriter.NewWriter(std.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tPUBLIC KEY\tROLE\tCREATED\tNAME")
	for _, k := range all {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", k.ID, k.PublicKey, k.Role, k.Created.Format(time.RFC3339), k.Name)
	}
	return w.Flush()
}
