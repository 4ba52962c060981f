"""What a `regsync.yaml` says, in our form.

Source: regclient, `regsync` configuration, version 1.

Pure. Holds: what regsync would not have copied is not mirrored because a condition could not be carried over: then what
it stands at is left out as a whole, and told.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from homeport.config.document import Location
from homeport.config.plans import Cron
from homeport.config.references import parse_reference
from homeport.mirror.translation import Draft, Part
from homeport.oci.reference import Reference

_SYNC_OPTIONS = (
    "backup", "digestTags", "fastCheck", "forceRecursive", "hooks", "includeExternal", "interval", "mediaTypes",
    "ratelimit", "referrerFilters", "referrerSlow", "referrerSource", "referrerTarget", "referrers", "schedule",
)  # fmt: skip
_DEFAULTS = (*_SYNC_OPTIONS, "blobLimit", "cacheCount", "cacheTime", "parallel", "skipDockerConfig", "userAgent")
_SYNC = (*_SYNC_OPTIONS, "platform", "platforms", "repos", "source", "tagSets", "tags", "target", "type")
_CREDENTIALS = (
    "apiOpts", "blobChunk", "blobMax", "clientCert", "clientKey", "credExpire", "credHelper", "credHost", "hostname",
    "mirrors", "pass", "pathPrefix", "priority", "regcert", "registry", "repoAuth", "reqConcurrent", "reqPerSec",
    "scheme", "tls", "token", "user",
)  # fmt: skip

#: What Homeport does in its own way, by the key that says it.
_NOTES: Final[Mapping[str, str]] = {
    "backup": "what a tag was before can be brought back with `homeport tag restore`; no copy of it is made",
    "hooks": "regsync reads hooks and never runs them; 'notify' tells of runs that ended",
    "parallel": "how much is fetched at once is said for each upstream: upstreams.HOST.at_once",
    "mediaTypes": "whatever a tag is, it is mirrored, of each media type",
    "fastCheck": "a tag whose digest is the same costs one HEAD request, always",
    "forceRecursive": "what is missing below an image that is here is fetched by itself",
    "userAgent": "Homeport says its own name",
    "blobLimit": "the memory that a copy takes is limited by itself",
    "cacheCount": "nothing is cached that has to be limited",
    "cacheTime": "nothing is cached that has to be limited",
    "skipDockerConfig": "the logins of docker are not read; they stand below 'upstreams'",
    "referrerSlow": "Homeport finds out by itself whether a registry lists referrers",
}
#: What cannot be carried over, and what to do.
_LOST: Final[Mapping[str, str]] = {
    "referrerSource": "referrers are taken from where their image is",
    "referrerTarget": "referrers are put where their image is",
    "includeExternal": "layers that are kept elsewhere are not fetched",
}
_CREDENTIAL_NOTES: Final[Mapping[str, str]] = {
    "blobChunk": "how blobs are sent is of no concern here: Homeport is what they are fetched to",
    "blobMax": "how blobs are sent is of no concern here: Homeport is what they are fetched to",
    "apiOpts": "Homeport finds out by itself what a registry can do",
    "priority": "the registry itself is asked",
    "repoAuth": "a login is for the host, with a token for each repository where the registry gives those",
    "credExpire": "a login that is refused is read again from where it is",
}
_CREDENTIAL_LOSSES: Final[Mapping[str, str]] = {
    "token": "is a token; write a user and where its password is, below upstreams.HOST",
    "credHelper": "is a program; write a user and where its password is, below upstreams.HOST",
    "credHost": "a login is for the host of the images",
    "clientCert": "certificates of clients are not supported",
    "clientKey": "certificates of clients are not supported",
    "pathPrefix": "put it into the 'source' of the images",
    "mirrors": "the registry itself is asked; write the mirror's host into the 'source' of the images",
    "hostname": "the registry is asked at the host of the 'source'; write this one there",
}

#: How regsync compiles an expression. A `|` in it stands between the two ends, as it does there.
_WHOLE_TAG = "^{}$"
#: A tag of which regsync's ranges and ours think differently.
_VARIANT = "1.2.3-variant"
_VARIANTS_LOST = (
    "regsync takes 1.2.3-alpine for a pre-release, and copies it; here a range is about tags without a variant, and one"
    " for each variant can follow it: '>=1.2 <2 || >=1.2-alpine <2'"
)
_EXPRESSIONS = ("allow", "deny")

_TEMPLATE = re.compile(r"\{\{.*?\}\}", re.DOTALL)
_SOURCE_TEMPLATE = re.compile(r"\{\{-?\s*\.Sync\.Source\s*-?\}\}")
_SECRET_TEMPLATE = re.compile(r'\{\{-?\s*(env|file)\s+"([^"{}]+)"\s*-?\}\}')
_GO_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:h|ms|m|s|us|µs|ns))+")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
#: A regular expression that is a pattern of repository names in other words.
_PLAIN_NAME = re.compile(r"(?:[a-z0-9_/-]|\\[.-]|\[\^/\][*+])+")


def is_one(values: Mapping[str, Any]) -> bool:
    """Whether a file with these keys is one of regsync."""
    return isinstance(values.get("sync"), list) or ("version" in values and ("creds" in values or "defaults" in values))


def take(draft: Draft, values: Mapping[str, Any]) -> None:
    """Take over what the file says."""
    file = Part(draft, (), values)
    file.expect(("version", "creds", "defaults", "sync"))
    if file.text("version") not in (None, "1"):
        file.lose("version", "only version 1 of this form is known; what follows was read as that")
    defaults = file.part("defaults")
    if defaults is not None:
        defaults.expect(_DEFAULTS)
    syncs = [Part(draft, each.location, each.values, defaults) for each in file.parts("sync")]
    asked: set[str] = set()
    for sync in syncs:
        asked |= _take_sync(sync)
    _take_schedule(draft, syncs)
    for credentials in file.parts("creds"):
        _take_credentials(credentials, asked)


# --- sync -------------------------------------------------------------------------------------------------------


def _take_sync(sync: Part) -> set[str]:
    """Take over an entry; the registries that it asks."""
    sync.expect(_SYNC)
    _tell(sync, _NOTES, _LOST)
    source, target = sync.text("source"), sync.text("target")
    if source is None or target is None:
        sync.draft.lose(sync.location, "has no 'source' or no 'target', so nothing of it is carried over")
        return set()
    target = _SOURCE_TEMPLATE.sub(lambda _: source, target)
    for key, text in (("source", source), ("target", target)):
        if _TEMPLATE.search(text):
            sync.lose(key, "is a template; write what it stands for, and import the file again")
            return set()
        if text.startswith(("ocidir://", "ocifile://")):
            sync.lose(key, "is a folder; images are mirrored from registries to here")
            return set()
    kinds = {"image": _take_image, "repository": _take_repository, "registry": _take_registry}
    kind = sync.text("type")
    if kind not in kinds:
        sync.lose("type", "must be image, repository or registry, so nothing of it is carried over")
        return set()
    host = kinds[kind](sync, source, target)
    if host is None:
        return set()
    if (limit := sync.part("ratelimit")) is not None:
        if (pulls := limit.number("min")) is not None:
            sync.draft.keep_reserve(limit.place("min"), host, int(pulls))
        if limit.has("retry"):
            limit.note("retry", "a run that has used up what the registry allows goes on with the next run")
    return {host}


def _take_image(sync: Part, source: str, target: str) -> str | None:
    found, put = _both(sync, source, target)
    if found is None or put is None:
        return None
    if found.digest is not None:
        sync.lose("source", "is a digest, which never changes; copy it once with `homeport copy`")
        return None
    if put.digest is not None or put.tag != found.tag:
        sync.lose("target", f"has another tag than the source; a mirrored tag keeps its name, here '{found.tag}'")
        return None
    is_taken = sync.draft.add(sync.place("source"), _name(found), put.repository, [str(found.tag)], **_options(sync))
    return found.host if is_taken else None


def _take_repository(sync: Part, source: str, target: str) -> str | None:
    found, put = _both(sync, source, target)
    if found is None or put is None:
        return None
    options = _options(sync)
    is_taken = False
    for conditions in _selections(sync):
        is_taken |= sync.draft.add(sync.place("source"), _name(found), put.repository, conditions=conditions, **options)
    return found.host if is_taken else None


def _take_registry(sync: Part, source: str, target: str) -> str | None:
    host, _, below = source.partition("/")
    prefix = target.partition("/")[2].strip("/")
    repositories = sync.part("repos")
    allowed = _patterns(repositories, "allow") if repositories else None
    denied = _patterns(repositories, "deny") if repositories else None
    if repositories is None or allowed is None or denied is None or None in denied or (allowed and not any(allowed)):
        sync.draft.lose(sync.location, "would mirror other repositories without that, so nothing of it is carried over")
        return None
    repositories.expect(("allow", "deny"))
    options, selections = _options(sync), list(_selections(sync))
    put = f"{prefix}/{{repository}}" if prefix else "{repository}"
    is_taken = False
    for pattern in filter(None, allowed or ["**"]):
        name = "/".join(filter(None, (host, below.strip("/"), pattern)))
        for conditions in selections:
            is_taken |= sync.draft.add(sync.place("source"), name, put, conditions=conditions, **options)
    if not is_taken:
        return None
    for pattern in filter(None, denied):
        sync.draft.skip["/".join(filter(None, (prefix, below.strip("/"), pattern)))] = None
    return sync.draft.host(sync.place("source"), host)


def _both(sync: Part, source: str, target: str) -> tuple[Reference | None, Reference | None]:
    return (
        sync.draft.reference(sync.place("source"), source),
        sync.draft.reference(sync.place("target"), target),
    )


def _name(reference: Reference) -> str:
    return f"{reference.host}/{reference.repository}"


def _options(sync: Part) -> dict[str, Any]:
    """What the entry says beside its tags."""
    options: dict[str, Any] = {}
    platforms = [*(sync.texts("platforms") or []), *(sync.texts("platform") or [])]
    wanted = [text for location, text in platforms if _is_platform(sync, location, text)]
    if wanted:
        options["platforms"] = list(dict.fromkeys(wanted))
        sync.note("platform" if sync.has("platform") else "platforms", _PLATFORMS_NOTE)
    referrers, companions = sync.flag("referrers"), sync.flag("digestTags")
    if referrers is False and not companions:
        options["referrers"] = False
    elif referrers is None:
        sync.draft.note(sync.location, _REFERRERS_NOTE)
    types = []
    filters = sync.parts("referrerFilters")
    for each in filters:
        each.expect(("artifactType", "annotations"))
        if each.has("annotations"):
            each.lose("annotations", "referrers are chosen by their artifact type only, so more of them are mirrored")
        types.append(each.text("artifactType"))
    if types and all(types):
        options["referrer_types"] = types
    return options


_PLATFORMS_NOTE = (
    "the index stays as upstream made it, with its digest; only these platforms of it are here. regsync's 'platform'"
    " put the image of the platform in its place"
)
_REFERRERS_NOTE = (
    "signatures, attestations and SBOMs come with their images, which regsync does not do unless it is told;"
    " 'referrers: false' leaves them away"
)


def _is_platform(sync: Part, location: Location, text: str) -> bool:
    if text == "local":
        sync.draft.lose(location, "is the machine's own platform; write which one is meant, such as linux/amd64")
        return False
    return True


def _selections(sync: Part) -> Iterator[dict[str, Any]]:
    """The conditions of each set of tags; those that cannot be carried over are told and left out."""
    sets = [sync.part("tags")] if sync.has("tags") or not sync.has("tagSets") else []
    for tags in [*sets, *sync.parts("tagSets")]:
        if tags is None:
            continue
        tags.expect((*_EXPRESSIONS, "semverRange"))
        found = {key: tags.texts(key) for key in (*_EXPRESSIONS, "semverRange")}
        allow, deny = ([tags.draft.expression(*each, _WHOLE_TAG) for each in found[key] or []] for key in _EXPRESSIONS)
        ranges = [tags.draft.range(*each) for each in found["semverRange"] or []]
        allowed, known = [each for each in allow if each], [each for each in ranges if each]
        # What is allowed may become less, but never all because nothing of it is left.
        semver = tags.draft.range(tags.place("semverRange"), " || ".join(known)) if known else None
        if None in found.values() or None in deny or (allow and not allowed) or (ranges and not semver):
            tags.draft.lose(tags.location, "would mean other tags without that, so these tags are not mirrored")
            continue
        if semver and not any(re.search(each, _VARIANT) for each in deny if each):
            tags.lose("semverRange", _VARIANTS_LOST)
        meant = {"match": allowed, "not_match": deny, "semver": semver, "prereleases": semver is not None}
        yield {name: value for name, value in meant.items() if value}


def _patterns(repositories: Part, key: str) -> list[str | None] | None:
    """The patterns that mean what a list of expressions does; None for each that none means."""
    texts = repositories.texts(key)
    return None if texts is None else [_pattern(repositories, *each) for each in texts]


def _pattern(repositories: Part, location: Location, text: str) -> str | None:
    """The pattern that means what the expression does."""
    stem = text.removeprefix("^").removesuffix("$")
    if stem in (".*", ".+"):
        return "**"
    end = "/**" if stem.endswith(("/.*", "/.+")) else ""
    stem = stem[:-3] if end else stem
    if not _PLAIN_NAME.fullmatch(stem):
        repositories.draft.lose(
            location, f"'{text[:160]}' is no pattern of repository names; name them, or write one such as team/*"
        )
        return None
    return re.sub(r"\[\^/\][*+]", "*", stem).replace("\\", "") + end


# --- schedule ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _When:
    cron: str
    location: Location


def _take_schedule(draft: Draft, syncs: list[Part]) -> None:
    """Take over when it runs: the first time that is said, since here all images have one."""
    times = [when for sync in syncs if (when := _when(sync)) is not None]
    if times:
        draft.schedule = times[0].cron
    for when in times:
        if when.cron != draft.schedule:
            draft.lose(when.location, f"all images are mirrored at one time, mirror.schedule: '{draft.schedule}'")


def _when(sync: Part) -> _When | None:
    own = sync.values
    # An entry's own interval counts before the schedule of the defaults.
    if own.get("schedule") is None and own.get("interval") is not None:
        return _of_interval(sync)
    schedule = sync.text("schedule")
    if schedule is None:
        return _of_interval(sync)
    try:
        return _When(TypeAdapter(Cron).validate_python(schedule), sync.place("schedule"))
    except ValidationError:
        sync.lose("schedule", "is no cron line of five fields; write one at mirror.schedule")
        return None


def _of_interval(sync: Part) -> _When | None:
    text = sync.text("interval")
    if text is None:
        return None
    if not _GO_DURATION.fullmatch(text):
        sync.lose("interval", "is no duration; write a cron line at mirror.schedule")
        return None
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in re.findall(r"([0-9.]+)(h|ms|m|s|us|µs|ns)", text))
    cron, is_exact = cron_of(seconds)
    if not is_exact:
        sync.note("interval", f"'{text[:40]}' is no part of an hour or a day; it runs at '{cron}'")
    return _When(cron, sync.place("interval"))


def cron_of(seconds: float) -> tuple[str, bool]:
    """The cron line that runs so often, or somewhat oftener; whether it is exactly so often."""
    minutes = max(1, int(seconds // 60))
    if minutes < 60:
        step = max(each for each in range(1, minutes + 1) if 60 % each == 0)
        return ("* * * * *" if step == 1 else f"*/{step} * * * *"), step * 60 == seconds
    hours = minutes // 60
    if hours >= 24:
        return "0 2 * * *", seconds == 86400
    step = max(each for each in range(1, hours + 1) if 24 % each == 0)
    return ("0 * * * *" if step == 1 else f"0 */{step} * * *"), step * 3600 == seconds


# --- creds ------------------------------------------------------------------------------------------------------


def _take_credentials(credentials: Part, asked: set[str]) -> None:
    """Take over how a registry is asked."""
    credentials.expect(_CREDENTIALS)
    name = credentials.text("registry")
    if name is None or _TEMPLATE.search(name):
        credentials.draft.lose(credentials.location, "names no registry, so nothing of it is carried over")
        return
    host = credentials.draft.host(credentials.place("registry"), name)
    if host is None:
        return
    if host not in asked:
        credentials.note("registry", "is no source of what is mirrored, so how it is asked is of no concern here")
        return
    _tell(credentials, _CREDENTIAL_NOTES, _CREDENTIAL_LOSSES)
    _take_login(credentials, host)
    if (each := credentials.number("reqConcurrent")) is not None:
        credentials.draft.upstream(credentials.place("reqConcurrent"), host, at_once=min(max(int(each), 1), 64))
    if each := credentials.number("reqPerSec"):
        credentials.draft.upstream(credentials.place("reqPerSec"), host, requests_per_second=each)
    if credentials.text("tls") in ("insecure", "disabled"):
        credentials.draft.call(credentials.place("tls"), host, insecure=True)
    elif credentials.text("scheme") == "http":
        credentials.draft.call(credentials.place("scheme"), host, insecure=True)
    if (authority := credentials.text("regcert")) is not None:
        found = _SECRET_TEMPLATE.fullmatch(authority.strip())
        if found and found[1] == "file":
            credentials.draft.call(credentials.place("regcert"), host, ca=found[2])
        else:
            credentials.lose("regcert", f"put the certificate into a file and write client.hosts.{host}.ca: /path")


def _take_login(credentials: Part, host: str) -> None:
    user, password = credentials.text("user"), credentials.text("pass")
    if user is None and password is None:
        return
    entry = f"upstreams.{host}: {{username: ..., password: 'file:/path'}}"
    if user is None or password is None:
        credentials.draft.lose(credentials.location, f"has half of a login; write both: {entry}")
    elif _TEMPLATE.search(user):
        credentials.lose("user", f"is a template; write the user's name: {entry}")
    elif found := _SECRET_TEMPLATE.fullmatch(password.strip()):
        where = f"{found[1]}:{found[2]}"
        try:
            parse_reference(where)
        except ValueError as error:
            credentials.lose("pass", f"{error}")
            return
        credentials.draft.upstream(credentials.place("user"), host, username=user, password=where)
    else:
        credentials.lose(
            "pass", f"the password stands in the file; put it into one of its own, or a vault, and write {entry}"
        )


def _tell(part: Part, notes: Mapping[str, str], losses: Mapping[str, str]) -> None:
    for key, text in notes.items():
        if part.says(key):
            part.note(key, text)
    for key, text in losses.items():
        if part.says(key):
            part.lose(key, text)
