"""Tags that say in their name which manifest they belong to: cosign's, and the fallback of the referrers API.

Pure. Holds: such a tag keeps nothing by itself; what is under it lives and dies with the manifest that it names.
Sources: cosign, specs/SIGNATURE_SPEC.md; distribution-spec, "Referrers Tag Schema".
"""

from __future__ import annotations

import re

_TAG = re.compile(r"(sha256|sha512)-([0-9a-f]{64})(?:\.sig|\.att|\.sbom)?")

#: How much of a longer digest fits into such a tag, with its algorithm: `sha512:` and 64 digits.
SUBJECT_CHARACTERS = 7 + 64


def subject(tag: str) -> str | None:
    """The digest that the tag names, of sha512 its beginning; None for any other tag."""
    found = _TAG.fullmatch(tag)
    return f"{found[1]}:{found[2]}" if found else None
