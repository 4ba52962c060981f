"""A client of Vaultwarden and Bitwarden servers that reads secrets and does nothing else.

Logs in with the account's API key, fetches the vault (`sync`), and opens it with the master password. Holds:
- the master password and what is derived from it never leave the process: an API key's login needs no hash of it;
- after a login that failed, none is tried for a while, twice as long each time, and as long as the server asks where
  it does, unless other keys were put in place;
- whatever the server answers is bounded, and is a value or a `SecretUnavailable` that says what to do.

Source: dani-garcia/vaultwarden, src/api/identity.rs and src/api/core; bitwarden/clients, libs/common.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from yarl import URL

from homeport.client.errors import ClientError
from homeport.client.redaction import plain_text
from homeport.client.retries import retry_after_seconds
from homeport.client.transport import Answer, Request, Transport
from homeport.clock import Clock, Threads
from homeport.config import settings as config
from homeport.config.references import SecretReference
from homeport.secretstore.errors import SecretUnavailable
from homeport.secretstore.items import Found, Item, member, members, select, text
from homeport.secretstore.vaultcrypto import CannotDecrypt, Kdf, PrivateKey, SymmetricKey, WrongKey

TOKEN_BYTES_MAX = 1024 * 1024
SYNC_BYTES_MAX = 32 * 1024 * 1024

#: A token is given up so long before its end, so that it does not end on the way.
TOKEN_SECONDS_LEFT_MIN = 30.0
#: What says that it lasts longer is not believed.
TOKEN_SECONDS_MAX = 30 * 86_400
#: From login to login while they fail. A server that is broken is not one that refuses us: it may be back any moment.
LOGIN_PAUSE_SECONDS_FIRST, BROKEN_PAUSE_SECONDS_MAX, LOGIN_PAUSE_SECONDS_MAX = 30.0, 300.0, 3600.0

#: Bitwarden's own servers, whose parts have hosts of their own.
CLOUDS = ("bitwarden.com", "bitwarden.eu")

#: What Bitwarden's programs say of themselves; servers keep kinds of items from those that are too old for them.
CLIENT_HEADERS = {
    "Accept": "application/json",
    "Device-Type": "25",
    "Bitwarden-Client-Name": "cli",
    "Bitwarden-Client-Version": "2026.6.0",
}
LINUX_CLI = 25


@dataclass(frozen=True, slots=True)
class _Keys:
    """What opens the vault, as it was read from where it is."""

    client_id: str
    client_secret: str = field(repr=False)
    password: str = field(repr=False)

    @property
    def secrets(self) -> tuple[str, ...]:
        return (self.client_secret, self.password)


@dataclass(frozen=True, slots=True)
class _Token:
    """What a login gave."""

    authorization: str = field(repr=False)
    ends_at: float
    answer: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Unlocked:
    """The account's keys, and the encrypted one that they came from."""

    protected: str = field(repr=False)
    user: SymmetricKey
    private: PrivateKey | None


@dataclass(frozen=True, slots=True)
class _Pause:
    """Why no login is tried before `until`."""

    problem: str
    until: float
    failures: int


class Vaultwarden:
    """One account of one server. Asked by one at a time."""

    def __init__(
        self,
        settings: config.Vaultwarden,
        transport: Transport,
        clock: Clock,
        threads: Threads,
        read_local: Callable[[SecretReference], str],
    ) -> None:
        self._settings = settings
        self._transport = transport
        self._clock = clock
        self._threads = threads
        self._read_local = read_local
        self._identity, self._api = _addresses(URL(settings.url))
        self._keys: _Keys | None = None
        self._token: _Token | None = None
        self._unlocked: _Unlocked | None = None
        self._pause: _Pause | None = None

    async def read(self, references: Iterable[SecretReference]) -> Found:
        """The secret of each, or why there is none. Raises `SecretUnavailable` if none can be had."""
        keys = self._current_keys()
        try:
            body = await self._sync(keys)
            vault = await self._threads.run(_json, body)
            if not isinstance(member(vault, "ciphers"), list):
                raise SecretUnavailable("what the vault sends as its items is none of Bitwarden's answers")
            unlocked = await self._unlock(keys, vault)
        except ClientError as error:
            why = plain_text(str(error), keys.secrets)
            raise SecretUnavailable(f"the vault cannot be reached: {why}") from None
        return await self._threads.run(opened, vault, unlocked.user, unlocked.private, tuple(references))

    def _current_keys(self) -> _Keys:
        """Read anew each time: other ones count at once, and what was known by those before is forgotten."""
        settings = self._settings
        keys = _Keys(
            self._read_local(settings.client_id).strip(),
            self._read_local(settings.client_secret).strip(),
            self._read_local(settings.password),
        )
        if keys != self._keys:
            self._keys, self._token, self._unlocked, self._pause = keys, None, None, None
        if not keys.client_id.startswith("user."):
            raise SecretUnavailable(
                "the client_id of the vault does not begin with 'user.': it is to be that of a person's account"
                " (its settings, Security, Keys, API key); an organization's opens no items"
            )
        return keys

    async def _sync(self, keys: _Keys) -> bytes:
        """What the server keeps for the account."""
        url = self._api / "sync" % {"excludeDomains": "true"}
        answer = await self._fetch(url, await self._current_token(keys))
        if answer.status == 401:
            # It has ended before its time: it was revoked, or the server was restarted with other keys.
            self._token = None
            answer = await self._fetch(url, await self._current_token(keys))
            if answer.status == 401:
                raise self._failed("the vault does not take the token that it has just given: it answers 401")
        if answer.status != 200:
            raise SecretUnavailable(f"the vault does not give its items: {_said(answer, keys)}")
        return answer.body

    async def _fetch(self, url: URL, token: _Token) -> Answer:
        request = Request("GET", url, CLIENT_HEADERS, authorization=token.authorization)
        return await self._transport.fetch(request, bytes_max=SYNC_BYTES_MAX)

    async def _current_token(self, keys: _Keys) -> _Token:
        now = self._clock.monotonic()
        if self._token is not None and now < self._token.ends_at:
            return self._token
        if self._pause is not None and now < self._pause.until:
            seconds = round(self._pause.until - now)
            raise SecretUnavailable(f"{self._pause.problem}; the next login is tried in {seconds} seconds")
        self._token = await self._login(keys)
        return self._token

    async def _login(self, keys: _Keys) -> _Token:
        form = {
            "grant_type": "client_credentials",
            "client_id": keys.client_id,
            "client_secret": keys.client_secret,
            "scope": "api",
            "deviceType": LINUX_CLI,
            "deviceIdentifier": device_id(keys.client_id),
            "deviceName": "homeport",
        }
        headers = {**CLIENT_HEADERS, "Content-Type": "application/x-www-form-urlencoded"}
        url = self._identity / "connect/token"
        request = Request("POST", url, headers, urlencode(form).encode(), body_is_secret=True)
        answer = await self._transport.fetch(request, bytes_max=TOKEN_BYTES_MAX)
        said = _said(answer, keys)
        if answer.status == 429:
            asked = retry_after_seconds(answer.headers, self._clock.now())
            raise self._failed(f"the vault takes no more logins for now: {said}", asked_seconds=asked)
        if answer.status in (400, 401, 403):
            raise self._failed(
                f"the vault refuses the API key ({said}): client_id or client_secret is wrong, or the key was replaced;"
                " copy both anew from the account's settings (Security, Keys, API key)"
            )
        content = _json(answer.body) if answer.status == 200 else None
        access_token, seconds = text(content, "access_token"), member(content, "expires_in")
        is_token = access_token.isascii() and access_token.isprintable() and access_token != ""
        if not isinstance(content, dict) or not is_token:
            problem = f"the vault's answer to the login is none of Bitwarden's: {said}"
            raise self._failed(problem, seconds_max=BROKEN_PAUSE_SECONDS_MAX)
        lasts = seconds if isinstance(seconds, int | float) and 0 < seconds <= TOKEN_SECONDS_MAX else 0.0
        ends_at = self._clock.monotonic() + max(lasts - TOKEN_SECONDS_LEFT_MIN, TOKEN_SECONDS_LEFT_MIN)
        return _Token(f"Bearer {access_token}", ends_at, content)

    def _failed(
        self, problem: str, *, asked_seconds: float | None = None, seconds_max: float = LOGIN_PAUSE_SECONDS_MAX
    ) -> SecretUnavailable:
        """Stays away from the login for a while."""
        failures = self._pause.failures + 1 if self._pause else 1
        pause = max(asked_seconds or 0.0, LOGIN_PAUSE_SECONDS_FIRST * 2.0 ** min(failures - 1, 10))
        until = self._clock.monotonic() + min(pause, seconds_max)
        self._token, self._pause = None, _Pause(problem, until, failures)
        return SecretUnavailable(problem)

    async def _unlock(self, keys: _Keys, vault: Any) -> _Unlocked:
        """The account's keys. They are derived anew only when the server has others, since that is made to be slow."""
        token, profile = self._token, member(vault, "profile")
        assert token is not None
        unlock = member(member(token.answer, "userDecryptionOptions"), "masterPasswordUnlock") or member(
            member(vault, "userDecryption"), "masterPasswordUnlock"
        )
        pair = member(member(profile, "accountKeys"), "publicKeyEncryptionKeyPair")
        private = text(profile, "privateKey") or text(pair, "wrappedPrivateKey")
        protected = text(profile, "key") or text(unlock, "masterKeyEncryptedUserKey") or text(token.answer, "key")
        email = text(unlock, "salt") or text(profile, "email")
        if not protected or not email:
            raise self._failed("the vault's answer has no key of an account that is opened with a master password")
        if self._unlocked is None or self._unlocked.protected != protected:
            try:
                kdf = _kdf(member(unlock, "kdf"), "kdfType", "") or _kdf(token.answer, "kdf", "kdf")
                kdf = kdf or await self._prelogin(email)
                self._unlocked = await self._threads.run(_unlocked, kdf, keys.password, email, protected, private)
            except WrongKey:
                raise self._failed("the master password is wrong: it does not open the vault's account") from None
            except CannotDecrypt as error:
                raise self._failed(plain_text(f"the vault cannot be opened: {error}")) from None
        self._pause = None
        return self._unlocked

    async def _prelogin(self, email: str) -> Kdf:
        """How the account's key is derived, from a server that does not say it at the login."""
        headers = {**CLIENT_HEADERS, "Content-Type": "application/json"}
        url = self._identity / "accounts/prelogin"
        request = Request("POST", url, headers, json.dumps({"email": email}).encode())
        answer = await self._transport.fetch(request, bytes_max=TOKEN_BYTES_MAX)
        kdf = _kdf(_json(answer.body), "kdf", "kdf") if answer.status == 200 else None
        if kdf is None:
            raise CannotDecrypt("the server does not say how the account's key is derived")
        return kdf


def opened(vault: Any, user: SymmetricKey, private: PrivateKey | None, references: Iterable[SecretReference]) -> Found:
    """The secret of each reference in what `sync` gave, or why there is none. Pure."""
    organizations = {}
    for each in members(member(vault, "profile"), "organizations"):
        try:
            if private is not None:
                organizations[text(each, "id")] = SymmetricKey.of(private.decrypt(text(each, "key")))
        except CannotDecrypt:
            continue  # Its items are not there, like those of an organization that the account is not in.
    items = []
    for content in members(vault, "ciphers"):
        organization = text(content, "organizationId")
        key = organizations.get(organization) if organization else user
        if key is None or member(content, "deletedDate"):
            continue
        try:
            if own := text(content, "key"):
                key = SymmetricKey.of(key.decrypt(own))
            name = key.decrypt(text(content, "name")).decode()
        except (CannotDecrypt, UnicodeDecodeError):
            continue
        items.append(Item(text(content, "id"), name, content, _reader(key)))
    return select(items, references)


def device_id(client_id: str) -> str:
    """The same for the same account for ever, with nothing kept: each new device makes the server send a mail."""
    hexadecimal = hashlib.sha256(f"homeport {client_id}".encode()).hexdigest()
    # A UUID of version 8: its bits are its maker's own. Source: RFC 9562 section 5.8.
    return "-".join(
        (hexadecimal[:8], hexadecimal[8:12], f"8{hexadecimal[12:15]}", f"8{hexadecimal[15:18]}", hexadecimal[18:30])
    )


def _addresses(url: URL) -> tuple[URL, URL]:
    """Where logins and where items are asked for."""
    for cloud in CLOUDS:
        if url.host in (cloud, f"vault.{cloud}"):
            return URL(f"https://identity.{cloud}"), URL(f"https://api.{cloud}")
    return url / "identity", url / "api"


def _unlocked(kdf: Kdf, password: str, email: str, protected: str, private: str) -> _Unlocked:
    user = SymmetricKey.of(SymmetricKey.stretched(kdf.master_key(password, email)).decrypt(protected))
    return _Unlocked(protected, user, PrivateKey(user.decrypt(private)) if private else None)


def _kdf(content: Any, kind: str, prefix: str) -> Kdf | None:
    """What is said of the key's derivation; None if nothing is."""
    names = [f"{prefix}{name}" if prefix else name.lower() for name in ("Iterations", "Memory", "Parallelism")]
    numbers = [member(content, name) for name in (kind, *names)]
    if not isinstance(numbers[0], int):
        return None
    return Kdf(*(number if isinstance(number, int) else 0 for number in numbers))


def _reader(key: SymmetricKey) -> Callable[[str], str]:
    def read(encrypted: str) -> str:
        try:
            return key.decrypt(encrypted).decode()
        except (CannotDecrypt, UnicodeDecodeError):
            raise SecretUnavailable("this part of the item is damaged: save it anew in the vault") from None

    return read


def _json(body: bytes) -> Any:
    """None for what is no JSON."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _said(answer: Answer, keys: _Keys) -> str:
    """The status, and the server's own words where it gives some."""
    content = _json(answer.body) if answer.status >= 400 else None
    words = (
        text(member(content, "errorModel"), "message")
        or text(content, "message")
        or text(content, "error_description")
        or text(content, "error")
    )
    return plain_text(f"it answers {answer.status}" + (f", {words}" if words else ""), keys.secrets)
