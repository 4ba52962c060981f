"""No room: uploads are refused with 507 and can go on later, and everything else goes on now."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.http.images import begin_upload, digest_of, image, push_blob, push_image, push_manifest
from tests.http.watching import eventually
from tests.http.wire import Client
from tests.support.components import need_root
from tests.support.processes import Homeport

MIB = 1024 * 1024
ANYBODY = {"anonymous": ["pull", "push", "delete"]}


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of 24 MiB."""
    need_root()
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "homeport-test", folder], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def _is_full(client: Client, repository: str) -> bool:
    data = bytes(8 * MIB)
    answer = client.post(f"/v2/{repository}/blobs/uploads/?digest={digest_of(data)}", data)
    if answer.status == 507:
        assert answer.error == "UNAVAILABLE"
        assert "room" in answer.sentence
    return answer.status == 507


@pytest.mark.parametrize("reserve", [8 * MIB, 0], ids=["reserve", "to-the-last-byte"])
def test_a_full_disk(homeport: Homeport, small: Path, reserve: int) -> None:
    storage = {"reserve_bytes": reserve, "reserve_percent": 0}
    # With no reserve the database would have no room either; that is the next test.
    homeport.start(
        {"access": ANYBODY, "storage": storage, "database": str(homeport.folder / "facts.db")}, data=small / "data"
    )
    client = Client(homeport.url)
    push_image(client, "a", "v1", b"x")
    push_image(client, "a", "v2", b"y")
    # Little enough for the rest to be read after the refusal, so that the client hears of it.
    data = b"0123456789abcdef" * (MIB // 16) * (28 - reserve // MIB)
    location = begin_upload(client, "a")
    answer = client.patch(location, data)
    assert (answer.status, answer.error) == (507, "UNAVAILABLE")
    received = int(client.get(location)["range"].removeprefix("0-")) + 1
    assert 8 * MIB < received <= 24 * MIB - reserve

    # New ones are refused, what is here is served, deletes and cancelling work.
    assert _is_full(client, "a")
    manifest = image(b"{}", [b"x"], annotations={"a": "b" * (MIB if reserve else 5 * MIB // 2)})
    refused = client.put("/v2/a/manifests/v3", manifest.data, content_type=manifest.media_type)
    assert (refused.status, refused.error) == (507, "UNAVAILABLE")
    assert client.get("/v2/a/manifests/v1").status == 200
    assert client.get(f"/v2/a/blobs/{digest_of(b'x')}").body == b"x"
    assert client.delete("/v2/a/manifests/v2").status == 202
    assert client.get("/v2/a/tags/list").json["tags"] == ["v1"]
    assert client.get("/readyz").status == client.get("/metrics").status == 200

    # With room again the upload goes on from where it stood.
    subprocess.run(["mount", "-o", "remount,size=128m", small], check=True)
    assert eventually(lambda: not _is_full(client, "a"))
    rest = client.put(
        f"{location}?digest={digest_of(data)}", data[received:], content_range=f"{received}-{len(data) - 1}"
    )
    assert rest.status == 201, rest
    assert client.get(f"/v2/a/blobs/{digest_of(data)}").body == data
    push_manifest(client, "a", manifest, "v3")
    homeport.stop()


def test_a_full_disk_below_the_database(homeport: Homeport, small: Path) -> None:
    storage = {"reserve_bytes": 0, "reserve_percent": 0}
    homeport.start({"access": ANYBODY, "storage": storage, "database": str(small / "facts.db")})
    client = Client(homeport.url)
    push_image(client, "a", "v1", b"x")
    fill = subprocess.run(["dd", "if=/dev/zero", f"of={small / 'filler'}", "bs=4096"], capture_output=True, check=False)
    assert b"No space left" in fill.stderr

    def refused() -> bool:
        manifest = image(b"{}", [b"x"], annotations={"a": "b" * 100_000})
        answer = client.put("/v2/a/manifests/v2", manifest.data, content_type=manifest.media_type)
        assert answer.status in {201, 507}, answer
        return answer.status == 507 and answer.error == "UNAVAILABLE"

    assert eventually(refused)  # SQLite has some pages left at first.
    assert client.get("/v2/a/manifests/v1").status == 200
    assert client.get(f"/v2/a/blobs/{digest_of(b'x')}").body == b"x"
    (small / "filler").unlink()
    assert eventually(lambda: not refused())
    push_blob(client, "a", b"more")
    assert client.get("/v2/a/tags/list").json["tags"] == ["v1", "v2"]
    homeport.stop()
    homeport.start({"access": ANYBODY, "storage": storage, "database": str(small / "facts.db")})
    assert Client(homeport.url).get("/v2/a/tags/list").json["tags"] == ["v1", "v2"]
    homeport.stop()
