"""Globs: `release-*`, `v?.*`. They say which tags are meant, or which programs by their User-Agent.

Holds: `*` is any characters, none too, and `?` is one. Nothing else is special, and a glob means the whole text.
Matching takes time in proportion to the text's length, whatever the glob: what may be skipped is never tried twice.
"""

from __future__ import annotations

import re
from functools import lru_cache

from homeport.oci.reference import is_tag

CHARACTERS_MAX = 255
#: The glob of everything.
EVERYTHING = "*"


def check_tag_glob(glob: str) -> str:
    """`glob`, or `ValueError` if no tag can be one that it means."""
    shortest = glob.replace("*", "").replace("?", "_")
    possible = is_tag(shortest) or (glob.startswith("*") and is_tag(f"_{shortest}"))
    if not possible or len(glob) > CHARACTERS_MAX:
        raise ValueError(f"'{glob}' can mean no tag; '*' is any characters of its name and '?' is one")
    return glob


def matches(globs: tuple[str, ...], text: str) -> bool:
    """Whether the text is one that any of `globs` means."""
    return bool(globs) and _compiled(globs).fullmatch(text) is not None


@lru_cache(maxsize=1024)
def _compiled(globs: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(_expression, globs)), re.DOTALL)


def _expression(glob: str) -> str:
    first, *others = (re.escape(run).replace(r"\?", ".") for run in glob.split("*"))
    if not others:
        return first
    # The first place where a run fits leaves the most to what follows, so no other needs to be tried.
    middle = "".join(f"(?>.*?{run})" for run in others[:-1] if run)
    return f"{first}{middle}.*{others[-1]}"
