package telemetry

import (
	"bufio"
	"bytes"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Process measures what the process and its machine use. It is safe for concurrent use.
type Process struct {
	started time.Time

	mu              sync.Mutex // guards what follows
	goroutinesMax   int
	at              time.Time     // of the last measurement
	cpu             time.Duration // of the process until then
	busy, total     uint64        // ticks of the machine until then
	percent, node   int64
	memStats        runtime.MemStats
	memStatsTakenAt time.Time
}

// NewProcess begins to measure.
func NewProcess() *Process {
	p := &Process{started: time.Now(), at: time.Now(), cpu: cpuTime()}
	p.busy, p.total = machineTicks()
	return p
}

// minInterval is the shortest time over which a percentage is computed, and for which figures that stop the
// world to be read are kept: several scrapers at once cost no more than one.
const minInterval = time.Second

// Figures returns the group resource_utilization, less what others count.
func (p *Process) Figures() Figures {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.measure(time.Now())
	m := &p.memStats
	return Figures{
		"go_memstats_heapalloc":           int64(m.HeapAlloc),
		"go_memstats_heapidle":            int64(m.HeapIdle),
		"go_memstats_heapinuse":           int64(m.HeapInuse),
		"go_memstats_heapreleased":        int64(m.HeapReleased),
		"go_memstats_pausetotalns":        int64(m.PauseTotalNs),
		"go_memstats_stackinuse":          int64(m.StackInuse),
		"go_memstats_stacksys":            int64(m.StackSys),
		"go_memstats_sys":                 int64(m.Sys),
		"num_goroutines":                  int64(runtime.NumGoroutine()),
		"goroutines_high_watermark":       int64(p.goroutinesMax),
		"process_cpu_percent_utilization": p.percent,
		"node_cpu_percent_utilization":    p.node,
		"process_memory_resident":         residentBytes(),
		"system_memory_total":             totalMemory(),
		"uptime":                          int64(time.Since(p.started)),
	}
}

// measure updates what is computed between two moments.
func (p *Process) measure(now time.Time) {
	p.goroutinesMax = max(p.goroutinesMax, runtime.NumGoroutine())
	if now.Sub(p.memStatsTakenAt) >= minInterval {
		runtime.ReadMemStats(&p.memStats)
		p.memStatsTakenAt = now
	}
	wall := now.Sub(p.at)
	if wall < minInterval {
		return
	}
	cpu := cpuTime()
	p.percent = int64(100 * (cpu - p.cpu) / wall)
	busy, total := machineTicks()
	if total > p.total {
		p.node = int64(100 * (busy - p.busy) / (total - p.total))
	}
	p.at, p.cpu, p.busy, p.total = now, cpu, busy, total
}

// cpuTime is the processor time that the process has used.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// residentBytes is the memory that the process has in RAM; 0 where the system does not tell it this way.
func residentBytes() int64 {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := bytes.Fields(text)
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(string(fields[1]), 10, 64) // 0 if it is no number
	return pages * int64(os.Getpagesize())
}

// totalMemory is the RAM of the machine in bytes; 0 where the system does not tell it this way.
func totalMemory() int64 {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), "MemTotal:"); ok {
			kib, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64) // 0 if it is no number
			return kib << 10
		}
	}
	return 0
}

// machineTicks are the ticks that all processors of the machine were busy, and all there were; 0 where the
// system does not tell them this way.
func machineTicks() (busy, total uint64) {
	f, err := os.Open("/proc/stat")
	if err != nil {
		return 0, 0
	}
	defer f.Close()
	line, err := bufio.NewReader(f).ReadString('\n')
	if err != nil {
		return 0, 0
	}
	return parseTicks(line)
}

// parseTicks reads the first line of /proc/stat: "cpu user nice system idle iowait irq …".
func parseTicks(line string) (busy, total uint64) {
	fields := strings.Fields(line)
	if len(fields) < 6 || fields[0] != "cpu" {
		return 0, 0
	}
	for i, f := range fields[1:] {
		n, err := strconv.ParseUint(f, 10, 64)
		if err != nil {
			return 0, 0
		}
		if i >= 8 { // guest times are within user times
			break
		}
		total += n
		if i != 3 && i != 4 {
			busy += n
		}
	}
	return busy, total
}
