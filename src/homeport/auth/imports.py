"""Users from elsewhere: htpasswd files, and the `basic_auth` of Caddyfiles. Pure parsers.

Source: Apache's htpasswd(1); Caddy, `basic_auth` directive (`basicauth` before 2.8; hashes may be wrapped in base64).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from homeport.auth.errors import PasswordHashInvalid, UserNameInvalid
from homeport.auth.passwords import check_hash
from homeport.auth.users import check_name

#: A word of a Caddyfile: quoted, in backticks, or plain; or a line break; or a comment, which is dropped.
_CADDY_WORD = re.compile(
    r'(?P<comment>(?<!\S)#[^\n]*)|"(?P<quoted>(?:[^"\\]|\\.)*)"|`(?P<raw>[^`]*)`|(?P<plain>[^\s]+|\n)'
)


@dataclass(slots=True)
class Found:
    """The hashes by user name, and a sentence for each line that could not be taken."""

    users: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def _take(self, line: int, name: str, password_hash: str) -> None:
        try:
            check_name(name)
            taken = check_hash(password_hash)
        except UserNameInvalid:
            self.problems.append(f"line {line}: the name cannot be a user's")
        except PasswordHashInvalid as error:
            why = error.detail or "the hash is not bcrypt or argon2id; set a new password for this user"
            self.problems.append(f"line {line}: {name}: {why}")
        else:
            if self.users.setdefault(name, taken) != taken:
                self.problems.append(f"line {line}: {name} stands here again; the first one was taken")


def htpasswd(text: str) -> Found:
    """The users of an htpasswd file: a line `name:hash` each."""
    found = Found()
    for number, line in enumerate(text.splitlines(), start=1):
        name, colon, password_hash = line.strip().partition(":")
        if not name or name.startswith("#"):
            continue
        if not colon:
            found.problems.append(f"line {number}: not a line of 'name:hash'")
        else:
            found._take(number, name, password_hash)  # noqa: SLF001
    return found


def caddyfile(text: str) -> Found:
    """The users of every `basic_auth` block."""
    found = Found()
    inside = False
    for number, words in _caddy_lines(text):
        if not inside:
            inside = words[0] in ("basic_auth", "basicauth") and words[-1] == "{"
        elif words == ["}"]:
            inside = False
        elif len(words) < 2:
            found.problems.append(f"line {number}: not a line of 'name hash'")
        elif "{" in words[1]:
            found.problems.append(f"line {number}: {words[0]}: the hash is in a variable; write it into the file first")
        else:
            found._take(number, words[0], words[1])  # noqa: SLF001
    return found


def _caddy_lines(text: str) -> Iterable[tuple[int, list[str]]]:
    """The words of each line that has some, with its number."""
    number = 1
    words: list[str] = []
    for match in _CADDY_WORD.finditer(text + "\n"):
        if match["plain"] == "\n":
            if words:
                yield number, words
            number, words = number + 1, []
        elif not match["comment"]:
            words.append(next(word for word in (match["quoted"], match["raw"], match["plain"]) if word is not None))
            number += match[0].count("\n")
