"""Asking engines, on real sockets: what is read of those that are well, and what is said of those that are not."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from homeport.client import engines
from homeport.client.engines import Engine, ask
from homeport.client.errors import BadAnswer, ClientError, ConnectionFailed, Refused
from homeport.clock import SystemClock
from tests.client.servers import free_port
from tests.support.certificates import Authority
from tests.support.engines import ID, LittleEngine, answer, on_socket, on_tcp

PATHS = ("/info", "/containers/json?all=1", f"/images/{ID}/json", "/services", "/tasks", "/nodes")
CLOCK = SystemClock()


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[LittleEngine]:
    async with on_socket(tmp_path / "engine.sock") as engine:
        yield engine


async def refusal(engine: LittleEngine, kind: type[ClientError] = ClientError) -> str:
    """What is said of an engine that cannot be understood."""
    with pytest.raises(kind) as raised:
        await ask(Engine(engine.url), CLOCK)
    text = str(raised.value)
    assert text.startswith(engine.url)
    return text.removeprefix(f"{engine.url}: ")


# --- those that are well ----------------------------------------------------------------------------------------


async def test_an_engine_without_a_swarm_is_not_asked_for_services(engine: LittleEngine) -> None:
    found = await ask(Engine(engine.url), CLOCK)
    assert found.info["Name"] == "node-1"
    assert [container["ImageID"] for container in found.containers] == [ID]
    assert found.images[ID]["RepoDigests"]
    assert (found.services, found.tasks, found.nodes) == ([], [], [])
    assert engine.asked == [f"GET {path}" for path in PATHS[:3]]


async def test_a_manager_is_asked_for_everything_and_only_by_get(engine: LittleEngine) -> None:
    engine.manage_a_swarm(services=[{"ID": "s"}], tasks=[{"ID": "t"}], nodes=[{"ID": "n"}])
    found = await ask(Engine(engine.url), CLOCK)
    assert (found.services, found.tasks, found.nodes) == ([{"ID": "s"}], [{"ID": "t"}], [{"ID": "n"}])
    assert engine.asked == [f"GET {path}" for path in PATHS]


async def test_an_image_is_asked_for_once_and_may_be_gone(engine: LittleEngine) -> None:
    (container,) = engine.says["/containers/json?all=1"]
    engine.says["/containers/json?all=1"] = [container, container, {**container, "ImageID": ""}]
    del engine.says[f"/images/{ID}/json"]
    found = await ask(Engine(engine.url), CLOCK)
    assert len(found.containers) == 3
    assert found.images == {}
    assert len(engine.asked) == 3


async def test_without_tls_only_where_it_is_written_so() -> None:
    async with on_tcp() as engine:
        assert (await ask(Engine(engine.url), CLOCK)).containers
        meant = engine.url.replace("http://", "tcp://")
        with pytest.raises(ConnectionFailed, match=r"no TLS: .*; an engine that speaks plain HTTP is http://"):
            await ask(Engine(meant), CLOCK)


# --- TLS --------------------------------------------------------------------------------------------------------


async def test_tls_with_certificates_on_both_sides(tmp_path: Path) -> None:
    (tmp_path / "server").mkdir()
    server, client = Authority(tmp_path / "server").issue(), Authority(tmp_path).issue("client")
    async with on_tcp(server, client.ca) as engine:
        known = Engine(engine.url, server.ca, client.certificate, client.key)
        assert (await ask(known, CLOCK)).containers
        with pytest.raises(ConnectionFailed):
            await ask(Engine(engine.url, server.ca), CLOCK)
        with pytest.raises(ConnectionFailed, match=r"not trusted .*; its authority is the engine's 'ca'"):
            await ask(Engine(engine.url, client.ca, client.certificate, client.key), CLOCK)
        with pytest.raises(ConnectionFailed, match="not trusted"):
            await ask(Engine(engine.url), CLOCK)


async def test_a_certificate_for_another_host_is_not_trusted(tmp_path: Path) -> None:
    certificate = Authority(tmp_path).issue(hosts=("elsewhere.lan",))
    async with on_tcp(certificate) as engine:
        with pytest.raises(ConnectionFailed, match="not trusted"):
            await ask(Engine(engine.url, certificate.ca), CLOCK)


async def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    made = Authority(tmp_path).issue()
    nothing, text = tmp_path / "nothing.pem", tmp_path / "text.pem"
    text.write_text("no certificate")
    url = f"tcp://127.0.0.1:{free_port()}"
    for ca in (nothing, text):
        with pytest.raises(ClientError, match=f"{ca} is no authority to use: "):
            await ask(Engine(url, ca), CLOCK)
    for certificate, key in ((nothing, made.key), (text, made.key), (made.certificate, nothing)):
        with pytest.raises(ClientError, match=f"{certificate} and {key} cannot be used: "):
            await ask(Engine(url, made.ca, certificate, key), CLOCK)


async def test_a_key_with_a_password_is_refused_and_not_asked_for(tmp_path: Path) -> None:
    made = Authority(tmp_path).issue()
    key = serialization.load_pem_private_key(made.key.read_bytes(), None)
    encryption = serialization.BestAvailableEncryption(b"password")
    made.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption))
    with pytest.raises(ClientError, match="cannot be used"):
        await ask(Engine("tcp://127.0.0.1", made.ca, made.certificate, made.key), CLOCK)


# --- those that are not there -----------------------------------------------------------------------------------


async def test_what_is_not_there_is_told_in_the_systems_words(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name, why in (("nothing", "No such file or directory"), ("file", "Connection refused")):
        with pytest.raises(ConnectionFailed, match=f"{name}: cannot connect: {why}"):
            await ask(Engine(f"unix://{tmp_path}/{name}"), CLOCK)
    with pytest.raises(ConnectionFailed, match="cannot connect: Connect"):
        await ask(Engine(f"http://127.0.0.1:{free_port()}"), CLOCK)
    with pytest.raises(ConnectionFailed, match=r"http://nowhere\.invalid: cannot connect"):
        await ask(Engine("http://nowhere.invalid"), CLOCK)


# --- those that are not well ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("says", "why"),
    [
        (answer(b'{"message":"the store is broken"}', "500 Internal Server Error"), "with 500 the store is broken"),
        (answer(b'{"message":7}', "403 Forbidden"), "with 403 7"),
        (answer(b"<html>Bad gateway</html>", "502 Bad Gateway"), "with 502"),
        (answer(b"x" * 300_000, "503 Service Unavailable"), "with 503 x"),
        (answer(b"", "302 Found", "Location: http://127.0.0.1:1/elsewhere\r\n"), "with 302"),
        (answer(b"<html>Welcome</html>"), "is not JSON, so it is no container engine's"),
        (answer(b""), "is not JSON"),
        (answer(b'{"a":'), "is not JSON"),
        (answer(b"\xff\xfe"), "is not JSON"),
        (answer(b"[" * 200_000), "is not JSON"),
        (answer(b"9" * 20_000), "is not JSON"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "is not HTTP"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_what_is_no_answer_is_a_sentence(engine: LittleEngine, path: str, says: bytes, why: str) -> None:
    engine.manage_a_swarm()
    engine.says[path] = says
    text = await refusal(engine)
    assert path in text
    assert why in text
    assert len(text) < 1_000


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("says", [None, 1, "text", [[]], [1], {"a": []}, [None]], ids=repr)
async def test_json_of_another_shape_is_a_sentence(engine: LittleEngine, path: str, says: Any) -> None:
    engine.manage_a_swarm()
    engine.says[path] = says
    if isinstance(says, dict) and path in {"/info", f"/images/{ID}/json"}:
        return  # This is what it should be.
    assert path in await refusal(engine, BadAnswer)


@pytest.mark.parametrize(
    "image", [None, 1, "../../containers/create", "sha256:" + "g" * 64, "name", "sha256:" + "a" * 63, "a b"], ids=repr
)
async def test_an_image_id_that_is_none_is_not_asked_for(engine: LittleEngine, image: object) -> None:
    engine.says["/containers/json?all=1"][0]["ImageID"] = image
    assert "not which image" in await refusal(engine, BadAnswer)
    assert len(engine.asked) == 2


async def test_images_are_counted(engine: LittleEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "IMAGES_MAX", 2)
    engine.says["/containers/json?all=1"] = [{"ImageID": f"{number:064x}"} for number in range(3)]
    assert "more than 2 images" in await refusal(engine, BadAnswer)


@pytest.mark.parametrize("state", ["pending", "error", "locked", ["active"], 1])
async def test_a_node_that_is_not_back_in_its_swarm_does_not_tell_its_services(
    engine: LittleEngine, state: object
) -> None:
    engine.says["/info"] = {"Swarm": {"LocalNodeState": state, "ControlAvailable": False}}
    assert "so it cannot tell its services" in await refusal(engine, BadAnswer)


@pytest.mark.parametrize("swarm", [None, {}, {"LocalNodeState": ""}, {"LocalNodeState": "active"}, "none"])
async def test_a_node_that_manages_nothing_has_no_services(engine: LittleEngine, swarm: object) -> None:
    engine.says["/info"] = {"Swarm": swarm}
    assert (await ask(Engine(engine.url), CLOCK)).services == []


@pytest.mark.parametrize("status", ["200 OK", "500 Internal Server Error"])
async def test_a_body_without_end_is_not_read_to_its_end(
    engine: LittleEngine, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    monkeypatch.setattr(engines, "ANSWER_BYTES_MAX", 1024**2)
    sent = 0

    async def endless(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(f"HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        while True:
            writer.write(b"10000\r\n" + b" " * 65536 + b"\r\n")
            sent += 65536
            await writer.drain()

    engine.says["/info"] = endless
    text = await refusal(engine)
    assert re.search("with more than 1048576 bytes|with 500", text)
    assert sent < 16 * 1024**2


async def test_an_answer_that_never_comes_is_not_waited_for(
    engine: LittleEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "ANSWER_SECONDS", 0.2)

    async def silent(writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async def stuck(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n[")
        await asyncio.Event().wait()

    for says in (silent, stuck):
        engine.says["/containers/json?all=1"] = says
        assert await refusal(engine, ConnectionFailed) == "did not answer /containers/json?all=1 within 0.2 seconds"


async def test_all_answers_together_have_a_time(engine: LittleEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "ALL_SECONDS", 0.3)
    engine.says["/containers/json?all=1"] = [{"ImageID": f"{number:064x}"} for number in range(50)]

    async def slow(writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(timedelta(milliseconds=50).total_seconds())
        writer.write(answer(b"{}"))

    engine.says |= {f"/images/{number:064x}/json": slow for number in range(50)}
    assert await refusal(engine, ConnectionFailed) == "did not tell all within 0.3 seconds"


async def test_a_connection_that_breaks_is_told(engine: LittleEngine) -> None:
    async def breaks(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n[")
        await writer.drain()
        raise ConnectionResetError

    engine.says["/info"] = breaks
    assert "the connection broke at /info" in await refusal(engine, ConnectionFailed)


async def test_what_an_engine_says_cannot_move_a_cursor(engine: LittleEngine) -> None:
    engine.says["/info"] = answer(b'{"message":"\\u001b[2J\\ud800 no\\n\\u0000"}', "500 Oh")
    text = await refusal(engine, Refused)
    assert text.isprintable()
    text.encode()
