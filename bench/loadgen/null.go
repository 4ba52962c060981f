package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
)

// The null server answers what the benchmark asks, at once and with nothing behind it: no store, no hash, no check. What
// the clients reach against it is what they could reach at best.
type null struct {
	blob     *os.File // zeros: sent by the kernel, as no copy could be faster
	manifest []byte
	tags     []byte
}

const (
	nullBlobBytes  = 64 << 20
	nullDigest     = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	nullRepository = `"bench/repository-000"`
)

func serveNull(arguments []string) error {
	address := "127.0.0.1:0"
	if len(arguments) > 0 {
		address = arguments[0]
	}
	listener, err := net.Listen("tcp4", address)
	if err != nil {
		return err
	}
	server := &null{manifest: newImage(0, 0, 0).manifest}
	server.tags = []byte(`{"name":"bench/tags","tags":["` + strings.Join(makeTags(3000), `","`) + `"]}`)
	if server.blob, err = os.CreateTemp("", "loadgen-null-"); err != nil {
		return err
	}
	if err := os.Remove(server.blob.Name()); err != nil { // it lives until we end
		return err
	}
	if _, err := io.CopyN(server.blob, zeros{}, nullBlobBytes); err != nil {
		return err
	}
	fmt.Printf("loadgen: listening on http://%s\n", listener.Addr())
	for {
		socket, err := listener.Accept()
		if err != nil {
			return err
		}
		go server.serve(socket.(*net.TCPConn))
	}
}

type zeros struct{}

func (zeros) Read(into []byte) (int, error) { clear(into); return len(into), nil }

func makeTags(count int) []string {
	tags := make([]string, count)
	for index := range tags {
		tags[index] = fmt.Sprintf("tag-%05d", index)
	}
	return tags
}

// serve answers one connection until its client is gone, which is the only way that it fails.
func (server *null) serve(socket *net.TCPConn) {
	defer socket.Close()
	reader := bufio.NewReaderSize(socket, 256<<10)
	for {
		asked, err := readAsked(reader)
		if err != nil {
			return
		}
		if err := server.answer(socket, asked); err != nil {
			return
		}
	}
}

type asked struct {
	method, target string
	first, last    int64 // of the range, or -1
}

func readAsked(reader *bufio.Reader) (asked, error) {
	got := asked{first: -1, last: -1}
	line, err := reader.ReadSlice('\n')
	if err != nil {
		return got, err
	}
	method, rest, _ := bytes.Cut(line, []byte(" "))
	target, _, _ := bytes.Cut(rest, []byte(" "))
	got.method, got.target = string(method), string(target)
	length, chunked := 0, false
	for {
		if line, err = reader.ReadSlice('\n'); err != nil {
			return got, err
		}
		if len(line) <= 2 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case bytes.EqualFold(name, []byte("content-length")):
			length, err = strconv.Atoi(string(value))
		case bytes.EqualFold(name, []byte("transfer-encoding")):
			chunked = true
		case bytes.EqualFold(name, []byte("range")):
			_, err = fmt.Sscanf(string(value), "bytes=%d-%d", &got.first, &got.last)
		}
		if err != nil {
			return got, err
		}
	}
	if chunked {
		_, err = dropChunks(reader)
	} else {
		_, err = reader.Discard(length)
	}
	return got, err
}

func (server *null) answer(socket *net.TCPConn, asked asked) error {
	switch {
	case asked.method == "POST" && strings.Contains(asked.target, "mount="):
		return head(socket, "201 Created", 0, "Location: /v2/bench/blobs/"+nullDigest)
	case asked.method == "POST" || asked.method == "PATCH":
		return head(socket, "202 Accepted", 0, "Location: /v2/bench/blobs/uploads/1", "Range: 0-0")
	case asked.method == "PUT":
		return head(socket, "201 Created", 0, "Docker-Content-Digest: "+nullDigest)
	case strings.Contains(asked.target, "/manifests/"):
		return server.body(socket, asked, manifestType, server.manifest, "Docker-Content-Digest: "+nullDigest)
	case strings.HasSuffix(asked.target, "/tags/list"):
		return server.body(socket, asked, "application/json", server.tags)
	case strings.Contains(asked.target, "/_catalog"):
		return server.catalog(socket, asked)
	case strings.Contains(asked.target, "/blobs/"):
		return server.sendBlob(socket, asked)
	}
	return server.body(socket, asked, "application/json", []byte("{}"))
}

func head(socket *net.TCPConn, status string, length int64, headers ...string) error {
	_, err := socket.Write(appendHead(make([]byte, 0, 512), status, length, headers...))
	return err
}

func appendHead(wire []byte, status string, length int64, headers ...string) []byte {
	wire = fmt.Appendf(wire, "HTTP/1.1 %s\r\nContent-Length: %d\r\n", status, length)
	for _, header := range headers {
		wire = append(append(wire, header...), "\r\n"...)
	}
	return append(wire, "\r\n"...)
}

func (server *null) body(socket *net.TCPConn, asked asked, mediaType string, body []byte, headers ...string) error {
	wire := make([]byte, 0, len(body)+512)
	wire = appendHead(wire, "200 OK", int64(len(body)), append(headers, "Content-Type: "+mediaType)...)
	if asked.method != "HEAD" {
		wire = append(wire, body...)
	}
	_, err := socket.Write(wire)
	return err
}

// catalog is 500 repositories by 100.
func (server *null) catalog(socket *net.TCPConn, asked asked) error {
	page := 0
	if _, last, found := strings.Cut(asked.target, "last="); found {
		page, _ = strconv.Atoi(last)
	}
	body := []byte(`{"repositories":[` + strings.Repeat(nullRepository+",", 99) + nullRepository + `]}`)
	if page == 4 {
		return server.body(socket, asked, "application/json", body)
	}
	link := fmt.Sprintf(`Link: </v2/_catalog?n=100&last=%d>; rel="next"`, page+1)
	return server.body(socket, asked, "application/json", body, link)
}

func (server *null) sendBlob(socket *net.TCPConn, asked asked) error {
	status, first, length := "200 OK", int64(0), int64(nullBlobBytes)
	var headers []string
	if asked.first >= 0 {
		status, first, length = "206 Partial Content", asked.first, asked.last-asked.first+1
		headers = append(headers, fmt.Sprintf("Content-Range: bytes %d-%d/%d", asked.first, asked.last, int64(nullBlobBytes)))
	}
	if err := head(socket, status, length, headers...); err != nil || asked.method == "HEAD" {
		return err
	}
	// Each connection needs its own file offset, or sendfile's would be shared.
	file, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", server.blob.Fd()))
	if err != nil {
		return err
	}
	defer file.Close()
	if _, err := file.Seek(first, io.SeekStart); err != nil {
		return err
	}
	_, err = socket.ReadFrom(io.LimitReader(file, length))
	return err
}
