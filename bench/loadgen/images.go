package main

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// imagesWork pushes small images (a config and three layers of 4 KiB, no two alike) as docker does: POST, PATCH
// chunked, PUT and HEAD for each blob, then the manifest under a tag.
type imagesWork struct {
	Address       string   `json:"address"`
	Authorization string   `json:"authorization"`
	Clients       int      `json:"clients"`
	Repositories  []string `json:"repositories"` // taken in turn
	Images        int      `json:"images"`
	Tag           string   `json:"tag"`         // followed by the image's number
	Seed          uint64   `json:"seed"`        // of configs, and of layers that are pushed
	MountFrom     string   `json:"mount_from"`  // the layers of LayersSeed are mounted from this repository instead
	LayersSeed    uint64   `json:"layers_seed"` // counts only with mount_from
}

type blob struct {
	data   []byte
	digest string
}

func newBlob(data []byte) blob {
	return blob{data, fmt.Sprintf("sha256:%x", sha256.Sum256(data))}
}

type image struct {
	config   blob
	layers   [3]blob
	manifest []byte
}

const (
	layerBytes    = 4 << 10
	configType    = "application/vnd.docker.container.image.v1+json"
	layerType     = "application/vnd.docker.image.rootfs.diff.tar.gzip"
	manifestType  = "application/vnd.docker.distribution.manifest.v2+json"
	configFormat  = `{"architecture":"amd64","os":"linux","config":{"Labels":{"n":"%d-%d","pad":"%s"}},"rootfs":{"type":"layers","diff_ids":["%s","%s","%s"]}}`
	bodyFormat    = `{"schemaVersion":2,"mediaType":"%s","config":{"mediaType":"%s","size":%d,"digest":"%s"},"layers":[%s]}`
	layerFormat   = `{"mediaType":"%s","size":%d,"digest":"%s"}`
	configPadding = 3700 // brings a config to about 4 KiB
)

func newImage(seed, layersSeed uint64, number int) image {
	var made image
	random := rand.New(rand.NewPCG(layersSeed, uint64(number)))
	var listed []string
	for index := range made.layers {
		data := make([]byte, layerBytes)
		for at := range data {
			data[at] = byte(random.Uint32())
		}
		made.layers[index] = newBlob(data)
		listed = append(listed, fmt.Sprintf(layerFormat, layerType, layerBytes, made.layers[index].digest))
	}
	made.config = newBlob(fmt.Appendf(nil, configFormat, seed, number, strings.Repeat("x", configPadding),
		made.layers[0].digest, made.layers[1].digest, made.layers[2].digest))
	made.manifest = fmt.Appendf(nil, bodyFormat, manifestType, configType, len(made.config.data), made.config.digest,
		strings.Join(listed, ","))
	return made
}

func pushBlob(to *connection, repository string, content blob) error {
	start, err := to.ask(202, "POST", "/v2/"+repository+"/blobs/uploads/", nil)
	if err != nil {
		return err
	}
	target, err := start.location()
	if err != nil {
		return err
	}
	wire := to.head("PATCH", target, "Content-Type: application/octet-stream", "Transfer-Encoding: chunked")
	wire = fmt.Appendf(wire, "%x\r\n", len(content.data))
	wire = append(append(wire, content.data...), "\r\n0\r\n\r\n"...)
	if _, err := to.socket.Write(wire); err != nil {
		return err
	}
	received, err := to.read(202, "PATCH", target)
	if err != nil {
		return err
	}
	if target, err = received.location(); err != nil {
		return err
	}
	if _, err := to.ask(201, "PUT", withQuery(target, "digest", content.digest), nil); err != nil {
		return err
	}
	_, err = to.ask(200, "HEAD", "/v2/"+repository+"/blobs/"+content.digest, nil)
	return err
}

func (work *imagesWork) push(to *connection, repository string, number int, content image) error {
	for _, layer := range content.layers {
		var err error
		if work.MountFrom != "" {
			target := "/v2/" + repository + "/blobs/uploads/?mount=" + layer.digest + "&from=" + work.MountFrom
			_, err = to.ask(201, "POST", target, nil)
		} else {
			err = pushBlob(to, repository, layer)
		}
		if err != nil {
			return err
		}
	}
	if err := pushBlob(to, repository, content.config); err != nil {
		return err
	}
	target := fmt.Sprintf("/v2/%s/manifests/%s%d", repository, work.Tag, number)
	_, err := to.ask(201, "PUT", target, content.manifest, "Content-Type: "+manifestType)
	return err
}

func runImages(work imagesWork) (result, error) {
	if work.MountFrom == "" {
		work.LayersSeed = work.Seed
	}
	images := make([]image, work.Images)
	for number := range images {
		images[number] = newImage(work.Seed, work.LayersSeed, number)
	}
	start := time.Now()
	total, err := inParallel(work.Address, work.Authorization, work.Clients, func(client int, to *connection) error {
		for number := client; number < work.Images; number += work.Clients {
			repository := work.Repositories[number%len(work.Repositories)]
			if err := work.push(to, repository, number, images[number]); err != nil {
				return err
			}
		}
		return nil
	})
	total.Seconds = time.Since(start).Seconds()
	total.Done = int64(work.Images)
	return total, err
}
