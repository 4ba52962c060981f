"""What the administration API stands on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from homeport.auth.logins import Logins
from homeport.clock import Clock
from homeport.config.references import SecretReference
from homeport.db.database import Database
from homeport.jobs.work import Kind
from homeport.notify.notifier import Notifier
from homeport.secretstore.store import SecretStore


@dataclass(frozen=True, slots=True)
class ApiServices:
    """The parts of the program that the API asks."""

    database: Database
    clock: Clock
    logins: Logins
    #: The kinds of jobs that can be asked for, by name.
    kinds: Mapping[str, Kind]
    notifier: Notifier
    secrets: SecretStore
    #: Every secret that the configuration refers to now, with the name of its setting.
    references: Callable[[], Iterable[tuple[str, SecretReference]]]
    #: Whether the server finishes what it has and takes nothing new: then streams end.
    draining: Callable[[], bool]
    #: Have whoever runs jobs look for work at once.
    call_worker: Callable[[], None]
