package main

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"time"
)

// blobsWork pushes large blobs of incompressible data that no other blob shares: POST, PATCH chunked without a length,
// PUT, as docker does.
type blobsWork struct {
	Address       string `json:"address"`
	Authorization string `json:"authorization"`
	Repository    string `json:"repository"`
	Streams       int    `json:"streams"`
	Each          int    `json:"each"`  // blobs a stream, one after the other
	Bytes         int64  `json:"bytes"` // of a blob; a multiple of 4 MiB
	Seed          uint64 `json:"seed"`  // same seed, same blobs
}

const (
	chunkBytes = 32 << 10 // what docker's HTTP client makes of a body without a length
	blockBytes = 4 << 20
	chunkHead  = "8000\r\n"
	chunkWire  = len(chunkHead) + chunkBytes + 2
)

// block is 4 MiB of a blob, chunked as it goes over the wire: one write a block. Each block of each blob gets its own
// first bytes; the rest is the same random data.
type block []byte

func newBlock(random *rand.ChaCha8) block {
	wire := make(block, 0, blockBytes/chunkBytes*chunkWire)
	data := make([]byte, chunkBytes)
	for range blockBytes / chunkBytes {
		random.Read(data) // never fails
		wire = append(append(append(wire, chunkHead...), data...), "\r\n"...)
	}
	return wire
}

func (wire block) mark(seed, stream, number, index uint64) {
	at := wire[len(chunkHead):]
	for i, value := range []uint64{seed, stream, number, index} {
		binary.LittleEndian.PutUint64(at[8*i:], value)
	}
}

func (work *blobsWork) digest(wire block, stream, number int) string {
	hash := sha256.New()
	for index := range work.Bytes / blockBytes {
		wire.mark(work.Seed, uint64(stream), uint64(number), uint64(index))
		for at := 0; at < len(wire); at += chunkWire {
			hash.Write(wire[at+len(chunkHead) : at+len(chunkHead)+chunkBytes])
		}
	}
	return fmt.Sprintf("sha256:%x", hash.Sum(nil))
}

func (work *blobsWork) push(to *connection, wire block, stream, number int, digest string) error {
	start, err := to.ask(202, "POST", "/v2/"+work.Repository+"/blobs/uploads/", nil)
	if err != nil {
		return err
	}
	target, err := start.location()
	if err != nil {
		return err
	}
	if _, err := to.socket.Write(to.head(
		"PATCH", target, "Content-Type: application/octet-stream", "Transfer-Encoding: chunked",
	)); err != nil {
		return err
	}
	for index := range work.Bytes / blockBytes {
		wire.mark(work.Seed, uint64(stream), uint64(number), uint64(index))
		if _, err := to.socket.Write(wire); err != nil {
			return err
		}
	}
	if _, err := to.socket.Write([]byte("0\r\n\r\n")); err != nil {
		return err
	}
	received, err := to.read(202, "PATCH", target)
	if err != nil {
		return err
	}
	if target, err = received.location(); err != nil {
		return err
	}
	_, err = to.ask(201, "PUT", withQuery(target, "digest", digest), nil)
	return err
}

func runBlobs(work blobsWork) (result, error) {
	if work.Bytes%blockBytes != 0 {
		return result{}, fmt.Errorf("%d is not a multiple of 4 MiB", work.Bytes)
	}
	wires := make([]block, work.Streams)
	digests := make([][]string, work.Streams)
	for stream := range work.Streams {
		wires[stream] = newBlock(rand.NewChaCha8([32]byte{}))
		for number := range work.Each {
			digests[stream] = append(digests[stream], work.digest(wires[stream], stream, number))
		}
	}
	start := time.Now()
	total, err := inParallel(work.Address, work.Authorization, work.Streams, func(stream int, to *connection) error {
		for number, digest := range digests[stream] {
			if err := work.push(to, wires[stream], stream, number, digest); err != nil {
				return err
			}
		}
		return nil
	})
	total.Seconds = time.Since(start).Seconds()
	total.Done = int64(work.Streams * work.Each)
	total.Bytes = total.Done * work.Bytes
	return total, err
}
