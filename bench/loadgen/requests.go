package main

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"strconv"
	"syscall"
	"time"
)

// requestsWork asks for many answers on keep-alive connections, one request at a time on each.
type requestsWork struct {
	Address       string            `json:"address"`
	Connections   int               `json:"connections"`
	Seconds       float64           `json:"seconds"` // pick requests at random for so long; 0: send each one once
	Seed          uint64            `json:"seed"`
	Authorization string            `json:"authorization"`
	Headers       map[string]string `json:"headers"`
	Status        int               `json:"status"` // the only answer that is right
	Requests      []request         `json:"requests"`
}

type request struct {
	Method string `json:"method"`
	Target string `json:"target"`
	Body   string `json:"body"`
}

// encode is the request as it goes over the wire.
func (work *requestsWork) encode(one request) []byte {
	var wire bytes.Buffer
	fmt.Fprintf(&wire, "%s %s HTTP/1.1\r\nHost: %s\r\n", one.Method, one.Target, work.Address)
	if work.Authorization != "" {
		fmt.Fprintf(&wire, "Authorization: %s\r\n", work.Authorization)
	}
	for name, value := range work.Headers {
		fmt.Fprintf(&wire, "%s: %s\r\n", name, value)
	}
	if one.Method == "PUT" {
		fmt.Fprintf(&wire, "Content-Length: %d\r\n", len(one.Body))
	}
	wire.WriteString("\r\n")
	wire.WriteString(one.Body)
	return wire.Bytes()
}

// asker drives all connections from one thread with epoll: two system calls an answer and no goroutine switches, so
// that it takes as little as can be of the cores it shares with the server.
type asker struct {
	work        *requestsWork
	wires       [][]byte
	heads       []bool // is wires[i] a HEAD, whose answer has a length but no body
	random      *rand.Rand
	next        int // of the requests that are sent once
	epoll       int
	connections map[int32]*asking
	open        int      // requests sent and not yet answered
	took        []uint32 // how many answers took so many microseconds; the last: as many or more
	done        result
}

// slowest is where the answers' times are no longer told apart.
const slowest = 10 * time.Second

// asking is one connection and the answer it is in the middle of.
type asking struct {
	fd       int
	head     bool
	buffer   [64 << 10]byte
	sent     time.Time
	have     int   // bytes of an answer's head in buffer
	bodyLeft int64 // of an answer whose head has been read; -1 while it has not
}

func runRequests(work requestsWork) (result, error) {
	ask := &asker{
		work:        &work,
		random:      rand.New(rand.NewPCG(work.Seed, 0)),
		connections: map[int32]*asking{},
		took:        make([]uint32, slowest.Microseconds()+1),
	}
	for _, one := range work.Requests {
		ask.wires = append(ask.wires, work.encode(one))
		ask.heads = append(ask.heads, one.Method == "HEAD")
	}
	if err := ask.connect(); err != nil {
		return result{}, err
	}
	start := time.Now()
	deadline := start.Add(time.Duration(work.Seconds * float64(time.Second)))
	if err := ask.run(deadline); err != nil {
		return result{}, err
	}
	ask.done.Seconds = time.Since(start).Seconds()
	ask.done.P99 = ask.percentile(0.99)
	return ask.done, nil
}

// percentile is how many seconds at most this part of all answers took.
func (ask *asker) percentile(part float64) float64 {
	left := int64(math.Ceil(part * float64(ask.done.Done)))
	for microseconds, count := range ask.took {
		if left -= int64(count); left <= 0 {
			return float64(microseconds) / 1e6
		}
	}
	return slowest.Seconds()
}

func (ask *asker) connect() error {
	address, err := net.ResolveTCPAddr("tcp4", ask.work.Address)
	if err != nil {
		return err
	}
	to := &syscall.SockaddrInet4{Port: address.Port}
	copy(to.Addr[:], address.IP.To4())
	if ask.epoll, err = syscall.EpollCreate1(syscall.EPOLL_CLOEXEC); err != nil {
		return err
	}
	for range ask.work.Connections {
		fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		if err := syscall.Connect(fd, to); err != nil {
			return fmt.Errorf("connect to %s: %w", ask.work.Address, err)
		}
		if err := errors.Join(
			syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1),
			syscall.SetNonblock(fd, true),
			syscall.EpollCtl(ask.epoll, syscall.EPOLL_CTL_ADD, fd, &syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(fd)}),
		); err != nil {
			return err
		}
		ask.connections[int32(fd)] = &asking{fd: fd, bodyLeft: -1}
	}
	return nil
}

func (ask *asker) run(deadline time.Time) error {
	for _, connection := range ask.connections {
		if err := ask.send(connection); err != nil {
			return err
		}
	}
	events := make([]syscall.EpollEvent, ask.work.Connections)
	for ask.open > 0 {
		ready, err := syscall.EpollWait(ask.epoll, events, 100)
		if err != nil && err != syscall.EINTR {
			return err
		}
		for _, event := range events[:max(ready, 0)] {
			if err := ask.receive(ask.connections[event.Fd]); err != nil {
				return err
			}
		}
		if ask.work.Seconds > 0 && time.Now().After(deadline) {
			return nil
		}
	}
	return nil
}

// send writes the next request, if there is one. A request is far smaller than an idle socket's buffer.
func (ask *asker) send(connection *asking) error {
	index := ask.next
	if ask.work.Seconds > 0 {
		index = ask.random.IntN(len(ask.wires))
	} else if ask.next++; index >= len(ask.wires) {
		return nil
	}
	wire := ask.wires[index]
	written, err := syscall.Write(connection.fd, wire)
	if err == nil && written != len(wire) {
		err = errors.New("a request did not fit the socket's buffer")
	}
	connection.sent = time.Now()
	connection.head = ask.heads[index]
	connection.have = 0
	connection.bodyLeft = -1
	ask.open++
	return err
}

// receive takes what has arrived. Heads and small bodies are read; what is left of a large body is dropped in the
// kernel (MSG_TRUNC), since copying it here would cost the server its core. Content is checked before, not timed.
func (ask *asker) receive(connection *asking) error {
	var count int
	var err error
	if connection.bodyLeft < 0 {
		count, err = syscall.Read(connection.fd, connection.buffer[connection.have:])
	} else {
		window := connection.buffer[:]
		if connection.bodyLeft > int64(len(window)) {
			window = truncated
		}
		count, _, err = syscall.Recvfrom(connection.fd, window[:min(connection.bodyLeft, int64(len(window)))], syscall.MSG_TRUNC)
	}
	if err == syscall.EAGAIN || err == syscall.EINTR {
		return nil
	}
	if err != nil {
		return err
	}
	if count == 0 {
		return errors.New("the server closed the connection")
	}
	if connection.bodyLeft < 0 {
		connection.have += count
		if count, err = ask.readHead(connection); err != nil || connection.bodyLeft < 0 {
			return err
		}
	}
	connection.bodyLeft -= int64(count)
	ask.done.Bytes += int64(count)
	if connection.bodyLeft > 0 {
		return nil
	}
	ask.took[min(time.Since(connection.sent), slowest).Microseconds()]++
	ask.done.Done++
	ask.done.Answers++
	ask.open--
	return ask.send(connection)
}

// truncated is where MSG_TRUNC would put what it drops: nothing is ever written there.
var truncated = make([]byte, 4<<20)

// readHead looks for a whole head in the buffer, and says how many bytes of its body lie behind it.
func (ask *asker) readHead(connection *asking) (int, error) {
	seen := connection.buffer[:connection.have]
	end := bytes.Index(seen, []byte("\r\n\r\n"))
	if end < 0 {
		if connection.have == len(connection.buffer) {
			return 0, errors.New("an answer's head is longer than 64 KiB")
		}
		return 0, nil
	}
	status, err := strconv.Atoi(string(seen[9:12]))
	if err != nil || status != ask.work.Status {
		return 0, fmt.Errorf("answered %q, not %d", seen[:min(len(seen), 600)], ask.work.Status)
	}
	length, err := contentLength(seen[:end+2])
	if err != nil {
		return 0, err
	}
	if connection.head {
		length = 0
	}
	connection.bodyLeft = length
	return connection.have - end - 4, nil
}

func contentLength(head []byte) (int64, error) {
	const name = "\r\ncontent-length:"
	for at := 0; at+len(name) <= len(head); at++ {
		if head[at] == '\r' && bytes.EqualFold(head[at:at+len(name)], []byte(name)) {
			value, _, _ := bytes.Cut(head[at+len(name):], []byte("\r"))
			return strconv.ParseInt(string(bytes.TrimSpace(value)), 10, 64)
		}
	}
	return 0, fmt.Errorf("an answer without Content-Length: %q", head)
}
