"""Who is told of what."""

from __future__ import annotations

from pathlib import Path

import pytest

from homeport.config.errors import ConfigError
from homeport.config.loading import load
from homeport.notify.targets import Target, chosen, matches, targets_of
from tests.notify.things import event, target


def configured(folder: Path, text: str) -> list[Target]:
    file = folder / "homeport.yaml"
    file.write_text(text)
    return targets_of(load(file, {}).notify)


def test_the_configuration_becomes_targets(tmp_path: Path) -> None:
    (ops, chat) = configured(
        tmp_path,
        """
        notify:
          ops:
            url: https://hooks.lan/a
            on: [tag.set, manifest.*]
            repositories: [team/**]
            format: standard
            method: PUT
            secret: env:KEY
            headers: {X-Token: "file:/run/secrets/token"}
            timeout_seconds: 5s
          chat: {url: "env:CHAT", on: ["*.finished"]}
        """,
    )
    assert (ops.name, ops.url, ops.on, ops.repositories) == (
        "ops",
        "https://hooks.lan/a",
        ("tag.set", "manifest.*"),
        ("team/**",),
    )
    assert (ops.format, ops.method, str(ops.secret), ops.timeout_seconds) == ("standard", "PUT", "env:KEY", 5.0)
    assert str(ops.headers["X-Token"]) == "file:/run/secrets/token"
    assert (chat.format, str(chat.url), chat.hides_url, ops.hides_url) == ("auto", "env:CHAT", True, False)


def test_webhooks_json_is_read_as_it_is_and_shows_no_address(tmp_path: Path) -> None:
    file = tmp_path / "webhooks.json"
    file.write_text('[\n  "https://deploy.lan/api/webhooks/91f2-secret",\n  "http://other.lan:9000/?key=91f2"\n]\n')
    found = configured(tmp_path, f"notify: {{old: {{urls_file: {file}, on: [tag.set], format: empty}}}}")
    assert [(each.name, each.url) for each in found] == [
        ("old/1", "https://deploy.lan/api/webhooks/91f2-secret"),
        ("old/2", "http://other.lan:9000/?key=91f2"),
    ]
    for each in found:
        assert each.hides_url
        assert "91f2" not in repr(each)
        assert each.told()["url"] == str(file)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"", "must be a JSON list of addresses"),
        (b'{"url": "https://x"}', "must be a JSON list of addresses"),
        (b"[" * 100_000, "must be a JSON list of addresses"),
        (b'["https://a.lan", "secret-without-scheme"]', "its address number 2 must be text that begins with https://"),
        (b'["https://a.lan", 3]', "its address number 2"),
        (b'["https://a.lan/ secret"]', "its address number 1"),
        (b"[" + b'"https://a.lan",' * 100 + b'"https://a.lan"]', "lists more than 100 addresses"),
        (b"[" + b" " * 300_000 + b"]", "is larger than 256 KiB"),
    ],
)
def test_a_file_that_is_missing_or_bad_is_named(tmp_path: Path, data: bytes | None, said: str) -> None:
    file = tmp_path / "webhooks.json"
    if data is not None:
        file.write_bytes(data)
    with pytest.raises(ConfigError) as caught:
        configured(tmp_path, f"notify: {{old: {{urls_file: {file}, on: [tag.set]}}}}")
    assert f"notify.old.urls_file: {file}" in str(caught.value)
    assert said in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("on", "kind", "told"),
    [
        (("tag.set",), "tag.set", True),
        (("tag.set",), "tag.deleted", False),
        (("tag.*",), "tag.deleted", True),
        (("*.finished",), "housekeeping.finished", True),
        (("*.finished", "manifest.pushed"), "manifest.pushed", True),
        (("*",), "user.added", True),
    ],
)
def test_by_kind(on: tuple[str, ...], kind: str, told: bool) -> None:
    assert matches(target(on=on), event(kind)) == told


def test_by_repository_and_what_concerns_none_always() -> None:
    team = target(repositories=("team/*", "base"))
    assert matches(team, event(repository="team/app"))
    assert matches(team, event(repository="base"))
    assert not matches(team, event(repository="other/app"))
    assert matches(team, event("user.added", repository=None))


def test_nobody_is_told_of_what_could_not_be_told_to_him() -> None:
    given_up = event("delivery.given_up", repository=None, detail={"target": "ops", "delivery": 1})
    assert not matches(target("ops"), given_up)
    assert matches(target("others"), given_up)


def test_distributions_envelope_tells_of_content_only() -> None:
    envelope = target(format="distribution")
    assert matches(envelope, event("blob.mounted"))
    assert not matches(envelope, event("user.added", repository=None))
    assert not matches(envelope, event("housekeeping.finished", repository=None))


PUSH = [event("manifest.pushed", 1), event("tag.set", 2, tag="v1"), event("tag.set", 3, tag="v2")]


def test_a_push_by_tag_is_one_event_of_distributions() -> None:
    envelope = target(format="distribution")
    assert [each.id for each in chosen(envelope, PUSH)] == [2, 3]
    assert [each.id for each in chosen(target(), PUSH)] == [1, 2, 3]


@pytest.mark.parametrize(
    "after",
    [
        event("tag.set", 2, tag="v1", run="request-2"),
        event("tag.set", 2, tag="v1", repository="team/other"),
        event("tag.set", 2, tag="v1", digest="sha256:" + "b" * 64),
        event("tag.deleted", 2, tag="v1"),
    ],
)
def test_what_is_no_push_by_tag_stays_two(after: object) -> None:
    assert [each.id for each in chosen(target(format="distribution"), [PUSH[0], after])] == [1, 2]  # type: ignore[list-item]


def test_a_target_that_is_not_told_of_tags_is_told_of_the_manifest() -> None:
    assert [each.id for each in chosen(target(format="distribution", on=("manifest.*",)), PUSH)] == [1]
