// Writes a run that Tracker's agent ships: a record stream (docs/record-format.md) with the standard library alone.
//
//	go build -o writer writer.go
//	./writer SPOOL RUN [STEPS [PAUSE_S]]
package main

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

const (
	kindHeader  = 0
	kindMetrics = 1
	kindConfig  = 4
	kindRun     = 6
	kindExit    = 9
	kindLost    = 13
)

// pair is one entry of a map: unlike Go's own maps, they keep their order.
type pair struct {
	name  string
	value any
}

// pack appends a value as msgpack.
func pack(to []byte, value any) []byte {
	switch v := value.(type) {
	case nil:
		return append(to, 0xc0)
	case int:
		return pack(to, int64(v))
	case int64:
		switch {
		case v >= -32 && v < 128:
			return append(to, byte(v))
		case v >= 0 && v <= math.MaxUint32:
			return binary.BigEndian.AppendUint32(append(to, 0xce), uint32(v))
		}
		return binary.BigEndian.AppendUint64(append(to, 0xd3), uint64(v))
	case float64:
		return binary.BigEndian.AppendUint64(append(to, 0xcb), math.Float64bits(v))
	case string:
		if len(v) < 32 {
			to = append(to, 0xa0|byte(len(v)))
		} else {
			to = binary.BigEndian.AppendUint32(append(to, 0xdb), uint32(len(v)))
		}
		return append(to, v...)
	case []byte: // in the shortest form, which a line must have around its body
		switch {
		case len(v) < 0x100:
			to = append(to, 0xc4, byte(len(v)))
		case len(v) < 0x10000:
			to = binary.BigEndian.AppendUint16(append(to, 0xc5), uint16(len(v)))
		default:
			to = binary.BigEndian.AppendUint32(append(to, 0xc6), uint32(len(v)))
		}
		return append(to, v...)
	case []any:
		to = binary.BigEndian.AppendUint16(append(to, 0xdc), uint16(len(v)))
		for _, each := range v {
			to = pack(to, each)
		}
		return to
	case []pair:
		to = binary.BigEndian.AppendUint16(append(to, 0xde), uint16(len(v)))
		for _, each := range v {
			to = pack(pack(to, each.name), each.value)
		}
		return to
	}
	panic(fmt.Sprintf("%T cannot be packed", value))
}

// stream is what this process writes of a run.
type stream struct {
	id      [16]byte
	file    *os.File
	lock    *os.File // kept, since a file that Go collects is closed, and with it the lock is gone
	started time.Time
	lost    int
	reason  string
}

// now returns the wall clock at the start plus what the monotonic clock has counted since.
func (s *stream) now() int64 {
	return s.started.UnixNano() + int64(time.Since(s.started))
}

// append writes one line by one write(). If that fails nothing of the line remains.
func (s *stream) append(kind int, body []byte) error {
	var seed uint32
	if kind != kindHeader {
		seeded := append(append([]byte{}, s.id[:]...), 0, 0, 0, 0, byte(kind>>8), byte(kind))
		seed = crc32.ChecksumIEEE(seeded)
	}
	line := []byte{0x93, byte(kind), 0xce}
	line = binary.BigEndian.AppendUint32(line, crc32.Update(seed, crc32.IEEETable, body))
	line = pack(line, body)
	written, err := s.file.Write(line)
	if err != nil && written > 0 {
		if status, problem := s.file.Stat(); problem == nil {
			_ = s.file.Truncate(status.Size() - int64(written))
		}
	}
	return err
}

// record appends a record, or counts it as lost, and says how many were as soon as there is room again.
func (s *stream) record(kind int, fields ...any) {
	if s.lost > 0 && s.append(kindLost, pack(nil, []any{s.now(), s.lost, s.reason})) == nil {
		s.lost = 0
	}
	if err := s.append(kind, pack(nil, append([]any{s.now()}, fields...))); err != nil {
		s.lost++
		s.reason = err.Error()
	}
}

func (s *stream) end(code int) {
	s.record(kindExit, code, nil)
	s.file.Close()
	s.lock.Close()
}

// begin takes the lock first, then makes segment 0 with its HEADER.
func begin(spool, run string) (*stream, error) {
	directory := filepath.Join(spool, strconv.Itoa(os.Geteuid()), run)
	if err := os.MkdirAll(directory, 0o770); err != nil {
		return nil, err
	}
	s := &stream{started: time.Now()}
	clock := monotonic()
	if _, err := rand.Read(s.id[:]); err != nil {
		return nil, err
	}
	name := filepath.Join(directory, fmt.Sprintf("%x", s.id))
	flags := os.O_WRONLY | os.O_CREATE | os.O_EXCL | syscall.O_NOFOLLOW
	var err error
	if s.lock, err = os.OpenFile(name+".live", flags, 0o660); err != nil {
		return nil, err
	}
	whole := syscall.Flock_t{Type: syscall.F_WRLCK}
	if err = syscall.FcntlFlock(s.lock.Fd(), syscall.F_SETLK, &whole); err != nil {
		return nil, err
	}
	if s.file, err = os.OpenFile(name+".000000.mpl", flags|os.O_APPEND, 0o660); err != nil {
		return nil, err
	}
	host, _ := os.Hostname()
	return s, s.append(kindHeader, pack(nil, []pair{
		{"version", 1},
		{"stream", s.id[:]},
		{"segment", 0},
		{"base", 0},
		{"machine", machineID(host)},
		{"boot", text("/proc/sys/kernel/random/boot_id")},
		{"pid", os.Getpid()},
		{"started", s.started.UnixNano()},
		{"clock", clock},
		{"writer", "example-go/1"},
		{"run", run},
		{"host", host},
	}))
}

func machineID(host string) string {
	source := text("/etc/machine-id")
	if source == "" {
		source = "host:" + host
	}
	return fmt.Sprintf("%x", sha256.Sum256([]byte("tracker machine\x00"+source)))[:32]
}

// monotonic returns CLOCK_MONOTONIC in ns, which the time package keeps to itself.
func monotonic() int64 {
	var at syscall.Timespec
	syscall.Syscall(syscall.SYS_CLOCK_GETTIME, 1, uintptr(unsafe.Pointer(&at)), 0)
	return at.Nano()
}

func text(path string) string {
	data, _ := os.ReadFile(path)
	return strings.TrimSpace(string(bytes.ToValidUTF8(data, nil)))
}

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: writer SPOOL RUN [STEPS [PAUSE_S]]")
		os.Exit(2)
	}
	steps, pause := 100, 0.0
	if len(os.Args) > 3 {
		steps, _ = strconv.Atoi(os.Args[3])
	}
	if len(os.Args) > 4 {
		pause, _ = strconv.ParseFloat(os.Args[4], 64)
	}
	s, err := begin(os.Args[1], os.Args[2])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	s.record(kindRun, []pair{{"project", "writers"}, {"name", "written in Go"}})
	s.record(kindConfig, []pair{{"learning_rate", 0.1}, {"steps", steps}}, []any{})
	for step := 0; step < steps; step++ {
		s.record(kindMetrics, step, []pair{{"loss", 1 / float64(step+1)}, {"seen", 1000 * step}})
		time.Sleep(time.Duration(pause * float64(time.Second)))
	}
	s.end(0)
}
