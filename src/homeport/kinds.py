"""The names of what happens and of what runs: events, jobs, and how a run ends. Each is listed here and nowhere else.

Pure: configuration, audit log, jobs and notifications share these words, and the reference pages are made from them.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

#: Every kind of event, with the sentence that documents it (`docs/reference/events.md` is made from this).
EVENTS: Final[dict[str, str]] = {
    "blob.pushed": "A blob was uploaded to the repository.",
    "blob.mounted": "A blob that another repository holds was linked into this one without being sent again.",
    "blob.deleted": "A blob was taken out of the repository.",
    "blob.restored": "A blob was brought back from the trash into the repository.",
    "blob.lost": "The bytes of a blob are not on the disk in their size; pushing it again mends that.",
    "blob.found": "The bytes of a blob that were lost are there again.",
    "upload.abandoned": "An upload was forgotten of which no byte had come for `cleanup.uploads_after`.",
    "manifest.pushed": "A manifest or index that the repository did not hold was pushed.",
    "manifest.deleted": "A manifest or index was taken out of the repository, with every tag that pointed at it.",
    "repository.deleted": "Somebody deleted a repository: what it held when that began goes to the trash.",
    "trash.purged": "Somebody purged things from the trash: they cannot be brought back. The detail says how many.",
    "tag.set": "A tag was created or points at another manifest now.",
    "tag.deleted": "A tag was deleted; the manifest that it pointed at stays until it is cleaned up.",
    "user.added": "A user was added.",
    "user.changed": "A user's password or rights were changed.",
    "user.removed": "A user was removed, with every token that belonged to it.",
    "token.created": "A token was created.",
    "token.revoked": "A token was revoked.",
    "config.reloaded": "A changed configuration was taken over while the server ran; the reason lists what changed.",
    "config.refused": "A changed configuration was not taken over and the old one stays; the reason says why.",
    "job.requested": "Somebody asked for a run; the reason names its kind.",
    "job.cancelled": "Somebody cancelled a run; the reason names its kind.",
    "job.retried": "Somebody asked for a run again that had ended; the reason names its kind.",
    "mirror.finished": "A mirror run ended; its detail is the summary, with the images that failed and why.",
    "mirror.stopped": "An upstream repository lost too many tags at once to be believed; the reason says what to do.",
    "mirror.released": "A person believes the lists that a mirror run did not; the reason names the run.",
    "mirror.adopted": "Somebody had it written down which tags are upstream's; the reason says how many.",
    "cleanup.finished": "A cleanup run ended; its detail is the summary, with all that went since the run before it.",
    "cleanup.stopped": "Something is not deleted until a person says so; the reason says why and what to do.",
    "cleanup.confirmed": "A person said that the clock is right, so that things are deleted again.",
    "cleanup.released": "A person let a run remove what it had stopped at; the reason names the run.",
    "housekeeping.finished": "A housekeeping run ended; its detail is the summary.",
    "recount.finished": "New quotas were counted; its detail is the summary.",
    "notify.tested": "Somebody sent a sample to a target; the reason names the target.",
    "delivery.given_up": "A notification could not be delivered and is not tried any more; the reason says why.",
    "delivery.replayed": "Somebody asked for a notification to be sent again; the reason names it.",
    "secret.unavailable": "A secret could not be read again; what was last read of it serves on. The reason says why.",
    "secret.restored": "A secret that could not be read can be read again.",
    "engine.unreachable": "A container engine does not tell what it runs; what it last ran stays. The reason says why.",
    "engine.reachable": "A container engine that could not be asked tells again what it runs; the reason names it.",
    "engine.forgotten": "A container engine is asked no more, and what it ran may go; the reason names it.",
}

#: Every kind of job, with the sentence that documents it. A job KIND that ends writes the event `KIND.finished`.
JOBS: Final[dict[str, str]] = {
    "mirror": "Bring the mirrored images in step with their upstreams; what is gone there goes where that is set.",
    "cleanup": "Remove the tags that no rule keeps, then sweep, and tell all that went since the run before.",
    "housekeeping": "Forget what is older than the configuration keeps: events, ended jobs, deliveries, dead tokens.",
    "recount": "Count what new quotas have in their repositories; asked for by itself when `quotas` changes.",
}
#: The arguments that each kind of job takes. Here, so that who only asks for a run need not know what runs.
JOB_ARGUMENTS: Final[dict[str, tuple[str, ...]]] = {
    "mirror": ("name",),
    "cleanup": ("untagged_after", "dry_run", "released"),
    "housekeeping": (),
    "recount": (),
}
#: The parts of the configuration that runs go by. Who asks for one is told where the process that runs it has others.
JOB_SETTINGS: Final[dict[str, tuple[str, ...]]] = {
    "mirror": ("mirror", "upstreams", "cache", "client", "repositories", "quotas"),
}


class Outcome(StrEnum):
    """How a run ended. These words stand literally in every payload, and decide a verb's exit code."""

    SUCCESS = "success"
    PARTIAL = "partial"
    ERROR = "error"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


#: What each outcome means.
OUTCOMES: Final[dict[Outcome, str]] = {
    Outcome.SUCCESS: "Nothing failed.",
    Outcome.PARTIAL: "Some of it failed.",
    Outcome.ERROR: "None of it could be done, or the run broke.",
    Outcome.SKIPPED: "It did not start; its reason is in the list below.",
    Outcome.CANCELLED: "Somebody cancelled it.",
}

#: Why a run can be skipped.
SKIPS: Final[dict[str, str]] = {
    "already-running": "The run before it had not ended.",
    "clock-jumped": "The clock may be wrong. Housekeeping goes ahead the next time, a cleanup when a person has said"
    " that it is right (`homeport cleanup confirm-clock`).",
    "read-only": "The registry is read-only, so nothing may be deleted.",
    "server-name-not-found": "The name of the server that was to do it could not be resolved.",
    "server-refused": "The machine of the server refused the connection: nothing listens there.",
    "server-timed-out": "The server, or the network on the way to it, did not answer in time.",
    "server-unreachable": "The server could not be reached for another reason, which the text tells.",
    "storage-unreachable": "The bytes cannot be read: the disk is gone, or another one is in its place.",
    "uploads-active": "Something is being pushed, and `cleanup.skip_while_uploading` is set.",
}
