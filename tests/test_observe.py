"""Log lines that nobody can forge, and counters that Prometheus can read."""

from __future__ import annotations

import io
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.clock import SystemClock
from homeport.observe import SECONDS_BUCKETS, WAITING_MAX, Counters, Level, Log


def log(**options: Any) -> tuple[Log, io.StringIO]:
    stream = io.StringIO()
    return Log(stream, SystemClock(), **options), stream


def note_request(written: Log, **others: Any) -> None:
    fields: dict[str, Any] = {
        "method": "GET",
        "path": "/v2/",
        "status": 200,
        "body_bytes": 2,
        "seconds": 0.25,
        "address": "192.0.2.1",
        "actor": "ada",
        "error": None,
    }
    written.request("id-1", **{**fields, **others})


def test_a_line_is_a_json_object() -> None:
    written, stream = log()
    written.warning("disk.full", free_bytes=12, path="/a", ratio=0.5, reason=None, ok=True, names=["a"])
    line = json.loads(stream.getvalue())
    assert abs(line.pop("time") - SystemClock().now()) < 5
    assert line == {
        "level": "warning",
        "event": "disk.full",
        "free_bytes": 12,
        "path": "/a",
        "ratio": 0.5,
        "reason": None,
        "ok": True,
        "names": ["a"],
    }


def test_or_plain_text() -> None:
    written, stream = log(as_json=False)
    written.error("server.failed", reason='a "b"\nc')
    assert re.fullmatch(
        r'time=\d+\.\d+ level="error" event="server\.failed" reason="a \\"b\\"\\nc"\n', stream.getvalue()
    )


def test_the_line_of_a_request() -> None:
    written, stream = log()
    note_request(written)
    note_request(written, status=404, error="BLOB_UNKNOWN")
    written.flush()
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert (first["event"], first["id"], first["status"], first["bytes"]) == ("request", "id-1", 200, 2)
    assert (first["seconds"], first["error"], second["error"]) == (0.25, None, "BLOB_UNKNOWN")


@given(st.text(), st.booleans())
def test_what_strangers_wrote_cannot_end_a_line(text: str, as_json: bool) -> None:
    written, stream = log(as_json=as_json)
    written.error("x", value=text)
    note_request(written, path=text, method=text, actor=text)
    written.flush()
    lines = stream.getvalue().split("\n")
    assert len(lines) == 3
    assert stream.getvalue().isascii()
    assert all(character.isprintable() for line in lines for character in line)
    if as_json:
        assert json.loads(lines[0])["value"] == text
        assert json.loads(lines[1])["path"] == text


def test_what_is_not_urgent_may_wait() -> None:
    written, stream = log()
    written.info("a")
    note_request(written)
    assert stream.getvalue() == ""
    written.flush()
    assert stream.getvalue().count("\n") == 2
    written.flush()
    assert stream.getvalue().count("\n") == 2


@pytest.mark.parametrize("level", ["warning", "error"])
def test_what_is_urgent_takes_along_what_waits(level: str) -> None:
    written, stream = log()
    written.info("first")
    getattr(written, level)("second")
    events = [json.loads(line)["event"] for line in stream.getvalue().splitlines()]
    assert events == ["first", "second"]


def test_only_so_much_waits() -> None:
    written, stream = log()
    for _ in range(WAITING_MAX - 1):
        note_request(written)
    assert stream.getvalue() == ""
    written.info("one more")
    assert stream.getvalue().count("\n") == WAITING_MAX


def test_levels() -> None:
    written, stream = log(level=Level.WARNING)
    written.info("b")
    note_request(written)
    written.warning("c")
    written.level = Level.INFO
    written.info("d")
    written.flush()
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["c", "d"]


# --- counters ---------------------------------------------------------------------------------------------------


def test_requests_are_counted_by_route_method_and_status() -> None:
    counters = Counters()
    for seconds in (0.0005, 0.001, 0.02, 400.0):
        counters.request("blob", "GET", 200, seconds)
    counters.request("blob", "GET", 404, 0.1)
    text = counters.exposition({})
    labels = 'route="blob",method="GET",status="200"'
    assert f'homeport_request_seconds_bucket{{{labels},le="0.001"}} 2' in text
    assert f'homeport_request_seconds_bucket{{{labels},le="0.025"}} 3' in text
    assert f'homeport_request_seconds_bucket{{{labels},le="300.0"}} 3' in text
    assert f'homeport_request_seconds_bucket{{{labels},le="+Inf"}} 4' in text
    assert f"homeport_request_seconds_count{{{labels}}} 4" in text
    assert f"homeport_request_seconds_sum{{{labels}}} 400.021500" in text
    assert 'homeport_request_seconds_count{route="blob",method="GET",status="404"} 1' in text


def test_gauges() -> None:
    text = Counters().exposition({"storage_free_bytes": 2.0**50, "requests_active": 3})
    assert "# TYPE homeport_storage_free_bytes gauge\nhomeport_storage_free_bytes 1125899906842624\n" in text
    assert "homeport_requests_active 3\n" in text


def test_prometheus_can_read_it() -> None:
    counters = Counters()
    counters.request("blob", "GET", 200, 0.1)
    counters.request("manifest", "PUT", 201, 0.1)
    text = counters.exposition({"a": 1.5})
    assert text.endswith("\n")
    sample = re.compile(r'[a-z_]+(\{[a-z]+="[^"\\\n]*"(,[a-z]+="[^"\\\n]*")*\})? [0-9.e+-]+')
    for line in text.splitlines():
        assert line.startswith("# ") or sample.fullmatch(line), line
    assert text.count("_bucket") == 2 * (len(SECONDS_BUCKETS) + 1)
