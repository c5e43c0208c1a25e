package rest

import (
	"runtime"
	"sync"
)

// feedWorkers are the goroutines that read and encode entries for live feeds. They are there while there are
// live feeds; their number bounds how many feeds read the store at one time.
type feedWorkers struct {
	mu    sync.Mutex
	feeds int
	jobs  chan *liveFeed
}

// workersPerProcessor is how many workers there are for each processor.
const workersPerProcessor = 2

// join counts a feed in.
func (p *feedWorkers) join() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.feeds++; p.feeds > 1 {
		return
	}
	jobs := make(chan *liveFeed)
	p.jobs = jobs
	for range workersPerProcessor * runtime.GOMAXPROCS(0) {
		go func() {
			for f := range jobs {
				f.load()
				f.ready <- struct{}{}
			}
		}()
	}
}

// leave counts a feed out.
func (p *feedWorkers) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.feeds--; p.feeds == 0 {
		close(p.jobs)
	}
}

// do has a worker load f. false: the database left before f came to its turn.
func (p *feedWorkers) do(f *liveFeed) bool {
	select {
	case p.current() <- f:
	case <-f.leaving.Done():
		return false
	}
	<-f.ready // load ends soon when the database leaves
	return true
}

// current is the channel of jobs. It does not change while any feed is counted in.
func (p *feedWorkers) current() chan<- *liveFeed {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.jobs
}
