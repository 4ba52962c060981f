"""Statements about many values: some of them at a time.

Holds: a statement takes no more values than any database allows, and the texts are few, so that they are prepared once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, TypeVar

V = TypeVar("V")

#: How many values one statement is about.
VALUES_MAX: Final = 100


def of(values: Iterable[V]) -> Iterator[tuple[list[V], str]]:
    """The values in lists for one statement each, with the marks that stand for them behind `IN`."""
    every = list(values)
    for first in range(0, len(every), VALUES_MAX):
        some = every[first : first + VALUES_MAX]
        yield some, ",".join("?" * len(some))
