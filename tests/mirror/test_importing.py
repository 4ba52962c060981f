"""`mirror.json`, `regsync.yaml` and `skopeo sync` files come over as what they meant; what does not is told."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from homeport.config.loading import load
from homeport.config.settings import Settings
from homeport.mirror import importing
from homeport.mirror.importing import Imported, ImportRefused
from homeport.mirror.regsync import cron_of


@pytest.fixture
def taken(tmp_path: Path) -> Any:
    """A file's import, whose text is a configuration as `config check` takes it."""

    def take(text: str, **options: str) -> tuple[Imported, Settings]:
        found = importing.read(text, **options)
        path = tmp_path / "homeport.yaml"
        path.write_text(found.text())
        return found, load(path, {})

    return take


def images(found: Imported) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = yaml.safe_load(found.text())["mirror"]["images"]
    return listed


def said(remarks: list[Any]) -> str:
    return "\n".join(map(str, remarks))


# --- mirror.json ------------------------------------------------------------------------------------------------

#: As it stands in a repository that is built with it.
MIRROR_JSON = """\
[
  "alpine:3.13.2",
  "alpine:3.13.4",
  "alpine/git:1.0.20",
  "caddy:2.4.6-alpine",
  "gitea/gitea:1.16",
  "hasura/graphql-engine:v2.0.10.cli-migrations-v3",
  "gitea/gitea:1.11.8"
]
"""


def test_a_mirror_json(taken: Any) -> None:
    found, settings = taken(MIRROR_JSON)
    assert (found.form, found.lost, found.images) == ("mirror.json", [], 5)
    assert images(found)[:2] == [
        {"source": "docker.io/library/alpine", "target": "alpine", "tags": {"list": ["3.13.2", "3.13.4"]}},
        {"source": "docker.io/alpine/git", "target": "alpine/git", "tags": {"list": ["1.0.20"]}},
    ]
    assert settings.mirror.images[3].tags.list == ("1.16", "1.11.8")


def test_what_docker_takes_as_a_name_is_taken_too(taken: Any) -> None:
    found, _ = taken('["busybox", " library/busybox:1 ", "ghcr.io/org/app:v1", "docker.io/redis:7", "busybox"]')
    assert found.lost == []
    assert images(found) == [
        {"name": "busybox", "source": "docker.io/library/busybox", "target": "busybox", "tags": {"list": ["latest"]}},
        {"name": "library-busybox", "source": "docker.io/library/busybox", "target": "library/busybox",
         "tags": {"list": ["1"]}},
        {"source": "ghcr.io/org/app", "target": "{host}/{repository}", "tags": {"list": ["v1"]}},
        {"source": "docker.io/library/redis", "target": "{host}/{repository}", "tags": {"list": ["7"]}},
    ]  # fmt: skip


def test_what_a_mirror_json_has_that_is_no_image_is_told(taken: Any) -> None:
    digest = "sha256:" + "0" * 64
    text = json.dumps(["alpine:3", 7, None, ["alpine"], f"alpine@{digest}", "Alpine:3", "https://ada:pw@hub.lan/x"])
    found, settings = taken(text)
    assert len(settings.mirror.images) == 1
    assert [remark.where for remark in found.lost] == [f"entry {number}" for number in (2, 3, 4, 5, 6, 7)]
    assert "copy it once with `homeport copy`" in found.lost[3].text
    assert "ada" not in said(found.lost)


@pytest.mark.parametrize("text", ["[", "[1" + "0" * 5000 + "]", "[" * 100_000, '["a",]', "[NaN"])
def test_a_list_that_is_no_json(text: str) -> None:
    with pytest.raises(ImportRefused, match="is no JSON"):
        importing.read(text)


def test_more_entries_than_a_mirror_has() -> None:
    with pytest.raises(ImportRefused, match="more than 20000 entries"):
        importing.read(json.dumps(["a:1"] * 20_001))


# --- regsync ----------------------------------------------------------------------------------------------------

#: The parts of a file of regsync's own documents.
REGSYNC = """\
version: 1
creds:
  - registry: registry:5000
    tls: disabled
  - registry: docker.io
    user: "reader"
    pass: "{{file \\"/home/appuser/.docker/hub_token\\"}}"
    reqPerSec: 5
    reqConcurrent: 100
defaults:
  ratelimit:
    min: 100
    retry: 15m
  parallel: 2
  interval: 60m
  backup: "bkup-{{.Ref.Tag}}"
x-hub: &hub
  target: registry:5000/hub/{{ .Sync.Source }}
  type: repository
sync:
  - source: busybox:latest
    target: registry:5000/library/busybox:latest
    type: image
  - source: busybox:1.36
    target: registry:5000/library/busybox:1.36
    type: image
  - <<: *hub
    source: alpine
    tags:
      allow:
      - latest
      - 3
      - 3.10
      - "3.\\\\d+"
      deny: ["3\\\\.1"]
  - source: ghcr.io/regclient/regctl:latest
    target: registry:5000/regclient/regctl:latest
    type: image
    referrers: false
    platforms: [linux/amd64, linux/arm/v7]
"""


def test_a_regsync_file(taken: Any) -> None:
    found, settings = taken(REGSYNC)
    assert (found.form, said(found.lost)) == ("regsync", "")
    assert images(found) == [
        {"source": "docker.io/library/busybox", "target": "library/busybox", "tags": {"list": ["latest", "1.36"]}},
        {
            "source": "docker.io/library/alpine",
            "target": "hub/alpine",
            "tags": {"match": ["^latest$", "^3$", "^3.10$", r"^3.\d+$"], "not_match": [r"^3\.1$"]},
        },
        {
            "source": "ghcr.io/regclient/regctl",
            "target": "regclient/regctl",
            "platforms": ["linux/amd64", "linux/arm/v7"],
            "referrers": False,
            "tags": {"list": ["latest"]},
        },
    ]
    assert settings.mirror.schedule == "0 * * * *"
    hub = settings.upstreams["docker.io"]
    assert (hub.username, str(hub.password)) == ("reader", "file:/home/appuser/.docker/hub_token")
    assert (hub.reserve, hub.requests_per_second, hub.at_once) == (100, 5.0, 64)
    assert settings.upstreams["ghcr.io"].reserve == 100
    assert settings.client.hosts == {}
    notes = said(found.notes)
    assert "line 3: creds[0].registry: is no source of what is mirrored" in notes
    assert "line 16: defaults.backup: what a tag was before can be brought back with `homeport tag restore`" in notes
    assert notes.count("signatures, attestations and SBOMs come with their images") == 1


def entry(more: str, head: str = "") -> str:
    return f"{head}version: 1\nsync:\n  - source: reg.lan:5000/app\n    target: here:5000/app\n{more}"


def test_sets_of_tags_are_images_of_their_own(taken: Any) -> None:
    found, _ = taken(
        entry("""\
    type: repository
    tags: {semverRange: [">=1.2.0 <2", "^3"], deny: [".*-rc.*"]}
    tagSets: [{allow: [latest]}, {}]
""")
    )
    assert images(found) == [{"source": "reg.lan:5000/app", "target": "app"}], "one of the sets means all tags"
    found, _ = taken(
        entry("""\
    type: repository
    tags: {semverRange: [">=1.2.0 <2", "^3"], deny: [".*-rc.*"]}
    tagSets: [{allow: [latest]}]
""")
    )
    assert [(image["name"], image["tags"]) for image in images(found)] == [
        ("app", {"not_match": ["^.*-rc.*$"], "semver": ">=1.2.0 <2 || ^3", "prereleases": True}),
        ("app-2", {"match": ["^latest$"]}),
    ]
    assert "semverRange: regsync takes 1.2.3-alpine for a pre-release" in said(found.lost)
    found, _ = taken(entry("    type: repository\n    tags: {semverRange: ['^3'], deny: ['.*-.*']}\n"))
    assert found.lost == []


def test_a_registry_is_a_pattern_of_its_repositories(taken: Any) -> None:
    found, settings = taken(
        'sync: [{source: "reg.lan", target: "here:5000/copy", type: registry,'
        ' repos: {allow: ["team/.*", "base/img\\\\.d", "x/[^/]+"], deny: ["team/private/.*"]}, tags: {allow: ["v.*"]}}]'
    )
    assert said(found.lost) == ""
    assert [(image["source"], image["target"]) for image in images(found)] == [
        ("reg.lan/team/**", "copy/{repository}"),
        ("reg.lan/base/img.d", "copy/{repository}"),
        ("reg.lan/x/*", "copy/{repository}"),
    ]
    assert settings.mirror.skip == ("copy/team/private/**",)


@pytest.mark.parametrize(
    ("more", "lost"),
    [
        ("    type: image\n    platform: local\n", "platform: is the machine's own platform"),
        ("    type: repository\n    referrerTarget: x\n", "referrerTarget: referrers are put where their image is"),
        ("    type: repository\n    includeExternal: true\n", "layers that are kept elsewhere are not fetched"),
        ("    type: repository\n    colour: red\n", "colour: is not known here"),
        ("    type: repository\n    tags: {allow: [a, '\\pL+']}\n", "allow[1]: '\\pL+' is an expression"),
        ("    type: repository\n    referrerFilters: [{annotations: {a: b}}]\n", "by their artifact type only"),
        ("    type: repository\n    schedule: '* * * * * *'\n", "schedule: is no cron line of five fields"),
        ("    type: repository\n    interval: soon\n", "interval: is no duration"),
    ],
)
def test_what_cannot_be_carried_over_is_told_and_the_rest_taken(taken: Any, more: str, lost: str) -> None:
    found, settings = taken(entry(more))
    assert re.fullmatch(r"line \d+: sync\[0\]\..*", said(found.lost))
    assert lost in said(found.lost)
    assert len(settings.mirror.images) == 1


@pytest.mark.parametrize(
    ("text", "lost"),
    [
        (entry("    type: folder\n"), "type: must be image, repository or registry"),
        (entry("    type: repository\n    tags: {deny: ['(?<x>a)']}\n"), "would mean other tags without that"),
        (entry("    type: repository\n    tags: {allow: ['[[:alpha:]]+']}\n"), "would mean other tags without that"),
        (
            entry("    type: repository\n    tags: {semverRange: ['>=>1']}\n"),
            "semverRange[0]: semver ",
        ),
        (entry(f"    type: repository\n    tags: {{semverRange: [{'1,' * 200}]}}\n"), "has at most 255 characters"),
        (entry("    type: repository\n    tags: 7\n"), "tags: must be a map"),
        (entry("    type: repository\n    tags: {allow: {a: b}}\n"), "allow: must be a list of texts"),
        ("sync: [{source: a, type: image}]", "has no 'source' or no 'target'"),
        ("sync: [{source: 'ocidir://a', target: b, type: image}]", "source: is a folder"),
        ("sync: [{source: '{{env \"X\"}}', target: b, type: image}]", "source: is a template"),
        ("sync: [{source: 'a:1', target: 'r:1/b:2', type: image}]", "target: has another tag than the source"),
        ("sync: [{source: docker.io, target: 'r:1', type: registry}]", "docker.io lists its repositories to nobody"),
        ("sync: [{source: r.lan, target: 'r:1', type: registry, repos: {deny: ['a|b']}}]", "would mirror other"),
        ("sync: [7]", "sync[0]: must be a map"),
    ],
)
def test_an_entry_that_would_mirror_something_else_is_left_out(taken: Any, text: str, lost: str) -> None:
    found, settings = taken(text)
    assert lost in said(found.lost)
    assert settings.mirror.images == ()


@pytest.mark.parametrize(
    ("credentials", "told"),
    [
        ("user: ada, pass: hunter22", "pass: the password stands in the file"),
        ("user: ada", "has half of a login"),
        ("user: '{{env \"U\"}}', pass: hunter22", "user: is a template"),
        ("token: hunter22", "token: is a token"),
        ("clientKey: hunter22", "clientKey: certificates of clients are not supported"),
        ("regcert: hunter22", "put the certificate into a file and write client.hosts.reg.lan:5000.ca"),
        ("colour: hunter22", "colour: is not known here"),
        ("user: ada, pass: [hunter22]", "pass: must be text"),
    ],
)
def test_no_secret_of_the_file_is_repeated(taken: Any, credentials: str, told: str) -> None:
    head = f"creds: [{{registry: 'reg.lan:5000', {credentials}}}]\n"
    found, settings = taken(entry("    type: repository\n", head))
    assert told in said(found.lost)
    assert settings.upstreams == {}
    assert "hunter22" not in said([*found.lost, *found.notes]) + found.text()


def test_how_a_registry_is_called(taken: Any) -> None:
    login = "user: a, pass: '{{env \"P\"}}'"
    head = f"creds: [{{registry: 'reg.lan:5000', tls: disabled, regcert: '{{{{file \"/ca.crt\"}}}}', {login}}}]\n"
    found, settings = taken(entry("    type: repository\n", head))
    assert found.lost == []
    host = settings.client.hosts["reg.lan:5000"]
    assert (host.insecure, str(host.ca)) == (True, "/ca.crt")
    assert str(settings.upstreams["reg.lan:5000"].password) == "env:P"


def test_all_images_have_one_schedule(taken: Any) -> None:
    found, settings = taken(
        'defaults: {schedule: "15 3 * * *"}\nsync:\n- {source: "a:1", target: "r:1/a:1", type: image}\n'
        '- {source: "b:1", target: "r:1/b:1", type: image, interval: 12h}\n'
    )
    assert settings.mirror.schedule == "15 3 * * *"
    assert said(found.lost) == (
        "line 4: sync[1].interval: all images are mirrored at one time, mirror.schedule: '15 3 * * *'"
    )


@pytest.mark.parametrize(
    ("minutes", "cron"),
    [
        (0.5, ("* * * * *", False)),
        (1, ("* * * * *", True)),
        (15, ("*/15 * * * *", True)),
        (50, ("*/30 * * * *", False)),
        (60, ("0 * * * *", True)),
        (90, ("0 * * * *", False)),
        (360, ("0 */6 * * *", True)),
        (420, ("0 */6 * * *", False)),
        (1440, ("0 2 * * *", True)),
        (10080, ("0 2 * * *", False)),
    ],
)
def test_an_interval_as_a_cron_line(minutes: float, cron: tuple[str, bool]) -> None:
    assert cron_of(minutes * 60) == cron


# --- skopeo sync ------------------------------------------------------------------------------------------------

#: The parts of the file of skopeo-sync(1).
SKOPEO = """\
registry.example.com:
    images:
        busybox: []
        redis:
            - 1.10
            - "2.0"
            - "sha256:0000000000000000000000000000000011111111111111111111111111111111"
    images-by-tag-regex:
        nginx: ^1\\.13\\.[12]-alpine-perl$
        redis: "(?i)^V3"
    images-by-semver:
        alpine: ">= 3.12.0"
    credentials:
        username: john
        password: this is a secret
    tls-verify: true
    cert-dir: /home/john/certs
quay.io:
    tls-verify: false
    images:
        coreos/etcd:
            - latest
"""


def test_a_skopeo_file(taken: Any) -> None:
    found, settings = taken(SKOPEO)
    assert found.form == "skopeo sync"
    assert images(found) == [
        {"source": "registry.example.com/busybox", "target": "{name}"},
        {
            "source": "registry.example.com/redis",
            "target": "{name}",
            "tags": {"list": ["1.10", "2.0"], "match": ["(?i)^V3"]},
        },
        {
            "source": "registry.example.com/nginx",
            "target": "{name}",
            "tags": {"match": [r"^1\.13\.[12]-alpine-perl$"]},
        },
        {"source": "registry.example.com/alpine", "target": "{name}", "tags": {"semver": ">= 3.12.0"}},
        {"source": "quay.io/coreos/etcd", "target": "{name}", "tags": {"list": ["latest"]}},
    ]
    assert settings.client.hosts["quay.io"].insecure
    assert [remark.where for remark in found.lost] == [
        "line 7: registry.example.com.images.redis[2]",
        "line 13: registry.example.com.credentials",
        "line 17: registry.example.com.cert-dir",
    ]
    assert "this is a secret" not in said([*found.lost, *found.notes]) + found.text()


def test_where_skopeo_put_them_is_on_its_command_line(taken: Any) -> None:
    found, _ = taken("docker.io: {images: {alpine: ['3'], org/x: []}}", skopeo_target="{host}/{repository}")
    assert [(image["source"], image["target"]) for image in images(found)] == [
        ("docker.io/library/alpine", "{host}/{repository}"),
        ("docker.io/org/x", "{host}/{repository}"),
    ]


def test_odd_things_in_a_skopeo_file_are_told(taken: Any) -> None:
    found, settings = taken(
        "nohost: {images: {a: []}}\nr.lan: {images: {Bad: [], ok: {}, no: ['a b'], digest: ['sha256:1']},"
        " images-by-semver: [1], colour: x}\nquay.io: 3\nghcr.io: {images-by-semver: {a: '>', b: []}}\n"
    )
    assert settings.mirror.images == ()
    told = said(found.lost)
    assert "nohost: is not the host of a registry" in told
    assert "images.Bad: 'r.lan/Bad' is not the name of an image" in told
    assert "images.ok: must be a list of texts" in told
    assert "images.no[0]: tags.list[0] must be a tag" in told
    assert "images-by-semver: must be a map" in told
    assert "quay.io: must be a map" in told
    assert "images-by-semver.a: tags.semver " in told
    assert "images-by-semver.b: must be text" in told


# --- any file ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is neither a mirror.json"),
        ("hello", "is neither a mirror.json"),
        ("a: {b: c}", "is neither a mirror.json"),
        ("mirror: {images: []}", "is a configuration of Homeport already"),
        ("a: [", "line 1: "),
        ("sync:\n\t- a", "line 2: begins with a tab"),
        ("sync: []\nsync: []", "line 2: 'sync' stands twice"),
        ("a: " + "{b: " * 40 + "c" + "}" * 40, "is nested more than"),
        ("a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
            f"{chr(98 + n)}: &{chr(98 + n)} [{','.join([f'*{chr(97 + n)}'] * 10)}]\n" for n in range(8)
        ), "has more than 100000 values"),
        ("sync: !!python/object/apply:os.system [ls]", "is not something a setting can be"),
    ],
)  # fmt: skip
def test_a_file_of_another_kind_is_refused(text: str, why: str) -> None:
    with pytest.raises(ImportRefused) as refused:
        importing.read(text)
    assert why in str(refused.value)


def test_what_is_told_has_an_end() -> None:
    found = importing.read(json.dumps([7] * 5000))
    assert len(found.lost) == 1001
    assert str(found.lost[-1]) == "further on: there is more of the kind, which is not listed"


_WORDS = st.sampled_from(
    ["sync", "creds", "defaults", "source", "target", "type", "tags", "allow", "deny", "image", "registry", "pass",
     "images", "docker.io", "alpine:3", "r.lan:5000/x", "**", "{{x}}", "{", "(", "a", "", "1", "<<", "platforms",
     "repository"]
)  # fmt: skip
_VALUES = st.recursive(
    _WORDS | st.none() | st.integers(0, 9) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_WORDS, inner, max_size=5),
    max_leaves=25,
)


@given(st.fixed_dictionaries({"sync": st.lists(st.dictionaries(_WORDS, _VALUES, max_size=8), max_size=3)}) | _VALUES)
def test_whatever_the_file_what_comes_out_is_a_configuration(value: Any) -> None:
    try:
        found = importing.read(yaml.safe_dump(value))
    except ImportRefused:
        return
    Settings.model_validate(yaml.safe_load(found.text()))
