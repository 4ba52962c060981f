"""The file of addresses that `notify.*.urls_file` names: a JSON list, as the old build service's webhooks.json."""

from __future__ import annotations

import json
import re
from pathlib import Path

URLS_MAX = 100
_BYTES_MAX = 256 * 1024
_URL = re.compile(r"https?://[^\s/?#]+[^\s#]*")


def read_urls(path: Path) -> tuple[str, ...]:
    """The addresses. Raises `ValueError`, which names the file and repeats no address: each may be a secret."""
    try:
        with path.open("rb") as file:
            data = file.read(_BYTES_MAX + 1)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    if len(data) > _BYTES_MAX:
        raise ValueError(f"{path} is larger than {_BYTES_MAX // 1024} KiB")
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, list):
        raise ValueError(f'{path} must be a JSON list of addresses, such as ["https://deploy.example.org/hook"]')  # noqa: TRY004 (the file is wrong)
    for number, url in enumerate(found, start=1):
        if not isinstance(url, str) or not _URL.fullmatch(url):
            raise ValueError(f"{path}: its address number {number} must be text that begins with https:// or http://")
    if len(found) > URLS_MAX:
        raise ValueError(f"{path} lists more than {URLS_MAX} addresses")
    return tuple(found)
