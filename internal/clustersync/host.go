package clustersync

import (
	"bytes"
	"strconv"
)

// hostUse is how busy this machine is, in percent; nil where that cannot be known.
type hostUse struct {
	cpu, memory *float64
}

// hostSampler reads what Linux tells in /proc. Elsewhere there is nothing to be read, and nothing is said.
type hostSampler struct {
	read        func(name string) ([]byte, error)
	busy, total float64 // of the processors, when looked last
}

// sample looks. How busy the processors are counts from the last look on; the first one says nothing of them.
func (h *hostSampler) sample() (use hostUse) {
	if text, err := h.read("/proc/stat"); err == nil {
		if busy, total, ok := cpuTimes(text); ok {
			if h.total > 0 && total > h.total {
				use.cpu = new(100 * (busy - h.busy) / (total - h.total))
			}
			h.busy, h.total = busy, total
		}
	}
	if text, err := h.read("/proc/meminfo"); err == nil {
		all, some := memoryOf(text, "MemTotal:")
		free, told := memoryOf(text, "MemAvailable:")
		if some && told && all > 0 {
			use.memory = new(100 * (all - free) / all)
		}
	}
	return use
}

// cpuTimes reads the line "cpu" of /proc/stat: user, nice, system, idle, iowait, irq, softirq, steal, and guests, which are in user and nice already.
func cpuTimes(stat []byte) (busy, total float64, ok bool) {
	for line := range bytes.Lines(stat) {
		fields := bytes.Fields(line)
		if len(fields) < 5 || string(fields[0]) != "cpu" {
			continue
		}
		const counted = 8
		for i, f := range fields[1:min(len(fields), counted+1)] {
			n, err := strconv.ParseFloat(string(f), 64)
			if err != nil {
				return 0, 0, false
			}
			total += n
			if idle, iowait := 3, 4; i != idle && i != iowait {
				busy += n
			}
		}
		return busy, total, true
	}
	return 0, 0, false
}

// memoryOf reads a line of /proc/meminfo, in its kB.
func memoryOf(meminfo []byte, name string) (kB float64, ok bool) {
	for line := range bytes.Lines(meminfo) {
		fields := bytes.Fields(line)
		if len(fields) < 2 || string(fields[0]) != name {
			continue
		}
		n, err := strconv.ParseFloat(string(fields[1]), 64)
		return n, err == nil
	}
	return 0, false
}
