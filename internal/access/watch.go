package access

// watches are who waits for changes of which user. Its owner locks it.
type watches struct {
	byName map[string]*watched
	byRole map[string]map[*watched]struct{}
	// unknown are those whose roles are not known: any change of a role wakes them.
	unknown map[*watched]struct{}
}

// watched is a user that somebody watches.
type watched struct {
	name     string
	watchers map[*watcher]struct{}
	roles    []string
}

// watcher is one who watches.
type watcher struct{ changed func() }

func newWatches() watches {
	return watches{
		byName: map[string]*watched{}, byRole: map[string]map[*watched]struct{}{},
		unknown: map[*watched]struct{}{},
	}
}

// Watch calls changed after each change of what the named user may see, or of whether it may see anything: several
// changes may share one call, and a call may come without a change, but after a change a call comes. "" or GUEST
// is the guest. The caller must call stop once; a call that had begun by then may end after it.
//
// changed is called by whoever made the change or follows the store, with no lock held that stop needs, and
// maybe by several at once. It must not block, nor ask the registry anything.
//
// Call Watch, then User, then wait; User after each call.
func (r *Registry) Watch(name string, changed func()) (stop func()) {
	name = userKey(name)[len(userPrefix):]
	own := &watcher{changed}
	r.mu.Lock()
	defer r.mu.Unlock()
	w := r.watched.byName[name]
	if w == nil {
		w = &watched{name: name, watchers: map[*watcher]struct{}{}}
		r.watched.byName[name] = w
		r.watched.unknown[w] = struct{}{}
		if u, ok := r.users.get(name); ok {
			r.watched.noteRoles(name, u.rec.roleNames())
		}
	}
	w.watchers[own] = struct{}{}
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.watched.remove(w, own)
	}
}

func (s *watches) remove(w *watched, own *watcher) {
	delete(w.watchers, own)
	if len(w.watchers) > 0 || s.byName[w.name] != w {
		return
	}
	s.forgetRoles(w)
	delete(s.unknown, w)
	delete(s.byName, w.name)
}

// noteRoles remembers which roles the named user has, if it is watched.
func (s *watches) noteRoles(name string, roles []string) {
	w := s.byName[name]
	if w == nil {
		return
	}
	s.forgetRoles(w)
	delete(s.unknown, w)
	w.roles = roles
	for _, role := range roles {
		if s.byRole[role] == nil {
			s.byRole[role] = map[*watched]struct{}{}
		}
		s.byRole[role][w] = struct{}{}
	}
}

func (s *watches) forgetRoles(w *watched) {
	for _, role := range w.roles {
		delete(s.byRole[role], w)
		if len(s.byRole[role]) == 0 {
			delete(s.byRole, role)
		}
	}
	w.roles = nil
}

// wakeUser adds who watches the user to those to be woken. Which roles it has is not known from now on, until it
// is loaded.
func (s *watches) wakeUser(name string, woken []*watcher) []*watcher {
	w := s.byName[name]
	if w == nil {
		return woken
	}
	s.forgetRoles(w)
	s.unknown[w] = struct{}{}
	return w.wake(woken)
}

// wakeRole adds who watches a user that has the role, or may have it.
func (s *watches) wakeRole(role string, woken []*watcher) []*watcher {
	for w := range s.byRole[role] {
		woken = w.wake(woken)
	}
	for w := range s.unknown {
		woken = w.wake(woken)
	}
	return woken
}

func (s *watches) wakeAll() (woken []*watcher) {
	for _, w := range s.byName {
		woken = w.wake(woken)
	}
	return woken
}

func (w *watched) wake(woken []*watcher) []*watcher {
	for own := range w.watchers {
		woken = append(woken, own)
	}
	return woken
}

// tell calls those who are to be woken. No lock is held.
func tell(woken []*watcher) {
	for _, w := range woken {
		w.changed()
	}
}
