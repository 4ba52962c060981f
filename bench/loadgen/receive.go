package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
)

// received is what came to each path: the messages, told apart by their id, so that one that came twice counts once.
type received struct {
	guard sync.Mutex
	ids   map[string]map[string]struct{}
}

// serveReceiver answers webhooks at once, and GET with how many different messages each path has had.
func serveReceiver() error {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Printf("loadgen: listening on http://%s\n", listener.Addr())
	return http.Serve(listener, &received{ids: map[string]map[string]struct{}{}})
}

func (received *received) ServeHTTP(answer http.ResponseWriter, asked *http.Request) {
	if asked.Method == http.MethodGet {
		received.tell(answer)
		return
	}
	if _, err := io.Copy(io.Discard, asked.Body); err != nil {
		return // a body that was cut off is not received
	}
	received.guard.Lock()
	defer received.guard.Unlock()
	at := asked.URL.Path
	if received.ids[at] == nil {
		received.ids[at] = map[string]struct{}{}
	}
	received.ids[at][asked.Header.Get("Webhook-Id")] = struct{}{}
	answer.WriteHeader(http.StatusNoContent)
}

func (received *received) tell(answer http.ResponseWriter) {
	received.guard.Lock()
	defer received.guard.Unlock()
	counts := map[string]int{}
	for at, ids := range received.ids {
		counts[at] = len(ids)
	}
	_ = json.NewEncoder(answer).Encode(counts) // who asked may be gone
}
