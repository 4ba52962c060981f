"""A line of the table: the work, what we reach, what the peers reach, and the bar."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field

from bench import servers


@dataclass(frozen=True)
class Bar:
    """What must be reached: by our figure over the peer's (`of_ratio`), or by our figure itself."""

    limit: float
    at_least: bool
    of_ratio: bool = True

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.limit:g}{' x' if self.of_ratio else ''}"

    def is_reached(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit


@dataclass(frozen=True)
class Line:
    """One line of the table. `name` is what `--only` takes."""

    name: str
    work: str
    unit: str
    bar: Bar
    peer: str = servers.REGISTRY2  # whose figure ours is divided by


@dataclass
class Row:
    """A line with what was measured: for each server its figure in each round."""

    line: Line
    figures: dict[str, list[float]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)  # for each server that has none, why
    note: str = ""  # what else there is to say

    def add(self, server: str, figure: float) -> None:
        self.figures.setdefault(server, []).append(figure)

    def median(self, server: str) -> float | None:
        """Of the rounds; None where there is something wrong with one."""
        rounds = self.figures.get(server)
        return statistics.median(rounds) if rounds and server not in self.failures else None

    @property
    def ratio(self) -> float | None:
        """Our median over the peer's."""
        ours, theirs = self.median(servers.HOMEPORT), self.median(self.line.peer)
        return ours / theirs if ours is not None and theirs else None

    @property
    def ratio_range(self) -> tuple[float, float] | None:
        """The least and the greatest ratio of any round: how far the median can be trusted."""
        both = zip(self.figures.get(servers.HOMEPORT, []), self.figures.get(self.line.peer, []), strict=False)
        ratios = [ours / theirs for ours, theirs in both]
        return (min(ratios), max(ratios)) if ratios else None

    @property
    def is_reached(self) -> bool | None:
        value = self.ratio if self.line.bar.of_ratio else self.median(servers.HOMEPORT)
        return None if value is None else self.line.bar.is_reached(value)


def add(rows: Mapping[Line, Row], server: str, figures: Mapping[Line, float]) -> None:
    """A server's figures of one round, of those lines that are measured."""
    for line, figure in figures.items():
        if line in rows:
            rows[line].add(server, figure)
