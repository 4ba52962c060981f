"""`homeport mirror import` and `client-config`: other tools' files in our form, and the files that nodes need."""

from __future__ import annotations

from pathlib import Path

from homeport.cli.context import Context
from homeport.cli.output import CommandError, Exit, WrongUsage, counted
from homeport.mirror import importing, nodes
from homeport.mirror.addresses import folder
from homeport.mirror.importing import ImportRefused
from homeport.mirror.nodes import AddressUnknown, Door


async def import_file(context: Context) -> int:
    path = Path(context.arguments.file)
    try:
        found = importing.read(_read(path), skopeo_target=context.arguments.target or importing.SHORT_NAME)
    except ImportRefused as refused:
        raise CommandError(f"{path} {refused}") from None
    for remark in found.lost:
        context.output.note(f"not carried over: {path}: {remark}")
    if context.output.as_json:
        told = {"form": found.form, "images": found.images, "configuration": found.configuration}
        remarks = {"lost": found.lost, "notes": found.notes}
        told |= {kind: [{"where": each.where, "text": each.text} for each in some] for kind, some in remarks.items()}
        context.output.result(told, "")
    else:
        for remark in found.notes:
            context.output.note(f"{path}: {remark}")
        context.output.line(found.text().rstrip())
        context.output.note(
            f"{path} is a file of {found.form}: {counted(found.images, 'image')}; put this into homeport.yaml"
        )
    if not found.lost:
        return Exit.DONE
    return Exit.PARTLY if found.images else Exit.FAILED


async def client_config(context: Context) -> int:
    settings, arguments = context.settings(), context.arguments
    upstreams = list(dict.fromkeys(arguments.upstream or settings.cache.upstreams))
    if not upstreams:
        raise WrongUsage("there is no upstream to ask for: name them in cache.upstreams, or here with --upstream")
    if unnamed := [each for each in upstreams if folder(each) is None]:
        raise WrongUsage(f"no repository here can be named after {', '.join(unnamed)}, so it cannot be an upstream")
    try:
        door = Door.of(settings, url=arguments.url, ca=arguments.ca)
    except AddressUnknown as unknown:
        raise WrongUsage(str(unknown)) from None
    files = list(nodes.WRITERS[arguments.which](door, upstreams))
    warnings = list(nodes.warnings(settings, door, upstreams))
    if context.output.as_json:
        listed = [{"path": file.path, "content": file.content, "notes": list(file.notes)} for file in files]
        context.output.result({"files": listed, "warnings": warnings}, "")
        return Exit.DONE
    for file in files:
        context.output.note(f"goes to {file.path} on the node")
        # Of one file, only what is in it is printed, so that it can be put there as it is.
        heading = f"# {file.path}\n" if len(files) > 1 else ""
        context.output.line(heading + file.content.rstrip())
        if file is not files[-1]:
            context.output.line()
    for text in [*warnings, *(note for file in files for note in file.notes)]:
        context.output.note(text)
    return Exit.DONE


def _read(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(importing.BYTES_MAX + 1)
    if len(data) > importing.BYTES_MAX:
        raise CommandError(f"{path} is larger than {importing.BYTES_MAX // 1024**2} MiB, so it is no file of a mirror")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise CommandError(f"{path} is not UTF-8 text") from None
