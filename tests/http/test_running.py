"""The server as a process: read-only mode, how it says that it is well, signals, restarts, and what it remembers."""

import os
import re
import signal
import sqlite3
import subprocess

import pytest

from tests.http.images import begin_upload, digest_of, image, push_blob, push_image, push_manifest
from tests.http.watching import eventually, files, log_lines, reload
from tests.http.wire import Client, compose
from tests.support.processes import Config, Homeport

ANYBODY = {"anonymous": ["pull", "push", "delete"]}
CONFIGURATION: Config = {
    "access": ANYBODY,
    "log": {"format": "json"},
    "storage": {"reserve_bytes": 0, "reserve_percent": 0},
}
DATA = b"some data"


@pytest.fixture
def client(homeport: Homeport) -> Client:
    """Nobody in particular, at a server that was started for this test alone."""
    homeport.start(CONFIGURATION)
    return Client(homeport.url)


# --- read-only --------------------------------------------------------------------------------------------------------


def test_read_only(homeport: Homeport, client: Client) -> None:
    """CVE-2026-41888: tags could be deleted where deleting was off. Every change is refused, with the reason."""
    manifest = push_image(client, "a", "v1", DATA)
    location = begin_upload(client, "a")
    assert client.patch(location, b"12345").status == 202
    reload(homeport, {**CONFIGURATION, "server": {"read_only": "we move to a new disk until noon"}})
    before = files(homeport.data)
    headers = {"Content-Type": manifest.media_type}
    for method, target, body in [
        ("PUT", "/v2/a/manifests/v1", manifest.data),
        ("PUT", "/v2/a/manifests/v2", manifest.data),
        ("PUT", "/v2/a/manifests/latest", manifest.data),
        ("PUT", f"/v2/a/manifests/{manifest.digest}", manifest.data),
        ("PUT", f"/v2/a/manifests/{manifest.digest}?tag=v3", manifest.data),
        ("PUT", "/v2/new/manifests/v1", manifest.data),
        ("DELETE", "/v2/a/manifests/v1", None),
        ("DELETE", f"/v2/a/manifests/{manifest.digest}", None),
        ("DELETE", f"/v2/a/blobs/{digest_of(DATA)}", None),
        ("POST", "/v2/a/blobs/uploads/", b""),
        ("POST", f"/v2/a/blobs/uploads/?digest={digest_of(b'new')}", b"new"),
        ("POST", f"/v2/b/blobs/uploads/?mount={digest_of(DATA)}&from=a", b""),
        ("POST", f"/v2/b/blobs/uploads/?mount={digest_of(DATA)}", b""),
        ("PATCH", location, b"678"),
        ("PUT", f"{location}?digest={digest_of(b'12345')}", b""),
        ("DELETE", location, None),
    ]:
        answer = client.request(method, target, body, headers)
        assert (answer.status, answer.error) == (405, "UNSUPPORTED"), (method, target)
        assert "read-only" in answer.sentence
        assert "we move to a new disk until noon" in answer.sentence
    assert files(homeport.data) == before
    assert client.get("/readyz").json["read_only"] == "we move to a new disk until noon"
    assert client.get("/v2/a/tags/list").json["tags"] == ["v1"]
    assert client.get("/v2/a/manifests/v1").body == manifest.data
    for method in ("GET", "HEAD"):
        assert client.request(method, f"/v2/a/blobs/{digest_of(DATA)}").status == 200
    assert client.get("/v2/b/tags/list").status == 404
    assert client.get(location)["range"] == "0-4"

    reload(homeport, CONFIGURATION)
    assert client.put(f"{location}?digest={digest_of(b'12345678')}", b"678").status == 201
    assert client.delete("/v2/a/manifests/v1").status == 202
    homeport.stop()


# --- how it is --------------------------------------------------------------------------------------------------------

SAMPLE = re.compile(r'([a-z_]+)(\{(?:[a-z]+="(?:[^"\\\n]|\\.)*",?)+\})? (-?[0-9.e+-]+|\+Inf|NaN)')


def metrics(client: Client) -> dict[str, float]:
    """Every sample of `/metrics`, which must be in Prometheus' text format."""
    answer = client.get("/metrics")
    assert answer["content-type"].startswith("text/plain; version=0.0.4")
    samples: dict[str, float] = {}
    types: dict[str, str] = {}
    for line in answer.body.decode().splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in types
            types[name] = kind
        elif not line.startswith("# HELP "):
            found = SAMPLE.fullmatch(line)
            assert found, line
            assert re.sub("_(bucket|sum|count)$", "", found[1]) in types, f"{line} has no type"
            samples[found[1] + (found[2] or "")] = float(found[3])
    assert answer.body.endswith(b"\n")
    return samples


def test_health_and_metrics(homeport: Homeport, client: Client) -> None:
    assert client.get("/healthz").json == {"status": "ok"}
    assert client.get("/readyz").json == {"status": "ok", "read_only": None}
    count = 'homeport_request_seconds_count{route="manifest",method="GET",status="404"}'
    assert count not in metrics(client)
    for _ in range(3):
        client.get("/v2/a/manifests/v1")
    found = metrics(client)
    assert found[count] == 3
    assert found[count.replace("_count{", "_bucket{").replace("}", ',le="+Inf"}')] == 3
    assert 0 < found["homeport_storage_free_bytes"] <= found["homeport_storage_total_bytes"]
    assert found["homeport_requests_active"] >= 1
    # What strangers make up becomes no time series, and no name of anything stands in it.
    for number in range(20):
        client.request(f"METHOD{number}", f"/v2/secret{number}/manifests/v1")
        client.get(f"/made/up/{number}")
    text = client.get("/metrics").body.decode()
    assert "METHOD1" not in text
    assert "secret" not in text
    assert "made" not in text
    homeport.stop()


def test_a_request_has_an_id_in_the_answer_and_in_the_log(homeport: Homeport, client: Client) -> None:
    answers = [client.get("/v2/a/manifests/v1?x=1"), client.head("/nowhere"), client.post("/v2/a/blobs/uploads/")]
    homeport.stop()
    lines = {line["id"]: line for line in log_lines(homeport) if line["event"] == "request"}
    assert len(lines) == 3
    for answer in answers:
        line = lines[answer["x-request-id"]]
        assert (line["status"], line["actor"], line["address"]) == (answer.status, "anonymous", "127.0.0.1")
        assert 0 <= line["seconds"] < 10
    found = [line["error"] for line in lines.values()]
    assert found == ["MANIFEST_UNKNOWN", "UNSUPPORTED", None]
    assert next(iter(lines.values()))["path"] == "/v2/a/manifests/v1"


# --- signals ----------------------------------------------------------------------------------------------------------


def test_sigterm_lets_an_upload_end(homeport: Homeport, client: Client) -> None:
    location = begin_upload(client, "a")
    target = f"{location}?digest={digest_of(DATA)}"
    with client.connect() as connection:
        connection.send(compose(client.host, "PUT", target, DATA, {})[:-4])
        assert eventually(lambda: metrics(client)["homeport_requests_active"] == 2)
        os.kill(homeport.pid, signal.SIGTERM)
        assert eventually(lambda: "program.stopping" in homeport.log)
        assert eventually(lambda: _refuses(client))
        connection.send(DATA[-4:])
        assert connection.receive().status == 201
    homeport.stop()
    homeport.start(CONFIGURATION)
    assert Client(homeport.url).get(f"/v2/a/blobs/{digest_of(DATA)}").body == DATA
    homeport.stop()


@pytest.mark.parametrize("wanted", [{}, {"Range": "bytes=1-"}], ids=["whole", "range"])
def test_sigterm_lets_a_download_end(homeport: Homeport, client: Client, wanted: dict[str, str]) -> None:
    data = bytes(range(256)) * 4096 * 48
    target = f"/v2/a/blobs/{push_blob(client, 'a', data)}"
    with client.connect() as connection:
        connection.send(compose(client.host, "GET", target, None, wanted))
        connection.socket.recv(1)
        os.kill(homeport.pid, signal.SIGTERM)
        assert eventually(lambda: _refuses(client))
        received = 1
        while part := connection.socket.recv(1024 * 1024):
            received += len(part)
    assert received > len(data)
    homeport.stop()


def test_sigterm_does_not_wait_for_ever(homeport: Homeport) -> None:
    homeport.start({**CONFIGURATION, "server": {"drain_seconds": 1}})
    client = Client(homeport.url)
    location = begin_upload(client, "a")
    with client.connect() as connection:
        connection.send(compose(client.host, "PATCH", location, DATA, {})[:-4])
        assert eventually(lambda: metrics(client)["homeport_requests_active"] == 2)
        homeport.stop()
    homeport.start(CONFIGURATION)
    assert Client(homeport.url).get(location).status == 204
    homeport.stop()


def test_sigint_is_a_stop(homeport: Homeport, client: Client) -> None:
    process = homeport._process
    assert process is not None
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    homeport._process = None


def _refuses(client: Client) -> bool:
    try:
        client.connect().close()
    except ConnectionError:
        return True
    return False


def test_sighup_takes_a_configuration_or_keeps_the_old_one(homeport: Homeport, client: Client) -> None:
    push_image(client, "a", "v1", DATA)
    reload(homeport, {**CONFIGURATION, "access": {"anonymous": ["pull"]}})
    assert client.get("/v2/a/manifests/v1").status == 200
    assert client.delete("/v2/a/manifests/v1").status == 401
    for broken in ("access: [", "access: {anonymous: [fly]}", "no_such: 1", "server: {tls: 5}"):
        (homeport.folder / "homeport.yaml").write_text(broken)
        before = homeport.log.count("config.refused")
        os.kill(homeport.pid, signal.SIGHUP)
        assert eventually(lambda: homeport.log.count("config.refused") > before)  # noqa: B023 (called at once)
        assert client.get("/v2/a/manifests/v1").status == 200
        assert client.delete("/v2/a/manifests/v1").status == 401
    reload(homeport, {**CONFIGURATION, "access": {"anonymous": []}})
    assert client.get("/v2/a/manifests/v1").status == 401
    writer = client.basic("writer", homeport.passwords["writer"])
    assert writer.get("/v2/a/manifests/v1").status == 200
    homeport.stop()


# --- what it remembers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_restart_finds_everything(homeport: Homeport, client: Client, how: str) -> None:
    manifest = push_image(client, "a", "v1", DATA)
    push_blob(client, "a", b"sha512", "sha512")
    attached = image(b"{}", artifactType="a/b", subject=manifest.descriptor)
    push_manifest(client, "a", attached)
    location = begin_upload(client, "a")
    assert client.patch(location, b"12345").status == 202
    push_blob(client, "a", b"and one that makes all before it durable")
    if how == "stop":
        homeport.stop()
    else:
        homeport.kill()
    homeport.start(CONFIGURATION)
    client = Client(homeport.url)
    assert client.get("/v2/a/manifests/v1").body == manifest.data
    assert client.get(f"/v2/a/blobs/{digest_of(DATA)}").body == DATA
    assert client.get(f"/v2/a/blobs/{digest_of(b'sha512', 'sha512')}").body == b"sha512"
    assert len(client.get(f"/v2/a/referrers/{manifest.digest}").json["manifests"]) == 1
    assert client.get("/v2/_catalog").json == {"repositories": ["a"]}
    status = client.get(location)
    assert (status.status, status["range"]) == (204, "0-4")
    assert client.patch(location, b"678", content_range="5-7").status == 202
    assert client.put(f"{location}?digest={digest_of(b'12345678')}").status == 201
    homeport.stop()


def test_the_last_pull_is_remembered(homeport: Homeport, client: Client) -> None:
    """Of a tag or digest that was asked for with GET; looking (HEAD, not modified) is no pull."""
    manifest = push_image(client, "a", "v1", DATA)
    for tag in ("v2", "v3", "v4"):
        push_manifest(client, "a", manifest, tag)
    for _ in range(3):
        client.get("/v2/a/manifests/v1")
    client.get(f"/v2/a/manifests/{manifest.digest}")
    client.head("/v2/a/manifests/v2")
    client.get("/v2/a/manifests/v3", if_none_match=f'"{manifest.digest}"')
    client.get("/v2/a/manifests/none")
    client.head(f"/v2/a/blobs/{digest_of(b'{}')}")
    client.get(f"/v2/a/blobs/{digest_of(DATA)}")
    homeport.stop()
    with sqlite3.connect(homeport.data / "homeport.db") as database:
        rows = database.execute("SELECT repository, reference, pulls FROM pulls").fetchall()
    database.close()
    assert {(name, reference): pulls for name, reference, pulls in rows} == {
        ("a", "v1"): 3,
        ("a", manifest.digest): 1,
        ("a", digest_of(DATA)): 1,
    }


def test_nothing_readable_by_others_is_written(homeport: Homeport, client: Client) -> None:
    push_image(client, "a", "v1", DATA)
    begin_upload(client, "a")
    homeport.stop()
    found = subprocess.run(
        ["find", homeport.data, "-type", "f", "-perm", "/077"], capture_output=True, text=True, check=True
    )
    assert found.stdout == ""
