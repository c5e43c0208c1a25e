package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// Report is what a run measured.
type Report struct {
	Server string `json:"server"`
	URL    string `json:"url"`
	Rows   []Row  `json:"rows"`
}

// Row is one measurement. Zero durations were not measured.
type Row struct {
	Name    string        `json:"name"`
	Clients int           `json:"clients"`
	Value   float64       `json:"value"`
	Unit    string        `json:"unit"`
	P50     time.Duration `json:"p50_ns,omitempty"`
	P99     time.Duration `json:"p99_ns,omitempty"`
	CPU     time.Duration `json:"server_cpu_per_document_ns,omitempty"`
	PeerCPU time.Duration `json:"peer_cpu_per_document_ns,omitempty"`
	Wire    float64       `json:"wire_bytes_per_document,omitempty"` // both ways together
}

// String returns the row as one line of progress.
func (r Row) String() string {
	s := fmt.Sprintf("%-34s %5d  %12.1f %s", r.Name, r.Clients, r.Value, r.Unit)
	if r.CPU > 0 {
		s += fmt.Sprintf("  (%s of server CPU each)", r.CPU.Round(100*time.Nanosecond))
	}
	if r.PeerCPU > 0 {
		s += fmt.Sprintf("  (%s of the peer's)", r.PeerCPU.Round(100*time.Nanosecond))
	}
	if r.Wire > 0 {
		s += fmt.Sprintf("  (%.0f bytes on the wire each)", r.Wire)
	}
	return s
}

// WriteTable writes the report for people.
func (r *Report) WriteTable(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 2, 4, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "%s at %s\n", r.Server, r.URL)
	fmt.Fprintln(tw, "work\tclients\tvalue\tunit\tp50\tp99\tserver CPU each\tpeer CPU each\twire bytes each\t")
	for _, row := range r.Rows {
		fmt.Fprintf(tw, "%s\t%d\t%.1f\t%s\t%s\t%s\t%s\t%s\t%s\t\n", row.Name, row.Clients, row.Value, row.Unit,
			short(row.P50), short(row.P99), short(row.CPU), short(row.PeerCPU), count(row.Wire))
	}
	return tw.Flush()
}

// WriteJSON writes the report for machines.
func (r *Report) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

func short(d time.Duration) string {
	switch {
	case d == 0:
		return "–"
	case d < time.Millisecond:
		return fmt.Sprintf("%.1fµs", float64(d)/1e3)
	default:
		return fmt.Sprintf("%.2fms", float64(d)/1e6)
	}
}

func count(n float64) string {
	if n == 0 {
		return "–"
	}
	return strconv.FormatFloat(n, 'f', 0, 64)
}

// ticksPerSecond is USER_HZ, which Linux fixes at 100 for what it shows to programs.
const ticksPerSecond = 100

// processesCPU returns the CPU time that processes have used together.
func processesCPU(pids []int) time.Duration {
	var used time.Duration
	for _, pid := range pids {
		used += processCPU(pid)
	}
	return used
}

// processesRSS returns the resident memory of processes in bytes.
func processesRSS(pids []int) int64 {
	var rss int64
	for _, pid := range pids {
		rss += processRSS(pid)
	}
	return rss
}

// processCPU returns the CPU time the process has used, 0 if it cannot be read.
func processCPU(pid int) time.Duration {
	if pid == 0 {
		return 0
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The name in parentheses may hold spaces; fields 14 and 15 (utime, stime) are counted behind it.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.ParseInt(fields[11], 10, 64)
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * time.Second / ticksPerSecond
}

// processRSS returns the resident memory of the process in bytes, 0 if it cannot be read.
func processRSS(pid int) int64 {
	if pid == 0 {
		return 0
	}
	statm, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(statm))
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize())
}
