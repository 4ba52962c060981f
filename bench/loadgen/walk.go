package main

import (
	"fmt"
	"net/url"
	"regexp"
	"time"
)

// walkWork reads a listing to its end, again and again, on one connection: each answer's Link says what to ask next.
type walkWork struct {
	Address       string  `json:"address"`
	Authorization string  `json:"authorization"`
	Target        string  `json:"target"`
	Seconds       float64 `json:"seconds"` // no new walk is begun after this
}

var nextLink = regexp.MustCompile(`^<([^>]*)>; *rel="?next"?`)

func runWalk(work walkWork) (result, error) {
	to, err := connect(work.Address, work.Authorization)
	if err != nil {
		return result{}, err
	}
	var total result
	start := time.Now()
	for time.Since(start).Seconds() < work.Seconds {
		for target := work.Target; target != ""; {
			got, err := to.ask(200, "GET", target, nil)
			if err != nil {
				return result{}, err
			}
			if target, err = got.next(); err != nil {
				return result{}, err
			}
		}
		total.Done++
	}
	total.Seconds = time.Since(start).Seconds()
	total.Answers, total.Bytes = to.answers, to.bytes
	return total, nil
}

// next is the target of the following page, or nothing at the end.
func (got answer) next() (string, error) {
	link := got.headers.Get("Link")
	if link == "" {
		return "", nil
	}
	match := nextLink.FindStringSubmatch(link)
	if match == nil {
		return "", fmt.Errorf("a Link that names no next page: %q", link)
	}
	found, err := url.Parse(match[1])
	if err != nil {
		return "", err
	}
	return found.RequestURI(), nil
}
