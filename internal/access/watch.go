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
	name    string
	signals map[chan struct{}]struct{}
	roles   []string
}

func newWatches() watches {
	return watches{
		byName: map[string]*watched{}, byRole: map[string]map[*watched]struct{}{},
		unknown: map[*watched]struct{}{},
	}
}

// Watch returns a channel that gets a value after each change of what the named user may see, or of whether
// it may see anything: several changes may share one value, and a value may come without a change, but after
// a change a value comes. "" or GUEST is the guest. The caller must call stop once.
//
// Call Watch, then User, then wait; User after each value.
func (r *Registry) Watch(name string) (changed <-chan struct{}, stop func()) {
	name = userKey(name)[len(userPrefix):]
	signal := make(chan struct{}, 1)
	r.mu.Lock()
	defer r.mu.Unlock()
	w := r.watched.byName[name]
	if w == nil {
		w = &watched{name: name, signals: map[chan struct{}]struct{}{}}
		r.watched.byName[name] = w
		r.watched.unknown[w] = struct{}{}
		if u, ok := r.users.get(name); ok {
			r.watched.noteRoles(name, u.rec.roleNames())
		}
	}
	w.signals[signal] = struct{}{}
	return signal, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.watched.remove(w, signal)
	}
}

func (s *watches) remove(w *watched, signal chan struct{}) {
	delete(w.signals, signal)
	if len(w.signals) > 0 || s.byName[w.name] != w {
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

// wakeUser wakes who watches the user. Which roles it has is not known from now on, until it is loaded.
func (s *watches) wakeUser(name string) {
	if w := s.byName[name]; w != nil {
		s.forgetRoles(w)
		s.unknown[w] = struct{}{}
		w.wake()
	}
}

// wakeRole wakes who watches a user that has the role, or may have it.
func (s *watches) wakeRole(role string) {
	for w := range s.byRole[role] {
		w.wake()
	}
	for w := range s.unknown {
		w.wake()
	}
}

func (s *watches) wakeAll() {
	for _, w := range s.byName {
		w.wake()
	}
}

func (w *watched) wake() {
	for signal := range w.signals {
		select {
		case signal <- struct{}{}:
		default: // one is waiting already
		}
	}
}
