"""What webhooks are sent, as the libraries of their standards read it."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_http
from cloudevents.core.formats.json import JSONFormat
from standardwebhooks import Webhook, WebhookVerificationError

from homeport.clock import SystemClock
from homeport.notify.deliveries import Subject
from homeport.notify.payloads import ENVELOPE_TYPE, BadSecret, header_value, payload, signature_headers
from tests.notify.things import DIGEST, SERVER, event

KEY = base64.b64encode(b"k" * 32).decode()
SUBJECT = Subject("application/vnd.oci.image.manifest.v1+json", 527)


def body(form: str, told: Any, subject: Subject | None = None, server: str = SERVER) -> Any:
    _, data = payload(form, told, subject, server, message_id="msg_1", instance="here")
    return json.loads(data)


# --- Standard Webhooks ------------------------------------------------------------------------------------------


def test_standard_is_type_time_and_the_event() -> None:
    content_type, _ = payload("standard", event(tag="v1"), SUBJECT, SERVER, message_id="msg_1", instance="here")
    assert content_type == "application/json"
    told = body("standard", event(tag="v1"))
    assert told.keys() == {"type", "timestamp", "data"}
    assert (told["type"], told["timestamp"]) == ("tag.set", "2023-11-14T22:13:20.250000Z")
    assert (told["data"]["repository"], told["data"]["tag"], told["data"]["digest"]) == ("team/app", "v1", DIGEST)
    assert (told["data"]["actor"], told["data"]["address"]) == ("ada", "192.0.2.1")


SUMMARY = {
    "outcome": "partial",
    "reason": "one list could not be read",
    "counts": {"events": 3},
    "failures": [{"what": "tokens", "why": "the disk is full"}],
    "failed": 1,
    "seconds": 1.5,
}


@pytest.mark.parametrize("form", ["standard", "cloudevents"])
def test_the_summary_of_a_run_stands_in_it_literally(form: str) -> None:
    finished = event("housekeeping.finished", repository=None, digest=None, detail=SUMMARY)
    assert body(form, finished)["data"]["detail"] == SUMMARY


@pytest.mark.parametrize("secret", [f"whsec_{KEY}", "plain"])
def test_the_public_library_verifies_the_signature(secret: str) -> None:
    _, data = payload("standard", event(), None, SERVER, message_id="msg_1", instance="here")
    headers = signature_headers("msg_1", SystemClock().now(), data, secret)
    public = Webhook(secret if secret.startswith("whsec_") else base64.b64encode(secret.encode()).decode())
    assert public.verify(data, headers) == json.loads(data)
    with pytest.raises(WebhookVerificationError):
        public.verify(data + b" ", headers)
    with pytest.raises(WebhookVerificationError):
        public.verify(data, headers | {"webhook-id": "msg_2"})


def test_each_of_several_secrets_signs() -> None:
    other = base64.b64encode(b"o" * 24).decode()
    headers = signature_headers("msg_1", SystemClock().now(), b"{}", f"whsec_{KEY}  whsec_{other}")
    assert len(headers["webhook-signature"].split(" ")) == 2
    for key in (KEY, other):
        Webhook(key).verify(b"{}", headers)


def test_the_time_of_the_try_is_signed() -> None:
    headers = signature_headers("msg_1", SystemClock().now() - timedelta(hours=1).total_seconds(), b"{}", KEY)
    with pytest.raises(WebhookVerificationError):
        Webhook(base64.b64encode(KEY.encode()).decode()).verify(b"{}", headers)


def test_without_a_secret_nothing_is_signed() -> None:
    assert signature_headers("msg_1", 12.7, b"{}", None) == {"webhook-id": "msg_1", "webhook-timestamp": "12"}


@pytest.mark.parametrize("secret", ["", "  ", "whsec_", "whsec_not base64", "whsec_a", "whsec_ä"])
def test_a_secret_that_is_none_signs_nothing_and_is_not_repeated(secret: str) -> None:
    with pytest.raises(BadSecret) as caught:
        signature_headers("msg_1", 12.0, b"{}", secret)
    assert "base64" not in secret or secret not in str(caught.value)


def test_a_header_is_one_line() -> None:
    assert header_value("X-Token", "abc def") == "abc def"
    for bad in ("a\r\nX-Other: b", "ä", "a\x00"):
        with pytest.raises(BadSecret) as caught:
            header_value("X-Token", bad)
        assert bad not in str(caught.value)


# --- CloudEvents ------------------------------------------------------------------------------------------------


def test_the_public_library_reads_the_cloud_event() -> None:
    content_type, data = payload("cloudevents", event(tag="v1"), None, SERVER, message_id="msg_1", instance="here")
    assert content_type is not None
    read = from_http(HTTPMessage({"content-type": content_type}, data), JSONFormat())
    assert (read.get_specversion(), read.get_id(), read.get_source()) == ("1.0", "msg_1", SERVER)
    assert (read.get_type(), read.get_subject()) == ("homeport.tag.set", "team/app:v1")
    assert read.get_time() == datetime.fromtimestamp(1_700_000_000.25, UTC)
    told = read.get_data()
    assert isinstance(told, dict)
    assert told["tag"] == "v1"


def test_what_concerns_no_repository_has_no_subject_and_an_unknown_server_a_name() -> None:
    told = body("cloudevents", event("user.added", repository=None, digest=None), server="")
    assert "subject" not in told
    assert told["source"] == "/homeport"


# --- as registry:2 ----------------------------------------------------------------------------------------------


def test_a_push_by_tag_in_distributions_envelope() -> None:
    content_type, _ = payload("distribution", event(), SUBJECT, SERVER, message_id="msg_1", instance="here")
    assert content_type == ENVELOPE_TYPE
    assert body("distribution", event("tag.set", tag="v1"), SUBJECT) == {
        "events": [
            {
                "id": "msg_1",
                "timestamp": "2023-11-14T22:13:20.250000Z",
                "action": "push",
                "target": {
                    "mediaType": SUBJECT.media_type,
                    "digest": DIGEST,
                    "size": 527,
                    "length": 527,
                    "repository": "team/app",
                    "url": f"{SERVER}/v2/team/app/manifests/{DIGEST}",
                    "tag": "v1",
                },
                "request": {
                    "id": "request-1",
                    "addr": "192.0.2.1",
                    "host": "registry.lan",
                    "method": "PUT",
                    "useragent": "",
                },
                "actor": {"name": "ada"},
                "source": {"addr": "registry.lan", "instanceID": "here"},
            }
        ]
    }


def one(told: Any, subject: Subject | None = None) -> Any:
    (found,) = body("distribution", told, subject)["events"]
    return found


def test_a_blob_has_its_own_address_and_a_mount_says_from_where() -> None:
    mounted = one(event("blob.mounted", reason="from team/base"), Subject("application/octet-stream", 3))
    assert (mounted["action"], mounted["request"]["method"]) == ("mount", "POST")
    assert mounted["target"]["fromRepository"] == "team/base"
    assert mounted["target"]["url"] == f"{SERVER}/v2/team/app/blobs/{DIGEST}"


@pytest.mark.parametrize("kind", ["blob.deleted", "manifest.deleted"])
def test_what_was_deleted_is_named_and_no_more(kind: str) -> None:
    assert one(event(kind))["action"] == "delete"
    assert one(event(kind))["target"] == {"repository": "team/app", "digest": DIGEST}


def test_a_deleted_tag_is_no_digest() -> None:
    assert one(event("tag.deleted", tag="v1"))["target"] == {"repository": "team/app", "tag": "v1"}


def test_what_is_gone_meanwhile_has_no_media_type() -> None:
    assert one(event("manifest.pushed"))["target"].keys() == {"digest", "repository", "url"}


def test_where_nobody_knows_the_servers_address_none_is_told() -> None:
    (told,) = body("distribution", event("manifest.pushed"), SUBJECT, server="")["events"]
    assert "url" not in told["target"]
    assert told["source"] == {"addr": "", "instanceID": "here"}


def test_a_sample_tells_of_nothing() -> None:
    assert body("distribution", event("notify.tested", repository=None, digest=None)) == {"events": []}


# --- as the old build service -----------------------------------------------------------------------------------


def test_empty_is_empty() -> None:
    assert payload("empty", event(), None, SERVER, message_id="msg_1", instance="here") == (None, b"")
