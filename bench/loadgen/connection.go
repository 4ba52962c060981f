package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
)

// connection is one keep-alive connection to a registry, for the flows in which an answer decides the next request.
type connection struct {
	address       string
	authorization string
	socket        net.Conn
	reader        *bufio.Reader
	answers       int64
	bytes         int64
}

type answer struct {
	status  int
	headers textproto.MIMEHeader
}

func connect(address, authorization string) (*connection, error) {
	socket, err := net.Dial("tcp4", address)
	if err != nil {
		return nil, err
	}
	return &connection{
		address: address, authorization: authorization, socket: socket, reader: bufio.NewReaderSize(socket, 64<<10),
	}, nil
}

// head is the request line and headers; headers are whole lines.
func (to *connection) head(method, target string, headers ...string) []byte {
	wire := make([]byte, 0, 1024)
	wire = fmt.Appendf(wire, "%s %s HTTP/1.1\r\nHost: %s\r\n", method, target, to.address)
	if to.authorization != "" {
		wire = fmt.Appendf(wire, "Authorization: %s\r\n", to.authorization)
	}
	for _, header := range headers {
		wire = append(append(wire, header...), "\r\n"...)
	}
	return append(wire, "\r\n"...)
}

// ask sends a request without a body, or with the short one given, and demands the status.
func (to *connection) ask(status int, method, target string, body []byte, headers ...string) (answer, error) {
	if body != nil || method == "POST" || method == "PUT" {
		headers = append(headers, "Content-Length: "+strconv.Itoa(len(body)))
	}
	if _, err := to.socket.Write(append(to.head(method, target, headers...), body...)); err != nil {
		return answer{}, fmt.Errorf("%s %s: %w", method, target, err)
	}
	return to.read(status, method, target)
}

// read takes one answer and drops its body.
func (to *connection) read(status int, method, target string) (answer, error) {
	fail := func(err error) (answer, error) { return answer{}, fmt.Errorf("%s %s: %w", method, target, err) }
	text := textproto.NewReader(to.reader)
	line, err := text.ReadLine()
	if err != nil {
		return fail(err)
	}
	headers, err := text.ReadMIMEHeader()
	if err != nil {
		return fail(err)
	}
	if len(line) < 12 || line[9:12] != strconv.Itoa(status) {
		body, _ := to.reader.Peek(min(to.reader.Buffered(), 600))
		return fail(fmt.Errorf("answered %s %q, not %d", line, body, status))
	}
	if method != "HEAD" {
		if err := to.dropBody(headers); err != nil {
			return fail(err)
		}
	}
	to.answers++
	return answer{status: status, headers: headers}, nil
}

func (to *connection) dropBody(headers textproto.MIMEHeader) error {
	if headers.Get("Transfer-Encoding") == "chunked" {
		count, err := dropChunks(to.reader)
		to.bytes += count
		return err
	}
	length := headers.Get("Content-Length")
	if length == "" {
		return nil // 204, or an empty 202 of a server that leaves the length out
	}
	count, err := strconv.Atoi(length)
	if err != nil {
		return err
	}
	to.bytes += int64(count)
	_, err = to.reader.Discard(count)
	return err
}

// dropChunks reads a chunked body to its end and says how long it was.
func dropChunks(reader *bufio.Reader) (int64, error) {
	var total int64
	for {
		line, err := reader.ReadSlice('\n')
		if err != nil {
			return total, err
		}
		size, err := strconv.ParseInt(strings.TrimSpace(string(line)), 16, 64)
		if err != nil {
			return total, err
		}
		if _, err := reader.Discard(int(size) + 2); err != nil {
			return total, err
		}
		if total += size; size == 0 {
			return total, nil
		}
	}
}

// location is where the answer says to go on, as a request target.
func (got answer) location() (string, error) {
	found, err := url.Parse(got.headers.Get("Location"))
	if err != nil || found.Path == "" {
		return "", fmt.Errorf("no usable Location in %v", got.headers)
	}
	return found.RequestURI(), nil
}

// withQuery adds one parameter to a request target that may have some.
func withQuery(target, name, value string) string {
	separator := "?"
	if strings.Contains(target, "?") {
		separator = "&"
	}
	return target + separator + name + "=" + url.QueryEscape(value)
}

// inParallel runs one function on each of several connections and adds up what they did. The clock is the callers'.
func inParallel(address, authorization string, count int, run func(index int, to *connection) error) (result, error) {
	type outcome struct {
		to  *connection
		err error
	}
	outcomes := make(chan outcome, count)
	for index := range count {
		to, err := connect(address, authorization)
		if err != nil {
			return result{}, err
		}
		go func() { outcomes <- outcome{to, run(index, to)} }()
	}
	var total result
	for range count {
		one := <-outcomes
		if one.err != nil {
			return result{}, one.err
		}
		total.Answers += one.to.answers
		total.Bytes += one.to.bytes
		if err := one.to.socket.Close(); err != nil && err != io.EOF {
			return result{}, err
		}
	}
	return total, nil
}
