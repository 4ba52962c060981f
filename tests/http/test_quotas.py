"""Quotas on a running server: counted, enforced, told; and of pushes that race, those win that fit."""

import os
import sqlite3
import threading
from collections import Counter
from contextlib import closing
from typing import Any

from tests.cli.tools import CommandLine
from tests.http.images import begin_upload, digest_of, push_blob, push_image
from tests.http.watching import eventually, reload
from tests.http.wire import Client
from tests.support.processes import Config, Homeport

MIB = 1024 * 1024
OPEN: Config = {"access": {"anonymous": ["pull", "push", "delete"]}}


def config(**quotas: int) -> Config:
    """A quota for everything below each of these names."""
    return {**OPEN, "quotas": [{"repositories": f"{name}/**", "bytes": size} for name, size in quotas.items()]}


def listed(homeport: Homeport) -> list[dict[str, Any]]:
    words = ("quota", "list", "--config", str(homeport.folder / "homeport.yaml"), "--data", str(homeport.data))
    found: list[dict[str, Any]] = CommandLine(homeport.folder).run_here(*words, "--json").json
    return found


def counted(homeport: Homeport) -> bool:
    return all(row["counted"] for row in listed(homeport))


def used(homeport: Homeport, pattern: str) -> int:
    (row,) = (row for row in listed(homeport) if row["repositories"] == pattern)
    size: int = row["used_bytes"]
    return size


def sessions(homeport: Homeport) -> int:
    with closing(sqlite3.connect(homeport.data / "homeport.db")) as database:
        (count,) = database.execute("SELECT count(*) FROM uploads").fetchone()
    return int(count)


def test_a_quota_is_counted_enforced_and_taken_over_while_the_server_runs(homeport: Homeport) -> None:
    homeport.start({**OPEN}, verb="up")
    client = Client(homeport.url)
    assert listed(homeport) == []
    manifest = push_image(client, "team/app", "v1", b"x" * 1000)
    size = 1000 + len(b"{}") + len(manifest.data)

    reload(homeport, config(team=size + 100))
    assert eventually(lambda: counted(homeport)), homeport.log
    assert listed(homeport) == [
        {"repositories": "team/**", "used_bytes": size, "limit_bytes": size + 100, "counted": True}
    ]
    refused = client.post(f"/v2/team/app/blobs/uploads/?digest={digest_of(b'y' * 101)}", b"y" * 101)
    assert (refused.status, refused.error) == (403, "DENIED")
    assert f"team/**: {size} of {size + 100} bytes are used" in refused.json["errors"][0]["message"]
    push_blob(client, "solo/app", b"y" * 101)
    mounted = client.post(f"/v2/team/b/blobs/uploads/?mount={digest_of(b'y' * 101)}&from=solo/app")
    assert (mounted.status, mounted.error) == (403, "DENIED")
    push_image(client, "team/app", "v2", b"x" * 1000)

    push_blob(client, "team/b", b"z" * 100)
    full = client.post("/v2/team/b/blobs/uploads/")
    assert (full.status, full.error) == (403, "DENIED")
    assert client.delete(f"/v2/team/b/blobs/{digest_of(b'z' * 100)}").status == 202
    begin_upload(client, "team/b")

    reload(homeport, config(solo=10))
    assert eventually(lambda: [row["used_bytes"] for row in listed(homeport)] == [101])
    push_blob(client, "team/app", b"y" * 5000)
    homeport.stop()


def test_a_layer_that_comes_without_a_length_is_cut(homeport: Homeport) -> None:
    homeport.start(config(team=5 * MIB), verb="up")
    client = Client(homeport.url)
    assert eventually(lambda: counted(homeport))
    location = begin_upload(client, "team/app")
    answer = client.patch(location, bytes(12 * MIB))
    assert (answer.status, answer.error) == (403, "DENIED")
    assert client.get(location).status == 404
    assert list((homeport.data / "uploads").iterdir()) == []
    assert sessions(homeport) == 0
    push_blob(client, "team/app", os.urandom(5 * MIB))
    assert used(homeport, "team/**") == 5 * MIB
    homeport.stop()


def test_of_pushes_that_fit_alone_and_not_together_one_wins(homeport: Homeport) -> None:
    """Small ones meet in the transaction that links, large ones in what they reserve."""
    homeport.start(config(small=100_000, large=10 * MIB), verb="up")
    assert eventually(lambda: counted(homeport))
    for _ in range(5):
        for name, size, room in (("small", 60_000, 100_000), ("large", 8 * MIB, 10 * MIB)):
            blobs = [os.urandom(size) for _ in range(3)]
            outcomes = Counter(push_at_once(homeport, name, blobs))
            assert outcomes == {201: 1, 403: 2}, outcomes
            assert used(homeport, f"{name}/**") == size <= room
            client = Client(homeport.url)
            statuses = [
                client.delete(f"/v2/{name}/r{number}/blobs/{digest_of(data)}").status
                for number, data in enumerate(blobs)
            ]
            assert Counter(statuses) == {202: 1, 404: 2}
            assert used(homeport, f"{name}/**") == 0
    assert sessions(homeport) == 0
    homeport.stop()


def push_at_once(homeport: Homeport, name: str, blobs: list[bytes]) -> list[int]:
    """The statuses that the pushes ended with, each into a repository of its own, as docker does it."""
    statuses = [0] * len(blobs)
    together = threading.Barrier(len(blobs))

    def push(number: int, data: bytes) -> None:
        client = Client(homeport.url)
        location = begin_upload(client, f"{name}/r{number}")
        together.wait()
        answer = client.patch(location, data)
        if answer.status == 202:
            answer = client.put(f"{location}?digest={digest_of(data)}")
        statuses[number] = answer.status

    threads = [threading.Thread(target=push, args=pair) for pair in enumerate(blobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statuses
