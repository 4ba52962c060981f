"""What an imported file means is what the real tool does with it: the same tags, under the same names.

What is not the same is told by the import.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from homeport.config.settings import Settings
from homeport.mirror import addresses, importing, rules
from homeport.mirror.addresses import Source
from homeport.mirror.selection import select
from homeport.oci import patterns
from tests.cli.tools import ask, push
from tests.real.clients import Sandbox
from tests.real.conftest import OPEN
from tests.support.components import need
from tests.support.processes import Homeport

pytestmark = pytest.mark.real

TAGS = (
    "1", "1.10", "1.11.2", "1.2", "1.2.0", "1.2.3", "1.2.3-alpine", "1.2.4-rc.1", "1.9.0", "2.0.0", "2.1.0-rc1",
    "20240329", "3", "latest", "latest-debug", "v1.2.3", "v1.3.0", "xlatest",
)  # fmt: skip
REPOSITORIES = ("up/app", "up/base/tool", "up/private/key")

REGSYNC = """\
version: 1
creds: [{{registry: "{host}", tls: disabled}}]
x-all: &all {{type: repository}}
sync:
  - {{source: "{host}/up/app:latest", target: "{host}/image/app:latest", type: image}}
  - {{source: "{host}/up/app", target: "{host}/all/app", <<: *all}}
  - {{source: "{host}/up/app", target: "{host}/allow/app", <<: *all, tags: {{allow: ["latest|3", "1\\\\.1.*"]}}}}
  - {{source: "{host}/up/app", target: "{host}/deny/app", <<: *all, tags: {{allow: ["v?1.*"], deny: [".*-.*", "1"]}}}}
  - {{source: "{host}/up/app", target: "{host}/range/app", <<: *all, tags: {{semverRange: [">=1.2.0 <2", "^3"]}}}}
  - source: "{host}/up/app"
    target: "{host}/sets/app"
    type: repository
    tags: {{semverRange: ["~1.2"], deny: ["v.*"]}}
    tagSets: [{{allow: ["(?i)LATEST"]}}, {{allow: ["2.*"], deny: ["2\\\\.0\\\\.0"]}}]
  - source: "{host}"
    target: "{host}/registry"
    type: registry
    repos: {{allow: ["up/[^/]+", "up/base/.*", "up/private/.*"], deny: ["up/private/.*"]}}
    tags: {{allow: ["latest"]}}
"""

SKOPEO = """\
"{host}":
  images:
    up/app: ["1.2", latest]
    up/base/tool: []
  images-by-tag-regex:
    up/private/key: ^1\\.2|debug
  tls-verify: false
"""


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Homeport]:
    server = Homeport(tmp_path_factory.mktemp("upstream"))
    url = server.start(OPEN)
    for repository in REPOSITORIES:
        for tag in TAGS:
            push(url, ("writer", server.passwords["writer"]), repository, tag, content=tag)
    yield server
    server.stop()


def tags_of(server: Homeport, repository: str) -> frozenset[str]:
    status, body, _ = ask(f"{server.url}/v2/{repository}/tags/list")
    assert status == 200, body
    return frozenset(json.loads(body)["tags"])


def repositories_of(server: Homeport) -> list[str]:
    found: list[str] = json.loads(ask(f"{server.url}/v2/_catalog")[1])["repositories"]
    return [name for name in found if name not in REPOSITORIES]


def meant(text: str, target: str = importing.SHORT_NAME) -> dict[str, frozenset[str]]:
    """By our names, the tags that the imported configuration means of what upstream has."""
    found = importing.read(text, skopeo_target=target)
    mirror = Settings.model_validate(yaml.safe_load(found.text())).mirror
    result: dict[str, frozenset[str]] = {}
    for rule in rules.of(mirror):
        for repository in REPOSITORIES:
            source = Source(rule.host, repository)
            name = addresses.target(rule.target, source)
            assert rule.selector is not None
            if rule.means(source) and not any(patterns.matches(each, name) for each in mirror.skip):
                result[name] = result.get(name, frozenset()) | set(select(rule.selector, TAGS).tags)
    return result


def run(folder: Path, *words: str | Path) -> None:
    environment = Sandbox(folder / "home").environment
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_regsync_file_means_what_regsync_copies(upstream: Homeport, tmp_path: Path) -> None:
    text = REGSYNC.format(host=upstream.host)
    (tmp_path / "regsync.yaml").write_text(text)
    run(tmp_path, need("regsync"), "once", "--config", tmp_path / "regsync.yaml")
    copied = {name: tags_of(upstream, name) for name in repositories_of(upstream)}
    wanted = meant(text)
    # What a range does not mean here is told: the variants, which regsync takes for pre-releases.
    assert [remark.where.partition(": ")[2] for remark in importing.read(text).lost] == [
        "sync[4].tags.semverRange",
        "sync[5].tags.semverRange",
    ]
    for name in ("range/app", "sets/app"):
        assert copied[name] - wanted[name] == {"1.2.3-alpine"}
        wanted[name] |= {"1.2.3-alpine"}
    assert wanted == copied


def test_a_skopeo_file_means_what_skopeo_copies(upstream: Homeport, tmp_path: Path) -> None:
    text = SKOPEO.format(host=upstream.host)
    (tmp_path / "sync.yml").write_text(text)
    words = ("sync", "--all", "--src", "yaml", "--dest", "docker", "--dest-tls-verify=false")
    run(tmp_path, need("skopeo"), *words, tmp_path / "sync.yml", f"{upstream.host}/skopeo")
    copied = {name: tags_of(upstream, name) for name in repositories_of(upstream) if name.startswith("skopeo/")}
    assert meant(text, "skopeo/{name}") == copied
