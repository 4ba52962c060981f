"""The role *serve*: requests are answered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from homeport.app.access import login_settings
from homeport.app.composition import Program
from homeport.app.loops import every
from homeport.auth.directory import LoginSettings
from homeport.auth.logins import Logins
from homeport.auth.passwords import Passwords
from homeport.cli.context import WORK
from homeport.config.errors import ConfigError
from homeport.config.settings import Settings
from homeport.config.tree import secret_references
from homeport.db.database import DatabaseError
from homeport.mirror import addresses
from homeport.registry import pulls, uploads
from homeport.server.api.application import build
from homeport.server.api.services import ApiServices
from homeport.server.application import Application
from homeport.server.context import Context, Options
from homeport.server.listener import Certificate, Listener
from homeport.storage import bell

#: Whoever asked so lately asks again; what cleans up makes small steps meanwhile.
LATELY_SECONDS = 1.0
#: How often certificate files are looked at.
CERTIFICATE_SECONDS = 5.0


class Server:
    """The application on its listeners."""

    def __init__(self, program: Program, context: Context) -> None:
        self._program = program
        self._context = context
        self._application = Application(context)
        listen, door = program.settings.server.listen, program.settings.cache.listen
        self._listener = Listener(self._application, listen.host, listen.port)
        #: The second address, whose root is the mirror door.
        self._door = Listener(partial(self._application, at_door=True), door.host, door.port) if door else None
        self._listeners = [self._listener, *([self._door] if self._door else [])]
        self._certificate = _certificate(program.settings)
        context.gauges = lambda: {"requests_active": self._application.active}
        program.busy = lambda: self._application.in_front > 0
        clock = program.registry.clock
        program.asked_lately = lambda: clock.monotonic() - self._application.asked_at < LATELY_SECONDS
        program.flush_pulls = self.flush_pulls
        program.secrets.on_change = self._secrets_changed

    @classmethod
    async def open(cls, program: Program, stack: AsyncExitStack) -> Server:
        """Build it; nothing listens yet. Raises `ConfigError`."""
        registry, log = program.registry, program.log
        passwords = Passwords(registry.clock)
        stack.callback(passwords.close)
        settings = login_settings(program.settings, program.secrets.held)
        logins = Logins(registry.db, registry.clock, passwords, settings)
        context = Context(registry, logins, log, gauges=dict, options=_options(program.settings))
        context.cache = program.upstreaming.cache
        context.api = build(
            ApiServices(
                registry.db,
                registry.clock,
                logins,
                program.kinds,
                program.notifier,
                program.secrets,
                references=lambda: secret_references(program.settings),
                draining=lambda: context.draining,
                call_worker=lambda: bell.ring(program.settings.data, WORK),
            )
        )
        strays = await uploads.discard_strays(registry)
        if strays:
            log.info("uploads.discarded", count=strays, reason="a crash left them, and nobody could resume them")
        server = cls(program, context)
        stack.push_async_callback(server.flush_pulls)
        return server

    def loops(self) -> list[Awaitable[None]]:
        """What runs until the process stops."""
        clock, log = self._program.registry.clock, self._program.log
        found: list[Awaitable[None]] = [every(clock, log, pulls.FLUSH_SECONDS, self.flush_pulls)]
        if self._certificate:
            found.append(self._watch(self._certificate))
        return found

    async def listen(self) -> str:
        """Accept connections; the address. Raises `ListenFailed`."""
        await self._start(self._certificate)
        if self._door:
            self._program.log.info("door.opened", url=self._url(self._door))
        return self._url(self._listener)

    def apply(self, settings: Settings, logins: LoginSettings) -> None:
        """Go by other settings from now on, as far as they may change while the server runs."""
        self._context.options = _options(settings)
        self._context.logins.reload(logins)

    async def stop(self, seconds: float) -> None:
        """Take nothing new; wait until every request is answered and every connection ended, at most `seconds`."""
        self._context.draining = True
        clock = self._program.registry.clock
        stopped = asyncio.gather(*(listener.stop() for listener in self._listeners))
        deadline = clock.monotonic() + seconds
        while (self._application.active or not stopped.done()) and clock.monotonic() < deadline:
            await clock.sleep(0.02)
        stopped.cancel()
        if self._application.active:
            self._program.log.warning("requests.cut", count=self._application.active)

    async def flush_pulls(self) -> None:
        """Write down which images were pulled."""
        try:
            await self._context.pulls.flush(self._context.registry)
        except DatabaseError as error:
            self._program.log.warning("pulls.waiting", error=str(error))

    def _secrets_changed(self) -> None:
        """A password that a vault has is there now, or is another one."""
        try:
            self._context.logins.reload(login_settings(self._program.settings, self._program.secrets.held))
        except ConfigError as error:
            problems = [str(problem) for problem in error.problems]
            self._program.log.error("logins.unchanged", problems=problems)  # noqa: TRY400 (a traceback helps nobody)

    def _url(self, listener: Listener) -> str:
        host = f"[{listener.host}]" if ":" in listener.host else listener.host
        return f"{'https' if self._certificate else 'http'}://{host}:{listener.port}"

    async def _start(self, certificate: Certificate | None) -> None:
        for listener in self._listeners:
            await listener.start(certificate)

    async def _watch(self, certificate: Certificate) -> None:
        """Serve with new certificate files once they are there and fit together."""
        clock, log = self._program.registry.clock, self._program.log
        served = certificate.stamp()
        while True:
            await clock.sleep(CERTIFICATE_SECONDS)
            found = certificate.stamp()
            if found in {served, None}:
                continue
            try:
                await self._start(certificate)
            except OSError as error:  # ListenFailed and ssl.SSLError are among them.
                # Most likely only one of the two files is new yet; the next look finds both.
                log.warning("certificate.waiting", error=str(error))
            else:
                served = found
                log.info("certificate.reloaded", certificate=str(certificate.certificate))


def _options(settings: Settings) -> Options:
    server = settings.server
    return Options(
        url=server.url,
        trusted_proxies=server.trusted_proxies,
        manifest_bytes_max=settings.limits.manifest_bytes,
        page_entries_max=settings.limits.page_entries,
        header_bytes_max=settings.limits.header_bytes,
        body_idle_seconds=server.body_idle_seconds,
        not_pulls=settings.cleanup.not_pulls,
        upstreams={host: folder for folder, host in addresses.folders(settings.cache.upstreams).items()},
    )


def _certificate(settings: Settings) -> Certificate | None:
    tls = settings.server.tls
    return Certificate(Path(tls.certificate), Path(tls.key)) if tls else None
