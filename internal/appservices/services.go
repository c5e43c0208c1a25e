package appservices

import (
	"cmp"
	"encoding/json"
	"net/http"
	"slices"

	"github.com/tidegate/tidegate/internal/devicesync"
)

// newService is the body that makes a service.
type newService struct {
	Name   string          `json:"name"`
	Type   string          `json:"type"`
	Config json.RawMessage `json:"config"`
}

// serviceView is a service as clients see it: never with a uri or a password.
type serviceView struct {
	ID           string `json:"_id"`
	Name         string `json:"name"`
	Type         string `json:"type"`
	Version      int    `json:"version"`
	LastModified int64  `json:"last_modified"`
}

func viewOf(s *service) serviceView {
	return serviceView{s.ID, s.Name, s.Type, serviceVersion, s.Modified}
}

// newService makes a service of the app in hand from a body, without its sync configuration.
func (c *call) newService(body *newService) (*service, error) {
	if err := validName("service", body.Name); err != nil {
		return nil, err
	}
	switch body.Type {
	case "":
		return nil, missing("type")
	case serviceType, serviceMongo:
	default:
		return nil, invalid("type: expected %s or %s", serviceType, serviceMongo)
	}
	if c.app.find(func(s *service) bool { return s.Name == body.Name }) != nil {
		return nil, fail(http.StatusConflict, codeServiceExists, "there is a service %q already", body.Name)
	}
	svc := &service{ID: c.s.ids.next(), Name: body.Name, Type: body.Type, Modified: c.s.now().Unix()}
	if len(body.Config) == 0 {
		return svc, nil
	}
	patch, err := devicesync.ParsePatch(body.Config)
	if err != nil {
		return nil, err
	}
	svc.Settings, err = mergeService(svc.Settings, patch.Service)
	return svc, err
}

func (c *call) handleListServices() error {
	a, err := c.seen()
	if err != nil {
		return err
	}
	views := []serviceView{}
	for _, svc := range a.Services {
		views = append(views, viewOf(svc))
	}
	return c.reply(http.StatusOK, views)
}

// service returns the service that the path names, of an app.
func (c *call) service(a *app) (*service, error) {
	id := c.vars["service"]
	if svc := a.service(id); svc != nil {
		return svc, nil
	}
	return nil, fail(http.StatusNotFound, codeServiceNotFound, "service not found: %q", printable(id))
}

func (c *call) handleGetService() error {
	a, err := c.seen()
	if err != nil {
		return err
	}
	svc, err := c.service(a)
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, viewOf(svc))
}

// handleCreateService makes a service. A sync configuration in it acts as a PATCH of its configuration (device-sync.md §3.4): if
// that is refused there is no service either.
func (c *call) handleCreateService() error {
	var body newService
	if err := c.decode(&body); err != nil {
		return err
	}
	svc, err := c.newService(&body)
	if err != nil {
		return err
	}
	_, err = c.change(func(p *plan) error {
		p.app.Services = append(p.app.Services, svc)
		if len(body.Config) == 0 {
			return nil
		}
		return p.patchService(svc.ID, body.Config)
	})
	if err != nil {
		return err
	}
	return c.reply(http.StatusCreated, viewOf(svc))
}

// handlePatchService renames a service.
func (c *call) handlePatchService() error {
	var body struct {
		Name *string `json:"name"`
		Type *string `json:"type"`
	}
	if err := c.decode(&body); err != nil {
		return err
	}
	var view serviceView
	_, err := c.change(func(p *plan) error {
		svc, err := c.service(p.app)
		if err != nil {
			return err
		}
		if body.Type != nil && *body.Type != svc.Type {
			return invalid("the type of a service cannot be changed")
		}
		if body.Name != nil && *body.Name != svc.Name {
			if err := validName("service", *body.Name); err != nil {
				return err
			}
			if p.app.find(func(s *service) bool { return s.Name == *body.Name }) != nil {
				return fail(http.StatusConflict, codeServiceExists, "there is a service %q already", *body.Name)
			}
			svc.Name, svc.Modified = *body.Name, c.s.now().Unix()
		}
		view = viewOf(svc)
		return nil
	})
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, view)
}

// handleDeleteService deletes a service. One that syncs is deleted only when that is asked for by name, and sync is terminated.
func (c *call) handleDeleteService() error {
	_, err := c.change(func(p *plan) error {
		svc, err := c.service(p.app)
		if err != nil {
			return err
		}
		if svc.Synced && p.row.Record.State != devicesync.Terminated {
			if !p.destructive {
				return fail(http.StatusBadRequest, devicesync.CodeDestructive,
					"device sync is configured on this service: deleting it terminates sync; insist with allow_destructive_changes=true")
			}
			if err := p.terminate(); err != nil {
				return err
			}
		}
		p.app.Services = slices.DeleteFunc(p.app.Services, func(s *service) bool { return s.ID == svc.ID })
		return nil
	})
	return cmp.Or(err, c.afterNoContent(err))
}

// afterNoContent answers 204 unless there was an error.
func (c *call) afterNoContent(err error) error {
	if err != nil {
		return err
	}
	return c.noContent()
}
