"""A small Bitwarden server that is true to the protocol: accounts, API keys, devices, items, organizations.

The official `bw` logs in to it, unlocks, creates, reads and syncs; what it does not ask for is not here. The server
only ever sees what is encrypted; `Account` is the client's side, which the tests need to make accounts: it encrypts,
where Homeport only decrypts, and `bw` is who says that it does so rightly.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import os
import ssl
import threading
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import argon2.low_level
from aiohttp import web
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC

from tests.support.certificates import ServerCertificate

Json = dict[str, Any]

START_SECONDS_MAX = 30

#: As little as is accepted: a test is no place to be slow.
PBKDF2: Json = {"kdfType": 0, "iterations": 5_000, "memory": None, "parallelism": None}
ARGON2: Json = {"kdfType": 1, "iterations": 2, "memory": 16, "parallelism": 2}


def encrypted(data: bytes | str, key: bytes) -> str:
    """An encrypted string of type 2."""
    clear = data.encode() if isinstance(data, str) else data
    clear += bytes([16 - len(clear) % 16]) * (16 - len(clear) % 16)
    iv = os.urandom(16)
    encryptor = Cipher(AES(key[:32]), CBC(iv)).encryptor()
    body = encryptor.update(clear) + encryptor.finalize()
    mac = hmac.digest(key[32:], iv + body, "sha256")
    return "2." + "|".join(base64.b64encode(part).decode() for part in (iv, body, mac))


def stretched(master_key: bytes) -> bytes:
    """What the user's key is encrypted with. One block of HKDF's second step each: HMAC(key, info, 1)."""
    return b"".join(hmac.digest(master_key, info + b"\x01", "sha256") for info in (b"enc", b"mac"))


@dataclass
class Organization:
    """One that owns items."""

    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    collection: str = field(default_factory=lambda: str(uuid.uuid4()))
    key: bytes = field(default_factory=lambda: os.urandom(64))


class Account:
    """Somebody's account, with an API key."""

    def __init__(self, email: str, password: str, kdf: Json = PBKDF2) -> None:
        self.id = str(uuid.uuid4())
        self.email, self.password, self.kdf = email, password, kdf
        self.client_id, self.client_secret = f"user.{self.id}", base64.urlsafe_b64encode(os.urandom(21)).decode()
        self.user_key = os.urandom(64)
        self.rsa = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.organizations: list[Organization] = []
        self.items: dict[str, Json] = {}
        self.revised = datetime.now(UTC)
        self.protected_key = encrypted(self.user_key, stretched(self._master_key()))
        der = self.rsa.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        self.private_key = encrypted(der, self.user_key)
        self.public_key = base64.b64encode(
            self.rsa.public_key().public_bytes(
                serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        ).decode()

    def _master_key(self) -> bytes:
        salt = self.email.strip().lower().encode()
        if self.kdf["kdfType"] == 0:
            return hashlib.pbkdf2_hmac("sha256", self.password.encode(), salt, self.kdf["iterations"])
        return argon2.low_level.hash_secret_raw(
            self.password.encode(),
            hashlib.sha256(salt).digest(),
            self.kdf["iterations"],
            self.kdf["memory"] * 1024,
            self.kdf["parallelism"],
            32,
            argon2.low_level.Type.ID,
        )

    @property
    def login_hash(self) -> str:
        """What the server compares at a login with the password."""
        return base64.b64encode(hashlib.pbkdf2_hmac("sha256", self._master_key(), self.password.encode(), 1)).decode()

    def change_password(self, password: str) -> None:
        self.password = password
        self.protected_key = encrypted(self.user_key, stretched(self._master_key()))

    def join(self, organization: Organization) -> None:
        self.organizations.append(organization)

    def protected_organization_key(self, organization: Organization) -> str:
        oaep = padding.OAEP(mgf=padding.MGF1(hashes.SHA1()), algorithm=hashes.SHA1(), label=None)
        return "4." + base64.b64encode(self.rsa.public_key().encrypt(organization.key, oaep)).decode()

    def add(self, name: str, *, organization: Organization | None = None, own_key: bool = False, **parts: Any) -> str:
        """An item as a client makes it: `password`, `username`, `uris`, `notes`, `fields` (pairs of name and value)."""
        outer = organization.key if organization else self.user_key
        key = os.urandom(64) if own_key else outer

        def hidden(value: str | None) -> str | None:
            return None if value is None else encrypted(value, key)

        item = {
            "type": 1,
            "name": hidden(name),
            "notes": hidden(parts.get("notes")),
            "organizationId": organization.id if organization else None,
            "collectionIds": [organization.collection] if organization else [],
            "key": encrypted(key, outer) if own_key else None,
            "login": {
                "username": hidden(parts.get("username")),
                "password": hidden(parts.get("password")),
                "uris": [{"uri": hidden(uri), "match": None} for uri in parts.get("uris", ())],
            },
            "fields": [
                {"type": 0, "name": hidden(label), "value": hidden(value)} for label, value in parts.get("fields", ())
            ],
        }
        return str(self.keep(item)["id"])

    def keep(self, item: Json, item_id: str | None = None) -> Json:
        """An item as a server keeps it."""
        self.revised = datetime.now(UTC)
        sent = {name: value for name, value in item.items() if name not in ("lastKnownRevisionDate", "encryptedFor")}
        kept = {
            "folderId": None,
            "favorite": False,
            "reprompt": 0,
            "collectionIds": [],
            "fields": None,
            "login": None,
            **sent,
            "object": "cipherDetails",
            "id": item_id or str(uuid.uuid4()),
            "edit": True,
            "viewPassword": True,
            "permissions": {"delete": True, "restore": True},
            "organizationUseTotp": False,
            "creationDate": _stamp(self.revised),
            "revisionDate": _stamp(self.revised),
            "deletedDate": None,
            "attachments": None,
            "passwordHistory": None,
        }
        self.items[kept["id"]] = kept
        return kept

    def unlocking(self) -> Json:
        """What a client needs to open the account with the master password."""
        return {
            "hasMasterPassword": True,
            "masterPasswordUnlock": {
                "kdf": self.kdf,
                "masterKeyEncryptedUserKey": self.protected_key,
                "salt": self.email.strip().lower(),
            },
            "object": "userDecryptionOptions",
        }

    def account_keys(self) -> Json:
        """The account's key pair as newer clients want it."""
        pair = {"wrappedPrivateKey": self.private_key, "publicKey": self.public_key, "signedPublicKey": None}
        return {"publicKeyEncryptionKeyPair": pair, "signatureKeyPair": None, "securityState": None}

    def profile(self) -> Json:
        return {
            "object": "profile",
            "id": self.id,
            "name": "Test",
            "email": self.email,
            "emailVerified": True,
            "premium": True,
            "culture": "en-US",
            "twoFactorEnabled": False,
            "key": self.protected_key,
            "privateKey": self.private_key,
            "accountKeys": self.account_keys(),
            "securityStamp": self.id,
            "forcePasswordReset": False,
            "usesKeyConnector": False,
            "providers": [],
            "providerOrganizations": [],
            "organizations": [
                {
                    "object": "profileOrganization",
                    "id": each.id,
                    "name": "Organization",
                    "key": self.protected_organization_key(each),
                    "status": 2,
                    "type": 0,
                    "enabled": True,
                    "users": 1,
                    "permissions": {},
                    "hasPublicAndPrivateKeys": True,
                    "userId": self.id,
                }
                for each in self.organizations
            ],
        }

    def sync(self) -> Json:
        return {
            "object": "sync",
            "profile": self.profile(),
            "folders": [],
            "collections": [
                {
                    "object": "collectionDetails",
                    "id": each.collection,
                    "organizationId": each.id,
                    "name": encrypted("Collection", each.key),
                    "readOnly": False,
                    "hidePasswords": False,
                    "manage": True,
                }
                for each in self.organizations
            ],
            "policies": [],
            "ciphers": list(self.items.values()),
            "sends": [],
            "userDecryption": {"masterPasswordUnlock": self.unlocking()["masterPasswordUnlock"]},
        }


def _stamp(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


Answering = Callable[[web.Request], Awaitable[web.StreamResponse]]


class VaultServer:
    """The server. `instead` answers what it lists (by path) in the server's place, to see what clients make of it."""

    def __init__(self) -> None:
        self.accounts: list[Account] = []
        self.instead: dict[str, Answering] = {}
        self.url = ""
        self.token_seconds: Any = 3600
        #: Every request as METHOD and path, every login's form, every device seen.
        self.asked: list[str] = []
        self.logins: list[dict[str, str]] = []
        self.tokens: dict[str, Account] = {}
        #: Whether answers are written with capitals, as Bitwarden's own server long did.
        self.capitals = False
        #: Whether the login and the sync tell how to derive the key, or the client has to ask `prelogin`.
        self.tells_derivation = True

    def add(self, account: Account) -> Account:
        self.accounts.append(account)
        return account

    def end_tokens(self) -> None:
        """As a server that was restarted with other keys, or on which sessions were revoked."""
        self.tokens.clear()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(f"{request.method} {request.path}")
        if request.path in self.instead:
            return await self.instead[request.path](request)
        path = request.path.removeprefix("/identity").removeprefix("/api")
        if path.startswith("/accounts/prelogin"):
            return self._prelogin(await request.json())
        if path == "/connect/token":
            return self._login({name: str(value) for name, value in (await request.post()).items()})
        if path == "/config":
            return self._json({"object": "config", "version": "2026.6.0", "gitHash": "0", "featureStates": {}})
        account = self.tokens.get(request.headers.get("Authorization", "").removeprefix("Bearer "))
        if account is None:
            return _refused(401, "Unauthorized")
        if path == "/sync":
            told = account.sync()
            if not self.tells_derivation:
                del told["userDecryption"]
            return self._json(told)
        if path == "/accounts/revision-date":
            return web.json_response(int(account.revised.timestamp() * 1000))
        if path == "/accounts/profile":
            return self._json(account.profile())
        if path.startswith("/ciphers"):
            return self._items(account, request.method, path, await request.json() if request.can_read_body else {})
        if path.startswith(("/devices", "/collect", "/organizations")):
            return self._json({"object": "list", "data": []})
        return _refused(404, f"{request.method} {request.path} is not here")

    def _prelogin(self, asked: Json) -> web.Response:
        kdf = next((each.kdf for each in self.accounts if each.email == asked["email"]), PBKDF2)
        return self._json(_flat(kdf))

    def _login(self, form: dict[str, str]) -> web.Response:
        self.logins.append(form)
        if not all(form.get(name) for name in ("deviceType", "deviceIdentifier", "deviceName")):
            return _refused(400, "device is missing")
        if form["grant_type"] == "client_credentials":
            account = next((each for each in self.accounts if each.client_id == form["client_id"]), None)
            if account is None or form["scope"] != "api":
                return _refused(400, "Invalid client_id")
            if account.client_secret != form["client_secret"]:
                return _refused(400, "Incorrect client_secret")
        else:
            account = next((each for each in self.accounts if each.email == form["username"]), None)
            if account is None or account.login_hash != form["password"]:
                return _refused(400, "Username or password is incorrect. Try again")
        claims = {"sub": account.id, "email": account.email, "email_verified": True, "exp": 4102444800, "premium": True}
        claims |= {
            "amr": ["Application"],
            "scope": ["api"],
            "name": "Test",
            "iss": self.url,
            "jti": os.urandom(8).hex(),
        }
        token = ".".join(
            base64.urlsafe_b64encode(part).decode().rstrip("=")
            for part in (b'{"alg":"none","typ":"JWT"}', json.dumps(claims).encode(), b"signature")
        )
        self.tokens[token] = account
        answer = {
            "access_token": token,
            "expires_in": self.token_seconds,
            "token_type": "Bearer",
            "scope": "api",
            "Key": account.protected_key,
            "PrivateKey": account.private_key,
            "AccountKeys": account.account_keys(),
            "ResetMasterPassword": False,
            "ForcePasswordReset": False,
            "MasterPasswordPolicy": {"object": "masterPasswordPolicy"},
        }
        if self.tells_derivation:
            answer |= {name[0].upper() + name[1:]: value for name, value in _flat(account.kdf).items()}
            answer["UserDecryptionOptions"] = _capitals(account.unlocking())
        if form["grant_type"] == "password":
            answer["refresh_token"] = "refresh"
        return web.json_response(answer)

    def _items(self, account: Account, method: str, path: str, body: Json) -> web.Response:
        match method, path.split("/")[2:]:
            case "POST", []:
                return self._json(account.keep(body))
            case "POST", ["create"]:
                return self._json(account.keep({**body["cipher"], "collectionIds": body["collectionIds"]}))
            case "GET", [item_id] if item_id in account.items:
                return self._json(account.items[item_id])
            case "PUT", [item_id] if item_id in account.items:
                return self._json(account.keep(body, item_id))
            case "PUT", [item_id, "delete"] if item_id in account.items:
                account.items[item_id]["deletedDate"] = _stamp(datetime.now(UTC))
                account.revised = datetime.now(UTC)
                return web.Response()
        return _refused(404, "Resource not found.")

    def _json(self, answer: Json) -> web.Response:
        return web.json_response(_capitals(answer) if self.capitals else answer)


def _flat(kdf: Json) -> Json:
    names = {"kdf": "kdfType", "kdfIterations": "iterations", "kdfMemory": "memory", "kdfParallelism": "parallelism"}
    return {name: kdf[inside] for name, inside in names.items()}


def _capitals(value: Any) -> Any:
    if isinstance(value, dict):
        return {name[0].upper() + name[1:]: _capitals(below) for name, below in value.items()}
    return [_capitals(below) for below in value] if isinstance(value, list) else value


def _refused(status: int, message: str) -> web.Response:
    """As Vaultwarden says no."""
    answer = {
        "error": "",
        "error_description": "",
        "errorModel": {"message": message, "object": "error"},
        "message": message,
        "object": "error",
        "validationErrors": {"": [message]},
    }
    return web.json_response(answer, status=status)


@asynccontextmanager
async def vault_serving(tls: ServerCertificate | None = None) -> AsyncIterator[VaultServer]:
    """A server on a free port, without accounts. `bw` wants TLS."""
    server = VaultServer()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1, handle_signals=False)
    await runner.setup()
    context = None
    if tls is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(tls.certificate, tls.key)
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    server.url = f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await runner.cleanup()


@contextmanager
def vault_beside(tls: ServerCertificate | None = None) -> Iterator[VaultServer]:
    """The same in a thread of its own, for tests that are no coroutines."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    serving = vault_serving(tls)
    try:
        yield asyncio.run_coroutine_threadsafe(serving.__aenter__(), loop).result(START_SECONDS_MAX)
        asyncio.run_coroutine_threadsafe(serving.__aexit__(None, None, None), loop).result(START_SECONDS_MAX)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
