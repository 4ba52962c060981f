// Loadgen does to a registry what clients do, cheaply enough that the registry is what gets measured.
//
//	loadgen requests < work.json   many small requests or large downloads on keep-alive connections
//	loadgen blobs    < work.json   large blobs pushed as docker pushes them
//	loadgen images   < work.json   small images pushed as docker pushes them
//	loadgen walk     < work.json   a listing read to its end
//	loadgen null     [address]     a server that answers all of this with nothing behind it
//	loadgen receive                a server that counts the webhooks that it is sent
//
// Each kind of work prints one JSON object: what was done and the seconds it took. Only IPv4 loopback is spoken to.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
)

// result is what one run of work prints.
type result struct {
	Done    int64   `json:"done"`    // requests answered, blobs or images pushed, listings read
	Bytes   int64   `json:"bytes"`   // of bodies
	Answers int64   `json:"answers"` // HTTP answers received
	Seconds float64 `json:"seconds"` // from the first byte sent to the last byte counted
	P99     float64 `json:"p99"`     // of requests: so many seconds at most took 99 of 100 answers; 0: not measured
}

func work[T any](run func(T) (result, error)) error {
	var spec T
	decoder := json.NewDecoder(os.Stdin)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&spec); err != nil {
		return fmt.Errorf("the work on standard input: %w", err)
	}
	got, err := run(spec)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(got)
}

func main() {
	var err error
	kind := ""
	if len(os.Args) > 1 {
		kind = os.Args[1]
	}
	// Client and server share the machine's cores. With one scheduler thread the Go runtime does not spin on the
	// core that the server could use; the null server's figures show that one is enough.
	if kind != "null" {
		runtime.GOMAXPROCS(1)
	}
	switch kind {
	case "requests":
		err = work(runRequests)
	case "blobs":
		runtime.GOMAXPROCS(runtime.NumCPU()) // few and long writes: nothing spins, and streams need not wait for one another
		err = work(runBlobs)
	case "images":
		err = work(runImages)
	case "walk":
		err = work(runWalk)
	case "null":
		err = serveNull(os.Args[2:])
	case "receive":
		err = serveReceiver()
	default:
		err = fmt.Errorf("usage: loadgen requests|blobs|images|walk|null|receive")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "loadgen:", err)
		os.Exit(1)
	}
}
