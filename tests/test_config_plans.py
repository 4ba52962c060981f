"""What says when something runs, what is told and to whom: taken, or refused with what to write instead."""

from pathlib import Path

import pytest

from homeport.config.errors import ConfigError
from homeport.config.loading import load
from homeport.config.settings import Settings

TARGET = "notify:\n  ops:\n    url: https://hooks.example.org/x\n    on: [tag.set]\n"


def loaded(folder: Path, text: str) -> Settings:
    file = folder / "homeport.yaml"
    file.write_text(text)
    return load(file, {})


def refused(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as error:
        loaded(folder, text)
    return str(error.value).replace(f"{folder}/homeport.yaml:", "")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("0 2 * * *", "0 2 * * *"),
        ("  0   2 * *  * ", "0 2 * * *"),
        ("*/15 9-17 * * 1-5", "*/15 9-17 * * 1-5"),
        ("0 3 * * SUN", "0 3 * * SUN"),
        ("0 0 L * *", "0 0 L * *"),
        ("0 0 29 2 *", "0 0 29 2 *"),
        ("@daily", "0 0 * * *"),
        ("@weekly", "0 0 * * 0"),
        ("never", "never"),
    ],
)
def test_a_schedule(tmp_path: Path, written: str, meant: str) -> None:
    assert loaded(tmp_path, f"housekeeping: {{schedule: '{written}'}}").housekeeping.schedule == meant


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("61 * * * *", "bad minute"),
        ("* 24 * * *", "bad hour"),
        ("0 2 * *", "must be five fields"),
        ("0 0 2 * * *", "must be five fields"),
        ("@often", "must be five fields"),
        ("every night", "must be five fields"),
        ("0 0 31 2 *", "bad day-of-month"),
        ("a b c d e", "is no cron line"),
        ("*/0 * * * *", "is no cron line"),
        ("", "must be five fields"),
    ],
)
def test_no_schedule(tmp_path: Path, written: str, why: str) -> None:
    told = refused(tmp_path, f"data: /x\nhousekeeping:\n  schedule: '{written}'")
    assert told.startswith("3: housekeeping.schedule: ")
    assert why in told


@pytest.mark.parametrize("zone", ["Europe/Paris", "America/New_York", "UTC", "Australia/Lord_Howe"])
def test_a_time_zone(tmp_path: Path, zone: str) -> None:
    assert loaded(tmp_path, f"time_zone: {zone}").time_zone == zone


@pytest.mark.parametrize(
    "zone", ["Europe/Pari", "CET+1", "../../etc/passwd", "/etc/localtime", "local", "''", "Europe"]
)
def test_no_time_zone(tmp_path: Path, zone: str) -> None:
    assert refused(tmp_path, f"time_zone: {zone}") == (
        "1: time_zone: must be a time zone by its name, such as Europe/Paris, America/New_York or UTC"
    )


@pytest.mark.parametrize("pattern", ["tag.set", "tag.*", "*", "*.finished", "manifest.pushe?"])
def test_what_is_told(tmp_path: Path, pattern: str) -> None:
    assert loaded(tmp_path, TARGET.replace("tag.set", f"'{pattern}'")).notify["ops"].on == (pattern,)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("tag.set", "tag.sett"), "4: notify.ops.on[0]: no event is called that; did you mean 'tag.set'?"),
        (("tag.set", "build.*"), "4: notify.ops.on[0]: no event is called that"),
        (("[tag.set]", "[]"), "'on' names no event"),
        (("url: https://hooks.example.org/x", "format: auto"), "give one of 'url' and 'urls_file'"),
        (("x\n", "x\n    urls_file: /f\n"), "give one of 'url' and 'urls_file'"),
        (("x\n", "x\n    format: cloudevents\n    secret: 'file:/s'\n"), "'secret' signs the format standard"),
        (("x\n", "x\n    format: slack\n    method: PUT\n"), "'headers' and 'method' are a webhook's"),
        (("x\n", "x\n    secret: whsec_c2VjcmV0\n"), "notify.ops.secret: write where the secret is"),
        (
            ("x\n", "x\n    headers: {Authorization: Bearer abcdef}\n"),
            "headers.Authorization: write where the secret is",
        ),
        (("x\n", "x\n    headers: {Host: 'file:/h'}\n"), "must be the name of a header that the notification does not"),
        (("x\n", "x\n    headers: {\"X\\r\\nY\": 'file:/h'}\n"), "must be the name of a header"),
        (("x\n", "x\n    timeout_seconds: 0\n"), "timeout_seconds: must be more than 0"),
        (("x\n", "x\n    repository: [a]\n"), "did you mean 'repositories'?"),
    ],
)
def test_no_target(tmp_path: Path, change: tuple[str, str], told: str) -> None:
    found = refused(tmp_path, TARGET.replace(*change))
    assert told in found
    assert found[0].isdigit()  # its line
    for secret in ("c2VjcmV0", "abcdef"):
        assert secret not in found


@pytest.mark.parametrize(
    "address",
    [
        "https://hooks.slack.com/services/T00/B00/hidden",
        "https://Hooks.Slack.com/services/T00/B00/hidden",
        "https://hooks.slack-gov.com/services/T00/B00/hidden",
        "https://discord.com/api/webhooks/1/hidden",
        "https://canary.discord.com/api/webhooks/1/hidden",
        "https://discord.com/api/v10/webhooks/1/hidden",
        "https://gotify.lan/message?token=hidden",
        "https://user:hidden@hooks.example.org/x",
        "mailto://user:hidden@mail.lan",
        "tgram://hidden/1",
        "ftp://hooks.example.org/hidden",
        "https://hooks.example.org/a b/hidden",
        "hidden",
        "vault:",
        "vault:Hook#hidden",
        "bw:Hook#field:",
    ],
)
def test_an_address_that_is_a_secret_is_refused_without_being_repeated(tmp_path: Path, address: str) -> None:
    found = refused(tmp_path, TARGET.replace("https://hooks.example.org/x", f"'{address}'"))
    assert found.startswith("3: notify.ops.url: ")
    assert "hidden" not in found


@pytest.mark.parametrize("address", ["http://127.0.0.1:8080/x", "https://vault.lan", "http://[::1]:80/a/b", "env:HOOK"])
def test_an_address_that_may_be_shown(tmp_path: Path, address: str) -> None:
    assert str(loaded(tmp_path, TARGET.replace("https://hooks.example.org/x", address)).notify["ops"].url) == address
