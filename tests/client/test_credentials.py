"""Logins that docker left, and its helpers, which are real programs here."""

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest

from homeport.client.credentials import DOCKER_HUB_KEY, Credential, DockerConfig, FixedCredentials
from homeport.client.errors import ClientError
from homeport.clock import SystemClock


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def config(tmp_path: Path, document: object) -> DockerConfig:
    path = tmp_path / "config.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return docker_config(path)


def docker_config(path: Path) -> DockerConfig:
    return DockerConfig(path, os.environ, SystemClock())


@pytest.fixture
def helpers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the PATH for helper programs."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


def make_helper(folder: Path, name: str, script: str) -> None:
    program = folder / f"docker-credential-{name}"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


AUTHS: dict[str, Any] = {
    "quay.io": {"auth": b64("ada:pass:with:colons")},
    "https://old.example/v1/": {"auth": b64("old:secret")},
    "path.example/team": {"auth": b64("path:secret")},
    DOCKER_HUB_KEY: {"auth": b64("hub:secret")},
    "plain.example:5000": {"username": "plain", "password": "secret"},
    "token.example": {"auth": b64("ada:"), "identitytoken": "refresh"},
    "left.behind": {},
    "null.example": {"auth": b64("ada:secret\0\0")},
    "odd.example": "not an object",
}


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("quay.io", Credential("ada", "pass:with:colons")),
        ("old.example", Credential("old", "secret")),
        ("docker.io", Credential("hub", "secret")),
        ("plain.example:5000", Credential("plain", "secret")),
        ("plain.example", None),
        ("path.example", Credential("path", "secret")),
        ("token.example", Credential("ada", "", "refresh")),
        ("left.behind", None),
        ("null.example", Credential("ada", "secret")),
        ("odd.example", None),
        ("index.docker.io", Credential("hub", "secret")),
        ("unknown.example", None),
        ("ay.io", None),
    ],
)
async def test_logins_in_the_file(tmp_path: Path, host: str, expected: Credential | None) -> None:
    assert await config(tmp_path, {"auths": AUTHS}).find(host) == expected


@pytest.mark.parametrize("document", ["", "[]", '{"auths": []}', '{"auths": null}', '{"credHelpers": 3}', "{}"])
async def test_odd_files_know_no_login(tmp_path: Path, document: str) -> None:
    source = config(tmp_path, document)
    if document:
        assert await source.find("quay.io") is None
    else:
        with pytest.raises(ClientError, match="is not JSON"):
            await source.find("quay.io")
    assert await docker_config(tmp_path / "missing.json").find("quay.io") is None


async def test_a_broken_login_is_told_without_its_secret(tmp_path: Path) -> None:
    with pytest.raises(ClientError, match=r"auths\.quay\.io") as failure:
        await config(tmp_path, {"auths": {"quay.io": {"auth": "hunter2!!"}}}).find("quay.io")
    assert "hunter2" not in str(failure.value)


def test_where_docker_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    named = DockerConfig.of_this_user({"DOCKER_CONFIG": "/somewhere"}, SystemClock())
    assert named.path == Path("/somewhere/config.json")
    assert DockerConfig.of_this_user({}, SystemClock()).path == Path("/home/ada/.docker/config.json")


async def test_helpers_are_asked(tmp_path: Path, helpers: Path) -> None:
    make_helper(helpers, "one", 'read host; echo "{\\"Username\\": \\"u\\", \\"Secret\\": \\"secret for $host\\"}"')
    make_helper(helpers, "store", 'read host; echo "{\\"Username\\": \\"<token>\\", \\"Secret\\": \\"$host\\"}"')
    source = config(tmp_path, {"auths": {"a.example": {}}, "credsStore": "store", "credHelpers": {"a.example": "one"}})
    assert await source.find("a.example") == Credential("u", "secret for a.example")
    assert await source.find("docker.io") == Credential(identity_token=DOCKER_HUB_KEY)


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("echo credentials not found in native keychain; exit 1", None),
        ('echo "{\\"Username\\": \\"\\", \\"Secret\\": \\"\\"}"', None),
        ("echo locked; exit 1", "failed with status 1"),
        ("echo hello", "something else than a login"),
        ("echo '[1]'", "something else than a login"),
        ("head -c 3000000 /dev/zero", "wrote more than 65536 bytes"),
    ],
)
async def test_what_helpers_say(tmp_path: Path, helpers: Path, script: str, told: str | None) -> None:
    make_helper(helpers, "odd", script)
    source = config(tmp_path, {"credsStore": "odd"})
    if told is None:
        assert await source.find("a.example") is None
        return
    with pytest.raises(ClientError, match=f"docker-credential-odd .*{told}"):
        await source.find("a.example")


async def test_helpers_that_are_none(tmp_path: Path, helpers: Path) -> None:
    for name in ("missing", "../../bin/sh", "-x", "a b"):
        with pytest.raises(ClientError, match=r"helper|cannot be started"):
            await config(tmp_path, {"credsStore": name}).find("a.example")


async def test_given_logins_come_first(tmp_path: Path) -> None:
    mine = Credential("me", "mine")
    source = FixedCredentials({"quay.io": mine}, config(tmp_path, {"auths": AUTHS}))
    assert await source.find("quay.io") == mine
    assert await source.find("docker.io") == Credential("hub", "secret")
    assert await FixedCredentials({"quay.io": mine}).find("docker.io") is None
