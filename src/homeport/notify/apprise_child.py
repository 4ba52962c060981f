"""The child process in which Apprise speaks to a chat or mail service. `chat.py` starts it, once for each message.

On standard input it gets one JSON object: url, title, body, level, seconds, proxy, direct, ca, insecure. On standard
output it leaves one: outcome (sent, failed, or unusable: the address is none that Apprise can use), status (HTTP's,
where Apprise tells it) and reason.

Holds: nothing of the address leaves: Apprise's log lines, which may repeat it, are read here and come out redacted.
Apprise reads no file that the address names, keeps nothing on disk, and follows no redirect.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import ssl
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypedDict
from urllib.parse import parse_qsl, unquote

import apprise
import certifi

#: Shorter parts would blank out half of any text. As in `client/redaction.py`, which brings more than is needed here.
_SECRET_CHARACTERS_MIN = 4

#: Who pushes and pulls goes first.
_NICENESS = 10

#: No proxy leads there.
_THIS_MACHINE = ("localhost", "127.0.0.0/8", "::1", "[::1]")


class Answer(TypedDict):
    """What is left on standard output."""

    outcome: Literal["sent", "failed", "unusable"]
    status: int | None
    reason: str


_STATUS = re.compile(r"\berror=([1-5]\d\d)\b")
_SMTP_CODE = re.compile(r"\(([45]\d\d), b['\"]")
#: Why there was no answer: what Python and its libraries say, and what a person understands.
_CAUSES = (
    (re.compile("proxy", re.IGNORECASE), "the proxy could not be used"),
    (re.compile("CERTIFICATE_VERIFY_FAILED"), "its certificate is not trusted (an authority of your own: client.ca)"),
    (re.compile(r"getaddrinfo|NameResolution|Name or service|name resolution|\[Errno -\d"), "its name was not found"),
    (re.compile("refused", re.IGNORECASE), "it refused the connection"),
    (re.compile("timed out|timeout", re.IGNORECASE), "it did not answer in time"),
    (re.compile("unreachable|no route", re.IGNORECASE), "there is no way to it in the network"),
    (re.compile("reset|aborted|disconnected|unexpectedly closed", re.IGNORECASE), "it closed the connection"),
)


class _Heard(logging.Handler):
    """What Apprise logs while it works."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        #: Sentences for people.
        self.warnings: list[str] = []
        #: The exceptions behind them.
        self.exceptions: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.levelno >= logging.WARNING:
            self.warnings.append(text)
        elif "Exception:" in text:
            self.exceptions.append(text)


def secret_parts(url: str) -> list[str]:
    """What must not be repeated of an address: whatever stands in it, but for its scheme. The longest first."""
    _, _, rest = url.partition("://")
    place, _, query = rest.partition("?")
    words = {rest, place, *re.split(r"[/:@#]", place), *query.split("&")}
    words |= {value for _, value in parse_qsl(query)}
    words |= {unquote(word) for word in words}
    return sorted((word for word in words if len(word) >= _SECRET_CHARACTERS_MIN), key=len, reverse=True)


def redacted(text: str, url: str) -> str:
    """`text` without any part of `url`."""
    for part in secret_parts(url):
        text = re.sub(re.escape(part), "***", text, flags=re.IGNORECASE)
    return text


def reason_of(warnings: Iterable[str], exceptions: Iterable[str]) -> str:
    """One sentence of what Apprise said: its last warning, and the cause of it where an exception tells one."""
    said = [warning.strip() for warning in warnings][-1:]
    causes = (_cause(text) for text in exceptions)
    return ": ".join([text.rstrip(".") for text in said] + [cause for cause in causes if cause][-1:])


def _cause(exception: str) -> str | None:
    if code := _SMTP_CODE.search(exception):
        return f"it answered {code[1]}"
    return next((told for pattern, told in _CAUSES if pattern.search(exception)), None)


def _status(warnings: Iterable[str]) -> int | None:
    found = [match[1] for warning in warnings if (match := _STATUS.search(warning))]
    return int(found[-1]) if found else None


def _asset() -> apprise.AppriseAsset:
    """Homeport's name on messages, and nothing of Apprise's own: no pictures, no storage, no retries, no redirects."""
    return apprise.AppriseAsset(
        storage_mode=apprise.PersistentStoreMode.MEMORY,
        allow_templates=False,
        service_timeout=0,
        app_id="Homeport",
        app_desc="Homeport",
        app_url="",
        image_url_mask="",
        image_url_logo="",
        async_mode=False,
        http_redirects=False,
        interpret_emojis=False,
        pgp_autogen=False,
        pem_autogen=False,
        secure_logging=True,
    )


def _reach(request: Mapping[str, Any]) -> contextlib.AbstractContextManager[object]:
    """Lets HTTP and mail libraries call out as the configuration says: over the proxy, with its authorities."""
    if request["proxy"]:
        os.environ |= {"HTTP_PROXY": request["proxy"], "HTTPS_PROXY": request["proxy"]}
        os.environ["NO_PROXY"] = ",".join([*request["direct"], *_THIS_MACHINE])
    system = ssl.get_default_verify_paths().cafile
    trusted = [*([system] if system else []), certifi.where(), *request["ca"]]
    file = tempfile.NamedTemporaryFile(suffix=".pem")  # noqa: SIM115 (the caller closes it, which removes it)
    file.write(b"\n".join(Path(path).read_bytes() for path in trusted))
    file.flush()
    os.environ |= {"REQUESTS_CA_BUNDLE": file.name, "SSL_CERT_FILE": file.name}
    return file


def tell(request: Mapping[str, Any]) -> Answer:
    """Send the message, once."""
    heard = _Heard()
    apprise.logger.addHandler(heard)
    apprise.logger.setLevel(logging.DEBUG)
    apprise.logger.propagate = False
    attachments = apprise.AttachmentManager()  # type: ignore[no-untyped-call]
    for scheme in attachments.schemas():  # type: ignore[no-untyped-call]
        attachments[scheme].enabled = False
    url, seconds, asset = str(request["url"]), float(request["seconds"]), _asset()
    service = apprise.Apprise.instantiate(url, asset=asset)
    if service is None:
        return Answer(outcome="unusable", status=None, reason=redacted(reason_of(heard.warnings, ()), url))
    service.socket_connect_timeout = service.socket_read_timeout = seconds
    service.redirects = False
    if request["insecure"]:
        service.verify_certificate = False
    sender = apprise.Apprise(asset=asset)
    sender.add(service)
    sent = sender.notify(
        title=request["title"],
        body=request["body"],
        notify_type=apprise.NotifyType(request["level"]),
        body_format=apprise.NotifyFormat.TEXT,
    )
    if sent:
        return Answer(outcome="sent", status=None, reason="")
    reason = redacted(reason_of(heard.warnings, heard.exceptions), url)
    return Answer(outcome="failed", status=_status(heard.warnings), reason=reason)


def main() -> None:
    """Read the request, send the message, leave the answer."""
    os.nice(_NICENESS)
    request = json.load(sys.stdin)
    # Whatever a service's module prints is no answer.
    with contextlib.redirect_stdout(sys.stderr):
        try:
            with _reach(request):
                answer = tell(request)
        except Exception as error:  # noqa: BLE001 (a module of Apprise's that breaks; its text may hold the address)
            answer = Answer(outcome="failed", status=None, reason=f"Apprise broke with {type(error).__name__}")
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
