"""The composition root: the one place where objects are built and loops are started. Nobody but `__main__` imports it.

Holds: what is built here is taken down here, in the opposite order, whatever happened in between.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from homeport.auth.directory import ConfiguredUser, LoginSettings
from homeport.auth.logins import Logins
from homeport.auth.passwords import Passwords
from homeport.auth.permissions import Policy, Right, Rule
from homeport.clock import Clock, SystemClock
from homeport.config import ConfigError, Problem, SecretUnreadable, Settings, changes, process_environment
from homeport.db.database import DatabaseError
from homeport.db.sqlite import SqliteDatabase
from homeport.observe import Level, Log
from homeport.oci.errors import RegistryError
from homeport.registry import pulls, uploads
from homeport.registry.registry import Registry, Rules
from homeport.server.access import SERVICE
from homeport.server.application import Application
from homeport.server.context import Context, Options
from homeport.server.listener import Certificate, Listener
from homeport.storage.datafolder import RoleLock
from homeport.storage.filesystem import FilesystemStore

#: How often waiting log lines are written, and certificate files are looked at.
LOG_SECONDS = 0.1
CERTIFICATE_SECONDS = 5.0


@asynccontextmanager
async def open_registry(settings: Settings) -> AsyncIterator[Registry]:
    """The registry on its data folder, for a verb of the command line, also beside a running server."""
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        yield await _open(settings, clock, stack)


async def serve(
    settings: Settings,
    *,
    reread: Callable[[], Settings],
    ready: Callable[[str], None],
    lock: RoleLock,
) -> None:
    """Serve until SIGTERM or SIGINT, then finish what was begun.

    `ready` is told the address once connections are accepted. On SIGHUP `reread` gives the settings anew, or raises
    `ConfigError`, and what came of it is told through `lock`. Raises `ConfigError`, `ListenFailed`.
    """
    clock = SystemClock()
    environ = process_environment()
    log = Log(sys.stderr, clock, level=Level[settings.log.level.upper()], as_json=settings.log.format == "json")
    async with AsyncExitStack() as stack:
        stack.callback(log.flush)
        registry = await _open(settings, clock, stack)
        passwords = Passwords(clock)
        stack.callback(passwords.close)
        logins = Logins(registry.db, clock, passwords, login_settings(settings, environ))
        context = Context(registry, logins, log, gauges=dict, options=_options(settings))
        strays = await uploads.discard_strays(registry)
        if strays:
            log.info("uploads.discarded", count=strays, reason="a crash left them, and nobody could resume them")
        await _serve(settings, context, stack, _Reload(context, settings, environ, reread, lock), ready)


async def _serve(
    settings: Settings, context: Context, stack: AsyncExitStack, reload: _Reload, ready: Callable[[str], None]
) -> None:
    clock, log = context.registry.clock, context.log
    application = Application(context)
    context.gauges = lambda: {"requests_active": application.active}
    listen = settings.server.listen
    listener = Listener(application, listen.host, listen.port)
    certificate = _certificate(settings)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    loop.add_signal_handler(signal.SIGHUP, reload.apply)
    stack.push_async_callback(_flush_pulls, context)
    async with _loops(
        _every(context, LOG_SECONDS, _flush_log(log)),
        _every(context, pulls.FLUSH_SECONDS, lambda: _flush_pulls(context)),
        *([_watch(clock, log, listener, certificate)] if certificate else []),
    ):
        await listener.start(certificate)
        url = f"{'https' if certificate else 'http'}://{_bracketed(listen.host)}:{listener.port}"
        # What is there now stays: the collector need not look through it again and again while requests wait.
        gc.collect()
        gc.freeze()
        log.info("server.started", url=url, data=str(settings.data))
        ready(url)
        await stopping.wait()
        context.draining = True
        log.info("server.stopping", requests=application.active)
        stopped = asyncio.ensure_future(listener.stop())
        await _drained(clock, application, stopped, settings.server.drain_seconds)
    log.info("server.stopped", cut_requests=application.active)


async def _open(settings: Settings, clock: Clock, stack: AsyncExitStack) -> Registry:
    database = SqliteDatabase(settings.database_path, clock)
    stack.push_async_callback(database.close)
    store = FilesystemStore(
        settings.data,
        clock,
        reserve_percent=settings.storage.reserve_percent,
        reserve_bytes=settings.storage.reserve_bytes,
    )
    stack.push_async_callback(store.close)
    return Registry(database, store, clock, _rules(settings))


def login_settings(settings: Settings, environ: Mapping[str, str]) -> LoginSettings:
    """What the configuration says about access, with its secrets read. Raises `ConfigError`."""
    access = settings.access
    problems = []
    users = []
    for name, user in access.users.items():
        try:
            users.append(ConfiguredUser(name, user.password.read(environ), admin=user.admin))
        except (SecretUnreadable, RegistryError) as error:
            problems.append(Problem(f"access.users.{name}", str(error)))
    if problems:
        raise ConfigError(problems)
    try:
        policy = Policy(
            anonymous=frozenset(map(Right, access.anonymous)),
            signed_in=frozenset(map(Right, access.signed_in)),
            rules=tuple(
                Rule(
                    (rule.repositories,),
                    {subject: frozenset(map(Right, rights)) for subject, rights in rule.allow.items()},
                    rule.visibility,
                )
                for rule in access.rules
            ),
            groups={group: frozenset(members) for group, members in access.groups.items()},
        )
    except RegistryError as error:
        raise ConfigError([Problem("access.rules", str(error))]) from None
    return LoginSettings(policy, tuple(users), int(settings.server.token_seconds), SERVICE)


class _Reload:
    """Reading the configuration again: all of it counts, or the old one stays."""

    def __init__(
        self,
        context: Context,
        settings: Settings,
        environ: Mapping[str, str],
        reread: Callable[[], Settings],
        lock: RoleLock,
    ) -> None:
        self._context = context
        self._started = self._current = settings
        self._environ = environ
        self._reread = reread
        self._lock = lock

    def apply(self) -> None:
        """Take over what may change while the server runs; say what has to wait, or why nothing was taken over."""
        log = self._context.log
        try:
            settings = self._reread()
            logins = login_settings(settings, self._environ)
        except ConfigError as error:
            log.error(  # noqa: TRY400 (the problems are told, their traceback helps nobody)
                "config.refused", problems=[str(problem) for problem in error.problems]
            )
            self._lock.answer(f"the old configuration stays:\n{error}", applied=False)
            return
        self._context.registry.rules = _rules(settings)
        self._context.options = _options(settings)
        self._context.logins.reload(logins)
        log.level = Level[settings.log.level.upper()]
        live = [setting.name for setting in changes(self._current, settings) if setting.live]
        waiting = [setting.name for setting in changes(self._started, settings) if not setting.live]
        self._current = settings
        log.info("config.reloaded", changed=live, waiting=waiting)
        text = f"taken over: {', '.join(live) or 'nothing had changed'}"
        if waiting:
            text += f"; waits for the next start: {', '.join(waiting)}"
        self._lock.answer(text, applied=True)


def _rules(settings: Settings) -> Rules:
    return Rules(
        manifest_bytes_max=settings.limits.manifest_bytes,
        sparse=settings.repositories.sparse,
        read_only=settings.server.read_only,
    )


def _options(settings: Settings) -> Options:
    server = settings.server
    return Options(
        url=server.url,
        trusted_proxies=server.trusted_proxies,
        manifest_bytes_max=settings.limits.manifest_bytes,
        page_entries_max=settings.limits.page_entries,
        header_bytes_max=settings.limits.header_bytes,
        body_idle_seconds=server.body_idle_seconds,
    )


def _certificate(settings: Settings) -> Certificate | None:
    tls = settings.server.tls
    return Certificate(Path(tls.certificate), Path(tls.key)) if tls else None


# --- loops: each is a step and a pause --------------------------------------------------------------------------


@asynccontextmanager
async def _loops(*loops: Awaitable[None]) -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(loop) for loop in loops]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _every(context: Context, seconds: float, step: Callable[[], Awaitable[object]]) -> None:
    while True:
        await context.registry.clock.sleep(seconds)
        try:
            await step()
        except Exception as error:  # noqa: BLE001 (a loop that died would be missed by nobody until it is needed)
            context.log.write(Level.ERROR, "loop.failed", {"error": repr(error)})


def _flush_log(log: Log) -> Callable[[], Awaitable[object]]:
    async def step() -> None:
        log.flush()

    return step


async def _flush_pulls(context: Context) -> None:
    try:
        await context.pulls.flush(context.registry)
    except DatabaseError as error:
        context.log.warning("pulls.waiting", error=str(error))


async def _watch(clock: Clock, log: Log, listener: Listener, certificate: Certificate) -> None:
    """Serve with new certificate files once they are there and fit together."""
    served = certificate.stamp()
    while True:
        await clock.sleep(CERTIFICATE_SECONDS)
        found = certificate.stamp()
        if found in {served, None}:
            continue
        try:
            await listener.start(certificate)
        except OSError as error:  # ListenFailed and ssl.SSLError are among them.
            # Most likely only one of the two files is new yet; the next look finds both.
            log.warning("certificate.waiting", error=str(error))
        else:
            served = found
            log.info("certificate.reloaded", certificate=str(certificate.certificate))


async def _drained(clock: Clock, application: Application, stopped: asyncio.Future[None], seconds: float) -> None:
    """Wait until every request is answered and every connection ended, but no longer than `seconds`."""
    deadline = clock.monotonic() + seconds
    while (application.active or not stopped.done()) and clock.monotonic() < deadline:
        await clock.sleep(0.02)
    stopped.cancel()


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
