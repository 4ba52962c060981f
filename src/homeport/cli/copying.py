"""`homeport copy`: an image from one registry to another, whatever registries they are."""

from __future__ import annotations

from homeport.cli.context import Context
from homeport.cli.copying_progress import CopyProgress
from homeport.cli.output import Exit
from homeport.cli.verbs import Verbs
from homeport.client.copying import CopyReport, copy
from homeport.client.credentials import DockerConfig
from homeport.client.registries import Registries
from homeport.client.settings import ClientSettings
from homeport.client.uploads import Outcome
from homeport.oci.reference import Reference


def add(verbs: Verbs) -> None:
    """Add the verb."""
    parser = verbs.verb(
        "copy",
        "Copy an image from one registry to another: all platforms, every digest kept.",
        copy_image,
        more="SRC and DST are image names as docker takes them; without a tag it is 'latest'. Logins are those of\n"
        "`docker login`; authorities and exceptions of TLS stand in the configuration under 'client'.",
        data=False,
    )
    parser.add_argument("source", metavar="SRC", help="such as alpine:3.20 or quay.io/org/app@sha256:…")
    parser.add_argument("destination", metavar="DST", help="such as localhost:5000/mirror/alpine:3.20")
    parser.add_argument("--referrers", action="store_true", help="signatures, SBOMs and what else refers to it as well")


async def copy_image(context: Context) -> int:
    source = Reference.parse(context.arguments.source)
    destination = Reference.parse(context.arguments.destination)
    client = ClientSettings.of(context.settings().client)
    logins = DockerConfig.of_this_user(context.environ, context.clock)
    async with Registries(client, logins, context.clock) as registries:
        with CopyProgress(context.output) as progress:
            report = await copy(
                await registries.repository(source),
                source.target,
                await registries.repository(destination),
                destination.tag,
                referrers=context.arguments.referrers,
                mount_from=source.repository if source.host == destination.host else None,
                observer=progress,
            )
    context.output.result(_tell(report), f"copied {source} to {destination}: {_summary(report)}")
    for digest in report.missing:
        context.output.note(f"{digest} is named by the index and is not at the source; the copy lacks it as well")
    return Exit.DONE


def _tell(report: CopyReport) -> dict[str, object]:
    return {
        "digest": report.digest,
        "manifests_pushed": report.manifests_pushed,
        "blobs": {outcome.value: report.blobs.get(outcome, 0) for outcome in Outcome},
        "bytes_sent": report.bytes_sent,
        "missing": report.missing,
        "foreign": report.foreign,
    }


def _summary(report: CopyReport) -> str:
    sent = report.blobs.get(Outcome.SENT, 0)
    there = sum(report.blobs.values()) - sent
    return f"{report.digest}, {sent} blobs ({report.bytes_sent} bytes) sent, {there} there already"
