package chaos

import (
	"io"
	"net/http"
)

func (m *mesh) dump() {
	if !m.t.Failed() {
		return
	}
	first, _ := m.gateways[0].contents()
	n := 0
	for id := range first {
		for _, g := range m.gateways[1:] {
			o, _ := g.contents()
			if o[id] != first[id] {
				n++
				if n > 3 {
					continue
				}
				for _, g := range m.gateways {
					for _, q := range []string{"/_raw/" + id, "/" + id + "?revs=true&conflicts=true"} {
						res, err := http.Get(g.url(q))
						if err != nil {
							m.t.Log(err)
							continue
						}
						b, _ := io.ReadAll(res.Body)
						m.t.Logf("%s %s %.3000s", g.name, q, b)
					}
				}
				break
			}
		}
	}
	m.t.Logf("%d differ", n)
	for _, r := range m.runs {
		s, err := m.gateways[r.from].status(r.id)
		m.t.Logf("%s %+v %v", r.id, s, err)
	}
	for _, g := range m.gateways {
		m.t.Logf("LOG %s\n%s", g.name, g.process().log)
	}
}
