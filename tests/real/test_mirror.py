"""The mirror against registries that other people run: Debian's docker-registry, and a second Homeport with a login."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from homeport.client.credentials import Credential
from tests.client.images import Image
from tests.client.servers import DockerRegistry
from tests.mirror.artifacts import Artifacts
from tests.real.clients import Docker, Sandbox, digest_in
from tests.real.conftest import Clients
from tests.real.layouts import Layout
from tests.real.proxies import NamingProxy
from tests.real.registries import Registry
from tests.real.upstreams import Mirror, Upstream
from tests.support.components import need
from tests.support.processes import Homeport

pytestmark = pytest.mark.real

APP = "team/app"
SIGNATURE = "application/vnd.dev.sigstore.bundle.v0.3+json"
FALLBACK_TAG = re.compile(r"sha256-[0-9a-f]{64}")
#: Docker Hub as it answers to clients.
HUB = "registry-1.docker.io"


@pytest.fixture
def mirror(homeport: Homeport) -> Mirror:
    return Mirror(homeport)


@pytest.fixture
def debian(tmp_path: Path) -> Iterator[Upstream]:
    """Debian's registry, open to everybody."""
    folder = tmp_path / "upstream"
    folder.mkdir()
    registry = DockerRegistry.start(folder)
    yield Upstream(registry.host)
    registry.stop()


@pytest.fixture
def private(tmp_path: Path) -> Iterator[Upstream]:
    """A second Homeport, which lets nobody in without a login."""
    folder = tmp_path / "upstream"
    folder.mkdir()
    server = Homeport(folder)
    server.start()
    yield Upstream(server.host, login=Credential("writer", server.passwords["writer"]))
    server.kill()


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    return Sandbox(tmp_path / "sandbox")


def everything(made: Artifacts) -> dict[str, Image]:
    """One of each kind of image that registries hold, by its tag."""
    return {
        "index": made.platforms("linux/amd64", "linux/arm64", "linux/arm/v7"),
        "attested": made.platforms(attested=True),
        "list": made.platforms(docker=True),
        "schema2": made.docker_image(),
        "nested": made.nested(),
        "chart": made.chart(),
        "model": made.artifact("application/vnd.example.model"),
    }


def check_same(upstream: Upstream, mirror: Mirror, repository: str, ours: str) -> None:
    """Each tag of upstream's is here, with every byte of it, and there is no other.

    But for the lists of referrers that clients keep under tags where a registry has no API for them.
    """
    tags = {tag for tag in upstream.tags(repository) if not FALLBACK_TAG.fullmatch(tag)}
    assert mirror.registry.tags(ours) == tags
    for tag in tags:
        assert mirror.registry.digest(ours, tag) == upstream.digest(repository, tag)
        assert mirror.registry.pull(ours, tag) == upstream.pull(repository, tag)


# --- everything comes as it is ----------------------------------------------------------------------------------


def test_all_that_debians_registry_holds_comes_as_it_is(mirror: Mirror, debian: Upstream) -> None:
    made = Artifacts()
    images = everything(made)
    for tag, image in images.items():
        debian.push(APP, image, tag)
    by_tag, signature = made.cosign(images["index"])
    debian.push(APP, signature, by_tag)
    bundle = made.artifact(SIGNATURE, subject=images["list"])
    debian.push(APP, bundle)
    mirror.start([{"source": f"{debian.host}/{APP}"}])
    first = mirror.run()
    assert (first["outcome"], first["failures"]) == ("success", [])
    ours = f"{debian.folder}/{APP}"
    check_same(debian, mirror, APP, ours)
    assert mirror.registry.referrers(ours, images["list"].digest) == {bundle.digest}
    assert mirror.registry.pull(ours, bundle.digest) == debian.pull(APP, bundle.digest)
    again = mirror.run()["counts"]
    assert (again["copied"], again["bytes"]) == (0, 0)


def test_all_that_another_homeport_holds_behind_its_login_comes_as_it_is(mirror: Mirror, private: Upstream) -> None:
    made = Artifacts()
    for tag, image in everything(made).items():
        private.push(APP, image, tag)
    sha512 = made.sha512()
    private.push_by_digest(APP, sha512, "sha512")
    bill = made.artifact("application/spdx+json", subject=sha512)
    signature = made.artifact(SIGNATURE, subject=bill)
    for referrer in (bill, signature):
        private.push(APP, referrer)
    assert private.login is not None
    secret = mirror.server.folder / "upstream-password"
    secret.write_text(private.login.password)
    secret.chmod(0o600)
    login = {private.host: {"username": private.login.username, "password": f"file:{secret}"}}
    source = {"source": f"{private.host}/{APP}", "target": "app"}
    mirror.start([source])
    assert "401" in json.dumps(mirror.run(code=1)["failures"])
    mirror.start([source], upstreams=login)
    assert mirror.run()["outcome"] == "success"
    check_same(private, mirror, APP, "app")
    assert mirror.registry.digest("app", "sha512") == sha512.digest
    assert mirror.registry.referrers("app", sha512.digest) == {bill.digest}
    assert mirror.registry.referrers("app", bill.digest) == {signature.digest}
    assert mirror.run()["counts"]["copied"] == 0


def test_a_pattern_means_what_the_registry_lists(mirror: Mirror, debian: Upstream) -> None:
    made = Artifacts()
    for repository in ("team/app", "team/web", "other/thing"):
        debian.push(repository, made.image(), "1.0", "2.0")
    mirror.start([{"source": f"{debian.host}/team/*", "target": "{name}", "tags": {"newest": 1}}])
    assert mirror.run()["counts"]["copied"] == 2
    assert mirror.registry.tags("app") == mirror.registry.tags("web") == {"2.0"}


# --- real clients at both ends ----------------------------------------------------------------------------------


def test_what_skopeo_and_helm_and_oras_put_there_is_what_they_get_here(
    mirror: Mirror, debian: Upstream, sandbox: Sandbox, layout: Layout
) -> None:
    skopeo, helm, oras = need("skopeo"), need("helm"), need("oras")
    plain, image = "--plain-http", f"{debian.host}/{APP}:1"
    sandbox.run(skopeo, "copy", "--all", "--dest-tls-verify=false", f"oci:{layout.folder}:1", f"docker://{image}")
    (sandbox.folder / "bill.json").write_text("{}")
    sandbox.run(oras, "attach", plain, "--artifact-type", "application/spdx+json", image, "bill.json:application/json")
    sandbox.run(helm, "create", "shop")
    sandbox.run(helm, "package", "shop", "--version", "1.2.3")
    pushed = digest_in(sandbox.run(helm, "push", "shop-1.2.3.tgz", f"oci://{debian.host}/charts", plain))

    target = "{repository}"
    mirror.start([{"source": f"{debian.host}/{name}", "target": target} for name in (APP, "charts/shop")])
    assert mirror.run()["outcome"] == "success"

    host, password = mirror.server.host, mirror.server.passwords["reader"]
    here = f"docker://{host}/{APP}:1"
    access = [f"--creds=reader:{password}", "--tls-verify=false"]
    assert json.loads(sandbox.run(skopeo, "inspect", *access, here))["Digest"] == layout.digest
    raw = sandbox.run(skopeo, "inspect", "--raw", *access, here)
    assert raw == sandbox.run(skopeo, "inspect", "--raw", "--tls-verify=false", f"docker://{image}")
    source = [f"--src-creds=reader:{password}", "--src-tls-verify=false"]
    sandbox.run(skopeo, "copy", "--all", *source, here, f"oci:{sandbox.folder}/copied:1")
    copied = {file.name for file in (sandbox.folder / "copied/blobs/sha256").iterdir()}
    assert copied == {file.name for file in (layout.folder / "blobs/sha256").iterdir()}

    sandbox.run(oras, "login", host, plain, "--username", "reader", "--password", password)
    found = json.loads(sandbox.run(oras, "discover", plain, "--format", "json", f"{host}/{APP}:1"))
    assert [each["artifactType"] for each in found["referrers"]] == ["application/spdx+json"]
    sandbox.run(helm, "registry", "login", host, plain, "--username", "reader", "--password", password)
    pulled = sandbox.run(helm, "pull", f"oci://{host}/charts/shop", "--version", "1.2.3", plain, "--destination", "..")
    assert digest_in(pulled) == pushed


@pytest.mark.parametrize("name", ["debian-docker", "docker"])
def test_an_engine_pulls_any_platform_of_what_was_mirrored(
    name: str, mirror: Mirror, debian: Upstream, sandbox: Sandbox, layout: Layout, clients: Clients
) -> None:
    docker = clients[name]
    assert isinstance(docker, Docker)
    to = f"docker://{debian.host}/{APP}:1"
    sandbox.run(need("skopeo"), "copy", "--all", "--dest-tls-verify=false", f"oci:{layout.folder}:1", to)
    mirror.start([{"source": f"{debian.host}/{APP}"}], access={"anonymous": ["pull"]})
    mirror.run()
    reference = f"{mirror.server.host}/{debian.folder}/{APP}:1"
    for architecture in ("amd64", "arm64"):
        docker.forget(reference)
        assert digest_in(docker.run("pull", "--platform", f"linux/{architecture}", reference)) == layout.digest
        found = docker.run("image", "inspect", "--format", "{{.Architecture}}", reference)
        assert found.strip() in {architecture, ""}
    docker.forget(reference)


# --- tags that move, and that go --------------------------------------------------------------------------------


def test_a_tag_that_moves_moves_and_a_tag_that_goes_is_marked_and_goes_when_its_time_is_over(
    mirror: Mirror, debian: Upstream
) -> None:
    made = Artifacts()
    for tag in ("1.0", "1.1", "2.0", "latest"):
        debian.push(APP, made.image(), tag)
    image: dict[str, Any] = {"source": f"{debian.host}/{APP}", "target": "app"}
    mirror.start([image])
    mirror.run()

    debian.push(APP, made.image(), "latest")
    assert "app:latest: was sha256:" in mirror.plan()
    counts = mirror.run()["counts"]
    assert (counts["copied"], counts["unchanged"]) == (1, 3)
    check_same(debian, mirror, APP, "app")

    debian.delete(APP, "1.0")
    mirror.run()
    assert "kept: app:1.0: gone upstream since " in mirror.cli.run("mirror", "status").out
    assert "keep app:1.0: gone upstream since " in mirror.plan()
    mirror.start([image | {"gone_upstream": {"remove_after": "14d"}}])
    assert "remove app:1.0: gone upstream since " in mirror.plan()
    assert mirror.run()["counts"]["removed"] == 0
    assert "1.0" in mirror.registry.tags("app")

    debian.delete(APP, "1.1")
    mirror.age(15)
    assert "would be removed now" in mirror.plan()
    assert mirror.run()["counts"]["removed"] == 1
    assert mirror.registry.tags("app") == {"1.1", "2.0", "latest"}
    (event,) = mirror.cli.run("events", "--kind", "tag.deleted", "--json").json
    assert "gone upstream since " in event["reason"]
    marked = mirror.cli.run("mirror", "status", "--json").json["leaving"]
    assert [(each["tag"], each["leaving"]) for each in marked] == [("1.1", "gone upstream")]

    mirror.cli.run("tag", "restore", "app:1.0")
    assert mirror.run()["outcome"] == "success"
    assert "1.0" in mirror.registry.tags("app")  # Somebody wants it, so it is theirs from now on.


# --- Docker Hub, and what the mirror replaces -------------------------------------------------------------------


@dataclass(frozen=True)
class Hub:
    """Docker Hub on this machine: a registry with its names and certificates, behind a proxy that knows where it is."""

    registry: Upstream
    proxy: NamingProxy

    @property
    def client(self) -> dict[str, Any]:
        """The section of the configuration by which it is reached."""
        return {"proxy": f"http://{self.proxy.host}", "ca": [str(self.registry.ca)]}


@pytest.fixture
def hub(tmp_path: Path, layout: Layout, sandbox: Sandbox) -> Iterator[Hub]:
    """It has `library/alpine:3.20`, with another tag beside it, and `org/tool:1`."""
    folder = tmp_path / "hub"
    folder.mkdir()
    process = DockerRegistry.start(folder, tls=True, names=(HUB,))
    registry = Upstream(process.host, ca=process.ca)
    for name in ("library/alpine:3.20", "org/tool:1"):
        to = f"docker://{process.host}/{name}"
        sandbox.run(need("skopeo"), "copy", "--all", "--dest-tls-verify=false", f"oci:{layout.folder}:1", to)
    registry.push("library/alpine", Artifacts().platforms(), "edge")
    with NamingProxy({f"{HUB}:443": int(process.host.rpartition(":")[2])}) as proxy:
        yield Hub(registry, proxy)
    process.stop()


def test_a_script_that_pulls_tags_and_pushes_is_replaced(
    mirror: Mirror, hub: Hub, layout: Layout, clients: Clients
) -> None:
    """Row S3: what it pushed is followed under its short names, with all platforms; what is ours stays ours."""
    docker = clients["debian-docker"]
    assert isinstance(docker, Docker)
    follow = {"follow": True, "skip": ["team/**"], "gone_upstream": {"remove_after": "14d"}}
    mirror.start(mirror=follow, client=hub.client)
    here = Registry(mirror.server, mirror.server.host, "writer")
    docker.login(here)
    for name, short in (("library/alpine:3.20", "alpine:3.20"), ("org/tool:1", "org/tool:1")):
        docker.run("pull", f"{hub.registry.host}/{name}")
        docker.run("tag", f"{hub.registry.host}/{name}", f"{here.host}/{short}")
        docker.run("push", f"{here.host}/{short}")
        docker.forget(f"{here.host}/{short}")
    docker.build(f"{here.host}/shop:1")
    for name in ("shop:1", "team/alpine:3.20"):
        docker.run("tag", f"{here.host}/shop:1", f"{here.host}/{name}")
        docker.run("push", f"{here.host}/{name}")
    pushed = {name: mirror.registry.digest(*name.split(":")) for name in ("alpine:3.20", "shop:1", "team/alpine:3.20")}
    assert pushed["alpine:3.20"] != layout.digest  # The manifest is made anew by `docker push`.

    found = {each["repository"]: each for each in mirror.cli.run("mirror", "adopt", "--plan", "--json").json}
    assert found.keys() == {"alpine", "org/tool", "shop"}
    assert (found["alpine"]["source"], found["shop"]["source"]) == ("docker.io/library/alpine", None)
    assert found["org/tool"]["why"].startswith("upstream has its configuration sha256:")
    assert f"copy docker.io/library/alpine:3.20 to alpine:3.20: was {pushed['alpine:3.20']}" in mirror.plan()

    ran = mirror.run()
    assert (ran["outcome"], ran["failures"], ran["counts"]["copied"]) == ("success", [], 2)
    assert mirror.registry.digest("alpine", "3.20") == mirror.registry.digest("org/tool", "1") == layout.digest
    for name in ("shop:1", "team/alpine:3.20"):
        assert mirror.registry.digest(*name.split(":")) == pushed[name]
    assert digest_in(docker.run("pull", f"{here.host}/alpine:3.20")) == layout.digest
    assert mirror.run()["counts"]["copied"] == 0

    hub.registry.delete("library/alpine", "3.20")
    assert mirror.run()["outcome"] == "success"
    assert "leaving: alpine:3.20: gone upstream since " in mirror.cli.run("mirror", "status").out
    assert mirror.registry.digest("alpine", "3.20") == layout.digest
    mirror.age(15)
    assert mirror.run()["counts"]["removed"] == 1
    assert mirror.registry.digest("alpine", "3.20") is None
    assert mirror.registry.digest("shop", "1") == pushed["shop:1"]
    assert set(hub.proxy.asked) == {f"{HUB}:443"}


def test_a_mirror_json_is_replaced(mirror: Mirror, hub: Hub, layout: Layout) -> None:
    """Row B3: `homeport mirror import` makes a configuration of it, and a run does what the script did."""
    mirror.server.folder.joinpath("mirror.json").write_text('["alpine:3.20", "org/tool:1", "alpine:9.99"]')
    sections = yaml.safe_load(mirror.cli.run("mirror", "import", "mirror.json").out)
    mirror.start(sections["mirror"]["images"], client=hub.client)
    ran = mirror.run(code=3)
    assert [each["what"] for each in ran["failures"]] == ["docker.io/library/alpine:9.99"]
    assert mirror.registry.digest("alpine", "3.20") == mirror.registry.digest("org/tool", "1") == layout.digest
    assert mirror.registry.pull("alpine", "3.20") == hub.registry.pull("library/alpine", "3.20")
