"""`homeport mirror import` and `client-config`."""

import json
import tomllib

import yaml

from homeport.cli.mirror import ENGINES
from homeport.mirror import nodes
from tests.cli.tools import CommandLine

REGSYNC = """\
creds:
  - {registry: docker.io, user: ada, pass: hunter22}
sync:
  - {source: "alpine:3.20", target: "old.lan:5000/alpine:3.20", type: image}
"""


def test_a_mirror_json_becomes_a_configuration(cli: CommandLine) -> None:
    (cli.folder / "mirror.json").write_text('["alpine:3.13.2", "org/x:1"]')
    ran = cli.run("mirror", "import", "mirror.json")
    assert "mirror.json is a file of mirror.json: 2 images" in ran.err
    (cli.folder / "homeport.yaml").write_text(ran.out)
    assert cli.run_here("config", "check").out == "homeport.yaml: all is right\n"
    assert [image["target"] for image in yaml.safe_load(ran.out)["mirror"]["images"]] == ["alpine", "org/x"]


def test_what_could_not_be_carried_over_is_told_and_exits_3(cli: CommandLine) -> None:
    (cli.folder / "regsync.yaml").write_text(REGSYNC)
    ran = cli.run_here("mirror", "import", "regsync.yaml", code=3)
    assert "not carried over: regsync.yaml: line 2: creds[0].pass: the password stands in the file" in ran.err
    assert "hunter22" not in ran.out + ran.err
    found = cli.run_here("mirror", "import", "regsync.yaml", "--json", code=3).json
    assert (found["form"], found["images"]) == ("regsync", 1)
    assert found["configuration"]["mirror"]["images"][0]["source"] == "docker.io/library/alpine"
    assert [each["where"] for each in found["lost"]] == ["line 2: creds[0].pass"]
    assert found["notes"][0].keys() == {"where", "text"}


def test_where_skopeo_put_its_images_is_an_option(cli: CommandLine) -> None:
    (cli.folder / "sync.yml").write_text("quay.io: {images: {coreos/etcd: [latest]}}")
    found = cli.run_here("mirror", "import", "sync.yml", "--target", "copy/{name}", "--json").json
    assert found["configuration"]["mirror"]["images"][0]["target"] == "copy/{name}"


def test_files_that_cannot_be_imported(cli: CommandLine) -> None:
    (cli.folder / "nothing.json").write_text("[7]")
    cli.run_here("mirror", "import", "nothing.json", code=1)
    (cli.folder / "other.yaml").write_text("a: b")
    assert "other.yaml is neither a mirror.json" in cli.run_here("mirror", "import", "other.yaml", code=1).err
    (cli.folder / "large.json").write_text(" " * (1024 * 1024 + 1))
    assert "larger than 1 MiB" in cli.run_here("mirror", "import", "large.json", code=1).err
    (cli.folder / "bytes.json").write_bytes(b"[\xff]")
    assert "is not UTF-8 text" in cli.run_here("mirror", "import", "bytes.json", code=1).err
    assert "missing.json: No such file" in cli.run_here("mirror", "import", "missing.json", code=1).err


def test_one_file_for_a_node_is_printed_as_it_goes_there(cli: CommandLine) -> None:
    (cli.folder / "homeport.yaml").write_text(
        "server: {url: https://registry.lan}\ncache: {upstreams: [docker.io], networks: [10.0.0.0/8]}\n"
    )
    ran = cli.run("mirror", "client-config", "docker")
    assert json.loads(ran.out) == {"registry-mirrors": ["https://registry.lan/mirror"]}
    assert "goes to /etc/docker/daemon.json on the node" in ran.err
    (named, *_) = tomllib.loads(cli.run_here("mirror", "client-config", "buildkit").out)["registry"]
    assert named == "docker.io"


def test_several_files_for_a_node(cli: CommandLine) -> None:
    words = ["mirror", "client-config", "containerd", "--upstream", "docker.io", "--upstream", "quay.io"]
    words += ["--url", "https://registry.lan", "--ca", "/etc/ssl/lan.crt"]
    ran = cli.run_here(*words)
    assert "# /etc/containerd/certs.d/quay.io/hosts.toml\n# Images of quay.io come through Homeport" in ran.out
    assert "cache.upstreams does not have docker.io, quay.io" in ran.err
    found = cli.run_here(*words, "--json").json
    assert [file["path"] for file in found["files"]] == [
        "/etc/containerd/certs.d/docker.io/hosts.toml",
        "/etc/containerd/certs.d/quay.io/hosts.toml",
    ]
    assert (
        tomllib.loads(found["files"][0]["content"])["host"]["https://registry.lan/mirror"]["ca"] == "/etc/ssl/lan.crt"
    )
    assert len(found["warnings"]) == 2


def test_what_has_to_be_known_for_a_node(cli: CommandLine) -> None:
    assert "there is no upstream to ask for" in cli.run_here("mirror", "client-config", "podman", code=2).err
    refused = cli.run_here("mirror", "client-config", "podman", "--upstream", "[::1]:5000", code=2)
    assert "no repository here can be named after [::1]:5000" in refused.err
    assert "must be a host name" in cli.run_here("mirror", "client-config", "podman", "--upstream", "a/b", code=2).err
    assert "must be a path from the root" in cli.run_here("mirror", "client-config", "podman", "--ca", "x", code=2).err
    (cli.folder / "homeport.yaml").write_text("server: {listen: '0.0.0.0:5000'}")
    refused = cli.run_here("mirror", "client-config", "podman", "--upstream", "quay.io", code=2)
    assert "say with --url" in refused.err


def test_every_kind_of_node_that_a_file_can_be_made_for_can_be_asked_for() -> None:
    assert tuple(nodes.WRITERS) == ENGINES
