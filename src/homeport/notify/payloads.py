"""What a webhook is sent: the event in the receiver's format, and the headers that sign it. Pure.

Sources: the specification of Standard Webhooks (standardwebhooks.com), CloudEvents 1.0 with its JSON format, and the
notifications of distribution (`registry:2`).
"""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from homeport import events
from homeport.events import Event
from homeport.notify.deliveries import Subject
from homeport.notify.targets import ENVELOPE_ACTIONS

ENVELOPE_TYPE = "application/vnd.docker.distribution.events.v2+json"


class BadSecret(Exception):
    """A secret that was found is not what it has to be. The text does not repeat it."""


_SECRET_PREFIX = "whsec_"  # noqa: S105 (what such secrets begin with)
#: What clients sent, so that a listener that looks at it finds what it expects.
_METHODS = {"push": "PUT", "mount": "POST", "delete": "DELETE"}


def payload(
    format_name: str, event: Event, subject: Subject | None, server_url: str, *, message_id: str, instance: str
) -> tuple[str | None, bytes]:
    """Content type (None: there is no body) and body.

    `instance`: what tells this process from others. `server_url` is empty where it is not known.
    """
    match format_name:
        case "empty":
            return None, b""
        case "cloudevents":
            return "application/cloudevents+json", _json(_cloud_event(event, server_url, message_id))
        case "distribution":
            return ENVELOPE_TYPE, _json(_envelope(event, subject, server_url, message_id, instance))
        case "standard":
            data = events.told(event)
            return "application/json", _json({"type": event.kind, "timestamp": data["time"], "data": data})
        case _:
            raise AssertionError(format_name)


def signature_headers(message_id: str, at: float, body: bytes, secret: str | None) -> dict[str, str]:
    """The headers of Standard Webhooks for a try at the moment `at`; signed if there is a secret.

    Several secrets, with spaces between them, sign each for itself: so a receiver can change to the next one at its
    own time. Raises `BadSecret`.
    """
    moment = str(int(at))
    headers = {"webhook-id": message_id, "webhook-timestamp": moment}
    if secret is not None:
        signed = f"{message_id}.{moment}.".encode() + body
        signatures = [hmac.digest(_key(each), signed, "sha256") for each in secret.split()]
        if not signatures:
            raise BadSecret("the secret that it is to be signed with is empty")
        headers["webhook-signature"] = " ".join(f"v1,{base64.b64encode(each).decode()}" for each in signatures)
    return headers


def _key(secret: str) -> bytes:
    if not secret.startswith(_SECRET_PREFIX):
        return secret.encode()
    try:
        key = base64.b64decode(secret.removeprefix(_SECRET_PREFIX), validate=True)
    except ValueError:
        key = b""
    if not key:
        raise BadSecret("the secret that it is to be signed with begins with whsec_, and what follows is no base64")
    return key


def header_value(name: str, value: str) -> str:
    """A header that the configuration asks for, if it can be sent. Raises `BadSecret`."""
    if not (value.isascii() and value.isprintable()):
        raise BadSecret(f"the header {name} cannot be sent: what was found for it is not one line of ASCII")
    return value


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _cloud_event(event: Event, server_url: str, message_id: str) -> dict[str, Any]:
    data = events.told(event)
    told = {
        "specversion": "1.0",
        "id": message_id,
        "source": server_url or "/homeport",
        "type": f"homeport.{event.kind}",
        "time": data["time"],
        "datacontenttype": "application/json",
        "data": data,
    }
    if event.repository:
        told["subject"] = event.repository + (f":{event.tag}" if event.tag else "")
    return told


def _envelope(
    event: Event, subject: Subject | None, server_url: str, message_id: str, instance: str
) -> dict[str, list[dict[str, Any]]]:
    action = ENVELOPE_ACTIONS.get(event.kind)
    if action is None:
        return {"events": []}  # A sample: anything in it would be taken for something that happened.
    host = urlsplit(server_url).netloc
    return {
        "events": [
            {
                "id": message_id,
                "timestamp": events.told(event)["time"],
                "action": action,
                "target": _target(event, subject, server_url, action),
                "request": {
                    "id": event.run or "",
                    "addr": event.address,
                    "host": host,
                    "method": _METHODS[action],
                    "useragent": "",
                },
                "actor": {"name": event.actor},
                "source": {"addr": host, "instanceID": instance},
            }
        ]
    }


def _target(event: Event, subject: Subject | None, server_url: str, action: str) -> dict[str, Any]:
    """As distribution: what is deleted is named and no more, and a deleted tag is no digest."""
    target: dict[str, Any] = {"repository": event.repository}
    if event.tag is not None:
        target["tag"] = event.tag
    if event.kind == "tag.deleted":
        return target
    target["digest"] = event.digest
    if action == "delete":
        return target
    if subject is not None:
        target |= {"mediaType": subject.media_type, "size": subject.size, "length": subject.size}
    if action == "mount" and event.reason is not None:
        target["fromRepository"] = event.reason.removeprefix("from ")
    if server_url:
        kind = "blobs" if event.kind.startswith("blob.") else "manifests"
        target["url"] = f"{server_url.rstrip('/')}/v2/{event.repository}/{kind}/{event.digest}"
    return target
