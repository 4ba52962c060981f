"""What clients asked, what they were answered, and whether one order of events explains all of it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby

from homeport.oci.digest import Digest
from homeport.testing.invariants import Told
from homeport.testing.model import Change, Model
from tests.simulation.oracle import SWEEP, Oracle, Span

Witness = Callable[[Model], bool]


@dataclass(eq=False)
class Request:
    """One request. `since` and `until` are the last event before it began and the last one before its answer."""

    run: str
    text: str
    causes: frozenset[Change]
    since: int
    began_at: float
    until: int | None = None
    ended_at: float = 0.0
    #: Whether it takes effect bit by bit: each of its changes may have been seen without the next.
    gradual: bool = False
    #: What must have been true at some moment between the two, for the answer to be right.
    witness: Witness | None = None
    #: The answer says that something was changed by this very request.
    must_cause: bool = False
    #: The answer says that something was done that outlasts a power cut.
    durable: bool = False
    #: The digests that the answer says are here.
    promises: tuple[tuple[str, Digest], ...] = ()


@dataclass
class Ledger:
    """Every request, the model that is fed with the events, and the oracle that judges the sweep's."""

    model: Model
    oracle: Oracle
    requests: dict[str, Request] = field(default_factory=dict)
    last_event: int = 0
    #: When a client was last told that a digest is in a repository.
    promised: dict[tuple[str, Digest], float] = field(default_factory=dict)

    def begin(self, request: Request) -> None:
        self.requests[request.run] = request

    def forget_what_need_not_last(self) -> None:
        """Events were lost with the power, and with them the reason of answers that no change depends on."""
        for request in self.requests.values():
            if not request.durable:
                request.witness, request.promises = None, ()

    def review(self, changes: Iterable[Told]) -> None:
        """Go through the events since the last review; raises `AssertionError` for what no order explains.

        Requests that ran at once may have taken effect in any order; the events tell in which they did.
        """
        open_ = [request for request in self.requests.values() if request.witness is not None]
        effective: set[str] = set()
        open_ = self._satisfy(open_)
        for answered in self.requests.values():
            if answered.until is not None:
                for promise in answered.promises:
                    self.oracle.told[promise].append(Span(answered.began_at, answered.ended_at))
        for run, group in groupby(changes, key=lambda told: told.run):
            request = self.requests.get(run or "")
            effective.add(run or "")
            for told in group:
                if run == SWEEP:
                    self.oracle.check(told, self.model)
                else:
                    assert request is not None, f"nobody asked for {told}"
                    assert told.change in request.causes, f"{request.text} caused {told}"
                self.oracle.note(told, self.model)
                self.model.apply(told.change)
                self.last_event = told.id
                if request is None or request.gradual:
                    open_ = self._satisfy(open_)
            open_ = self._satisfy(open_)
        assert not open_, f"was never true while it was asked: {[request.text for request in open_]}"
        for answered in self.requests.values():
            if answered.until is not None:
                caused = not answered.must_cause or answered.run in effective
                assert caused, f"{answered.text} was answered, and changed nothing"
                for promise in answered.promises:
                    self.promised[promise] = max(answered.began_at, self.promised.get(promise, 0.0))
        self.requests.clear()

    def check_promises(self, kept: Mapping[tuple[str, Digest], float], keep_seconds: float) -> None:
        """Whoever was told that a digest is here may rely on it for that long, unless somebody deleted it."""
        for promise, told_at in self.promised.items():
            until = kept.get(promise)
            assert until is None or until >= told_at + keep_seconds, f"{promise} is not kept for as long as was told"

    def _satisfy(self, requests: list[Request]) -> list[Request]:
        """Those whose witness is not true now, in the state after `last_event`."""
        return [request for request in requests if not self._explains(request)]

    def _explains(self, request: Request) -> bool:
        assert request.witness is not None
        assert request.until is not None
        return request.since <= self.last_event <= request.until and request.witness(self.model)
