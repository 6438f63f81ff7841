"""Where every row and every base came from, and which of them a strict run may use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from guildgpt.errors import DataError, PolicyError

WrittenBy = Literal["people", "own model", "model", "mixed", "unknown"]
# "own model": by versions of the model that learns from it, which people then judged.
Policy = Literal["strict", "open"]

UNKNOWN = "unknown"
OWN = "own"  # the operator's own text, for which no licence is needed

# SPDX ids (https://spdx.org/licenses) of licences that let anyone train on a work, change it and
# pass the result on, commercially too. Anything else is refused by the strict policy.
PERMISSIVE = frozenset(
    {
        "0BSD",
        "AFL-3.0",
        "Apache-2.0",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "BSL-1.0",
        "CC-BY-2.0",
        "CC-BY-2.5",
        "CC-BY-3.0",
        "CC-BY-4.0",
        "CDLA-Permissive-1.0",
        "CDLA-Permissive-2.0",
        "etalab-2.0",
        "ISC",
        "MIT",
        "MIT-0",
        "ODC-By-1.0",
        "OGL-UK-3.0",
        "Zlib",
    }
)
# … and of those that ask for the same of whatever is made from it.
SHARE_ALIKE = frozenset(
    {
        "CC-BY-SA-2.0",
        "CC-BY-SA-2.5",
        "CC-BY-SA-3.0",
        "CC-BY-SA-4.0",
        "CDLA-Sharing-1.0",
        "GFDL-1.3-only",
        "GFDL-1.3-or-later",
        "ODbL-1.0",
    }
)
PUBLIC_DOMAIN = frozenset({"CC0-1.0", "CC-PDDC", "PDDL-1.0", "Unlicense"})

# Licences that ask for no credit, so that the model card need not give any.
NO_CREDIT = PUBLIC_DOMAIN | {"0BSD", "MIT-0", OWN}

_CANONICAL = {spdx.lower(): spdx for spdx in PERMISSIVE | SHARE_ALIKE | PUBLIC_DOMAIN | {OWN}}

WRITTEN_BY_A_MODEL = {
    "model": "Its text was written by a model.",
    "mixed": "Its text was partly written by a model.",
}
REMEDY = (
    'Set `policy = "open"` in the recipe to be warned instead; or, for a file of your own, say '
    '`licence = "own"` (or the id of its licence) and `written_by = "people"` in its source.'
)
OF_A_BASE = " Of a base say `model.licence`, if you know it."


@dataclass(frozen=True, slots=True)
class Provenance:
    """One data source or base, as `provenance.json` in the model folder records it."""

    name: str
    kind: Literal["data", "base"] = "data"
    licence: str = UNKNOWN  # an SPDX id, "own" or "unknown"
    origin: str = ""  # a URL, a Hub id, or a file's name (never an absolute path)
    revision: str = ""  # the commit, if the origin has any
    sha256: str = ""  # of the file as it lies on disk, 64 hexadecimal digits
    rows: int = 0  # conversations, comparisons and tasks taken from it
    written_by: WrittenBy = "unknown"
    attribution: str = ""  # whom to credit, and how
    note: str = ""
    held_out: float | None = None  # the share of its rows that was not trained on, if known

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Provenance:
        """From plain values, as `asdict` gives them; an unknown or missing key is a DataError."""
        try:
            return cls(**value)
        except TypeError as error:
            raise DataError(
                f"this is no provenance record ({error})",
                where="provenance.json",
                remedy="It was written by another version, or edited by hand.",
            ) from error


def spdx(licence: str) -> str:
    """The licence's SPDX id in its usual spelling, or the text itself where it is not known."""
    return _CANONICAL.get(licence.strip().lower(), licence.strip())


def refusal(item: Provenance) -> str | None:
    """Why the strict policy refuses this item, in one sentence; None if it takes it.

    A base answers for its licence and for what it is known to have been tuned on; the authors of
    everything in a base's pretraining text nobody knows, so "unknown" is held against data only.
    """
    licence = spdx(item.licence)
    nobody_says = item.written_by == "unknown" and item.kind == "data"
    if not licence or licence.lower() == UNKNOWN:
        return f"Its licence is unknown{', and so is who wrote its text' * nobody_says}."
    if licence not in _CANONICAL.values():
        terms = f"-{licence.lower()}-"
        if "-nc-" in terms:
            return f"Its licence, {licence}, forbids commercial use."
        if "-nd-" in terms:
            return f"Its licence, {licence}, forbids adaptations, and a trained model may be one."
        return f"Its licence, {licence}, is not among those known to be permissive or share-alike."
    if nobody_says:
        return "Nobody says who wrote its text, people or a model."
    return WRITTEN_BY_A_MODEL.get(item.written_by)


def _lacks_licence(item: Provenance) -> bool:
    return item.kind == "base" and item.licence.lower() in ("", UNKNOWN)


def check(policy: Policy, items: Sequence[Provenance]) -> list[str]:
    """Warnings under `open`; under `strict` one PolicyError that names every refused item.

    What a base learned from before and now learns from again counts once.
    """
    items = list({(one.name, one.origin, refusal(one)): one for one in items}.values())
    refused = [
        f"{item.name} ({item.origin}): {why}" if item.origin else f"{item.name}: {why}"
        for item in items
        if (why := refusal(item))
    ]
    if refused and policy == "strict":
        count = f"{len(refused)} of {len(items)}" if len(items) > 1 else "the only"
        raise PolicyError(
            f"the strict policy refuses {count} source{'s' if len(items) > 1 else ''}\n"
            + "\n".join(f"  - {line}" for line in refused),
            remedy=REMEDY + OF_A_BASE * any(map(_lacks_licence, items)),
        )
    return refused


def attributions(items: Sequence[Provenance]) -> str:
    """Markdown for the model card: the credit that the items' licences ask for, one line each."""
    lines = []
    for item in items:
        licence = spdx(item.licence)
        if licence in NO_CREDIT and not item.attribution:
            continue
        line = f"- **{item.name}**: {item.attribution or item.origin or 'author unknown'}"
        line = f"{line.rstrip('.')}. Licence: {_link(licence)}."
        if licence in SHARE_ALIKE:
            line += " Share-alike: what is adapted from it goes under the same licence."
        if line not in lines:  # what was learned from twice is credited once
            lines.append(line)
    return "\n".join(lines)


def _link(licence: str) -> str:
    """The licence as a link to its text where SPDX has one."""
    if licence in _CANONICAL.values() and licence != OWN:
        return f"[{licence}](https://spdx.org/licenses/{licence}.html)"
    return {OWN: "the operator's own text"}.get(licence, licence)
