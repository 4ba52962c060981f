"""What a large database costs: the time to the first answer, and manifests by tag among a million."""

from bench import servers
from bench.lines import Bar, Line, Row
from bench.rounds import Bench

START = Line("start", "start to first answer, 100,000 tags", "s", Bar(1.5, at_least=False, of_ratio=False))
MILLION = Line(
    "manifest-get-million",
    "manifest GET by tag, 1,000,000 tags against 1,000",
    "/s",
    Bar(0.8, at_least=True),
    peer="homeport, 1,000 tags",
)


def start(bench: Bench) -> list[Row]:
    """From the start of the process to the first manifest that it serves."""
    return [Row(START, failures={servers.HOMEPORT: "not measured yet"})] if bench.wants(START) else []


def million(bench: Bench) -> list[Row]:
    """The same requests to two Homeports that differ only in how many tags they hold."""
    return [Row(MILLION, failures={servers.HOMEPORT: "not measured yet"})] if bench.wants(MILLION) else []
