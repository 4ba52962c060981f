"""What docs/how-to/notifications.md says is so."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from yarl import URL

from homeport.clock import SystemClock
from homeport.config.loading import load
from homeport.events import SYSTEM, Event
from homeport.kinds import EVENTS
from homeport.notify import payloads
from homeport.notify.messages import message
from homeport.notify.receivers import CHAT_FORMATS, WEBHOOK_FORMATS, recognise
from homeport.notify.targets import matches, targets_of
from tests.cli.tools import CommandLine

PAGE = (Path(__file__).parents[2] / "docs/how-to/notifications.md").read_text()
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def blocks(language: str) -> list[str]:
    found = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found
    return found


def column(heading: str) -> list[str]:
    """The first cells of the table below `heading`."""
    below = PAGE[PAGE.index(heading) :].splitlines()[2:]
    end = next(number for number, line in enumerate(below) if not line.startswith("|"))
    return [line.split("|")[1].strip() for line in below[:end]]


@pytest.mark.parametrize("example", blocks("yaml"))
def test_every_example_passes_the_check(example: str, tmp_path: Path) -> None:
    for name in ("deploy_hook", "ops_hook", "discord", "mail_url", "webhooks.json", "lan-ca.crt"):
        (tmp_path / name).write_text('["https://deploy.example.org/hook"]')
    moved = example.replace("/run/secrets/", f"{tmp_path}/").replace("/etc/homeport/", f"{tmp_path}/")
    (tmp_path / "homeport.yaml").write_text(moved)
    CommandLine(tmp_path).run_here("config", "check", "--config", "homeport.yaml")
    settings = load(tmp_path / "homeport.yaml", {})
    for target in targets_of(settings.notify):
        assert any(matches(target, Event(1, 0.0, kind, "", "", None, None, None, None, None)) for kind in EVENTS)


def test_every_format_is_on_the_page() -> None:
    assert [cell.strip("`") for cell in column("| format | request |")] == list(WEBHOOK_FORMATS)
    sentence = PAGE[PAGE.index("`format` (`discord`") :].partition(")")[0]
    assert re.findall(r"`(\w+)`", sentence)[1:] == list(CHAT_FORMATS)


def test_the_addresses_of_the_table_are_recognised() -> None:
    rows = PAGE[PAGE.index("| service | the address") :].splitlines()[2:]
    for row in rows[:8]:
        service, address = row.split("|")[1].strip(), re.search(r"`([^`]+)`", row)
        assert address is not None
        url = (
            address[1]
            .replace("NUMBER", "123")
            .replace("…/TOKEN", "1/TOKEN")
            .replace("/T…", "/T1")
            .replace("/B…", "/B1")
        )
        if service == "Microsoft Teams":
            url = url.replace("….logic", "prod-1.westeurope.logic").replace("…", "1/triggers/manual/paths/invoke?sig=x")
        assert recognise(url).name == service, row
    for form in re.findall(r"`(https://[^`]*@ntfy.lan/TOPIC)`", PAGE):
        assert recognise(form, "ntfy").name == "ntfy"


async def test_the_lines_that_verify_a_signature() -> None:
    (lines,) = blocks("python")
    there: dict[str, Any] = {}
    exec(lines, there)
    body, now = b'{"type":"tag.set"}', SystemClock().now()
    headers = payloads.signature_headers("msg_1", now, body, SECRET)
    assert there["verify"](SECRET, headers, body)
    assert not there["verify"](SECRET, headers, body + b" ")
    assert not there["verify"](SECRET, {**headers, "webhook-id": "msg_2"}, body)
    assert not there["verify"]("whsec_" + "A" * 32, headers, body)
    assert not there["verify"](SECRET, payloads.signature_headers("msg_1", now - 400, body, SECRET), body)
    both = payloads.signature_headers("msg_1", now, body, f"whsec_{'A' * 32} {SECRET}")
    assert there["verify"](SECRET, both, body)
    assert there["verify"]("whsec_" + "A" * 32, both, body)


def test_the_payload_looks_as_shown() -> None:
    (shown,) = map(json.loads, blocks("json"))
    data = shown["data"]
    moment = 1_795_420_800.25
    subject = {name: data[name] for name in ("repository", "digest", "tag", "reason", "run")}
    event = Event(data["id"], moment, data["kind"], data["actor"], data["address"], **subject, transaction=data["id"])
    _, body = payloads.payload("standard", event, None, "", message_id="msg_1", instance="")
    assert json.loads(body) == shown
    assert list(json.loads(body)["data"]) == list(data)


def test_the_message_looks_as_shown() -> None:
    (shown,) = blocks("text")
    detail = {
        "outcome": "partial",
        "reason": None,
        "counts": {"copied": 12, "bytes": 1_395_864_371},
        "failures": [{"what": "docker.io/library/alpine:3.19", "why": "manifest unknown"}],
        "failed": 1,
        "seconds": 250.0,
    }
    ended = Event(1, 1_795_420_800.0, "mirror.finished", SYSTEM.actor, "", None, None, None, None, "job-12", detail)
    told = message(ended, "https://registry.example.org")
    assert f"{told.title}\n\n{told.body}\n" == shown
    assert URL(told.body.splitlines()[-1]).host == "registry.example.org"
