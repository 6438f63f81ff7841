"""Prompts for the pool: from a file, from Open-Assistant's held-out trees, from the starter pack.

What decides between two models is asked of both, so that neither may have learned its answer by
heart. Of Open-Assistant only those trees are taken that every bundled recipe holds out. Which they
are follows from their first question alone (`data/split.py`), at whatever share a recipe holds out:
what 0.05 holds out is held out by every larger share, too.
"""

from __future__ import annotations

from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from guildgpt.data.documents import read_documents
from guildgpt.data.files import NAMED, read_records, require_file
from guildgpt.data.known import KINDS
from guildgpt.data.packed import head
from guildgpt.data.provenance import NO_CREDIT, Provenance, refusal, spdx
from guildgpt.data.rows import clean, text_of
from guildgpt.data.source import load
from guildgpt.data.spec import SourceSpec
from guildgpt.data.split import normalised, split_side
from guildgpt.data.starter import pool_prompts, starter_prompts
from guildgpt.errors import DataError
from guildgpt.feedback.voting.prompts import NewPrompt, sha256_of
from guildgpt.text.words import WordMatcher, built_in_words

if TYPE_CHECKING:
    from guildgpt.feedback.store import Store

LONGEST = 300  # characters; two answers to a longer one are a page to read
HELD_OUT = 0.05  # the smallest share that a bundled recipe holds out
OASST_CREDIT = "OpenAssistant contributors"


@dataclass(slots=True)
class Found:
    """The prompts that a source has for the pool, and how many were left out for which reason."""

    prompts: list[NewPrompt] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Reading:
    """How a source is read. `licence`, `credit` and `lang` hold where its rows say nothing.

    `held_out` is the share of Open-Assistant's trees that no model was trained on; 1 takes all.
    """

    licence: str = ""
    credit: str = ""
    lang: str = "en"
    limit: int | None = None
    held_out: float = HELD_OUT
    cache_dir: Path | None = None  # of the Hub's client; its own where they are not given
    endpoint: str | None = None


def read(source: str, how: Reading | None = None) -> Found:
    """The prompts of `starter`, of `oasst1`, `oasst2` or `oasst:PATH`, or of a file.

    Left out are those that are empty, too long, in moderation's word lists, there twice, under a
    licence that forbids what they are for, or that a bundled recipe trains on. Raises DataError
    for a file that cannot be read, or that does not say under which licence its prompts stand.
    """
    how = how or Reading()
    if source == "starter":
        return Found(starter_pool())
    kind = KINDS.get(source.partition(":")[0])
    if kind and kind.reader != "oasst":
        raise DataError(
            f"`{source}` has no prompts for the pool: models are trained on it",
            remedy="Name a file, `oasst1`, `oasst2`, `oasst:PATH` or `starter`.",
        )
    found = Found()
    new = _of_trees(source, how, found.left_out) if kind else _of_file(Path(source), how)
    for prompt in _usable(new, found.left_out):
        if how.limit is not None and len(found.prompts) >= how.limit:
            found.left_out["over the limit"] += 1
        else:
            found.prompts.append(prompt)
    return found


def of_texts(texts: Iterable[str], source: str, how: Reading) -> Found:
    """The prompts that somebody wrote, all under one licence. Raises DataError where nothing says
    which, or whom it wants to be named."""
    licence, credit = _rights(how.licence, how.credit, source)
    found = Found()
    new = (NewPrompt(clean(text), source, licence, credit, how.lang) for text in texts)
    found.prompts += _usable((one for one in new if one.text), found.left_out)
    return found


def starter_pool() -> list[NewPrompt]:
    """The starter pack's prompts that no training row asks."""
    licence = KINDS["starter"].licence
    prompts = starter_prompts() + pool_prompts()
    return [NewPrompt(one.prompt, "starter", licence, lang="en") for one in prompts]


async def fill_if_empty(store: Store) -> int:
    """Put the starter pack's prompts into a pool that has none; how many came in."""
    if await store.prompts.all():
        return 0
    added = await store.prompts.add(starter_pool())
    return added["train"] + added["decide"]


def _of_trees(source: str, how: Reading, left_out: Counter[str]) -> Iterator[NewPrompt]:
    """The first turns of reviewed trees in one language, of those that are held out."""
    loaded = load(
        SourceSpec(source=source, lang=[how.lang]), cache_dir=how.cache_dir, endpoint=how.endpoint
    )
    name = "@".join(part for part in (loaded.name, loaded.provenance.revision[:12]) if part)
    credit = how.credit or OASST_CREDIT
    for tree in loaded.conversations:
        if how.held_out < 1 and split_side(tree, how.held_out) == "train":
            left_out["a bundled recipe trains on it"] += 1
            continue
        yield NewPrompt(tree.messages[0].content, name, loaded.provenance.licence, credit, how.lang)


def _of_file(path: Path, how: Reading) -> Iterator[NewPrompt]:
    """A prompt for each row of a file of rows, or each line of plain text."""
    path = require_file(path)
    if NAMED.search(path.name) or head(path).removeprefix(BOM_UTF8).lstrip()[:1] in (b"{", b"["):
        yield from (_of_row(row, f"{path}:{number}", how) for number, row in read_records(path))
        return
    licence, credit = _rights(how.licence, how.credit, str(path))
    for line in read_documents([path])[0].text.splitlines():
        yield NewPrompt(clean(line), path.name, licence, credit, how.lang)


def _of_row(row: dict[str, object], where: str, how: Reading) -> NewPrompt:
    named = next((key for key in ("prompt", "text") if row.get(key) is not None), None)
    if named is None:
        raise DataError(
            f"the row has neither `prompt` nor `text` but {', '.join(row) or 'nothing'}",
            where=where,
            remedy='Write each prompt as {"prompt": "…", "licence": "…", "credit": "…"}.',
        )
    said = {key: text_of(row, key, where) for key in ("licence", "credit", "lang")}
    licence, credit = _rights(said["licence"] or how.licence, said["credit"] or how.credit, where)
    file = Path(where.rpartition(":")[0]).name
    return NewPrompt(text_of(row, named, where), file, licence, credit, said["lang"] or how.lang)


def _rights(licence: str, credit: str, where: str) -> tuple[str, str]:
    """The licence by its usual name, and whom it wants to be named; DataError if one is missing."""
    if not licence:
        raise DataError(
            "nothing says under which licence these prompts stand",
            where=where,
            remedy="Give --licence, as an SPDX id such as CC-BY-4.0; `own` if you wrote them.",
        )
    if not credit and spdx(licence) not in NO_CREDIT:
        raise DataError(
            f"{spdx(licence)} wants the authors to be named, and nothing says who they are",
            where=where,
            remedy="Give --credit, or a `credit` in each row.",
        )
    return spdx(licence), credit


def _usable(new: Iterable[NewPrompt], left_out: Counter[str]) -> Iterator[NewPrompt]:
    """Those that may be asked; the rest is counted by reason."""
    words = WordMatcher(word for words in built_in_words().values() for word in words)
    trained_on = _starter_questions()
    seen: set[str] = set()
    for prompt in new:
        sha256 = sha256_of(prompt.text)
        terms = Provenance("", licence=prompt.licence, written_by="people")
        faults = {
            "empty": not prompt.text,
            f"over {LONGEST} characters": len(prompt.text) > LONGEST,
            "there twice": sha256 in seen,
            "in moderation's word lists": words.finds(prompt.text),
            f"the licence {prompt.licence}": refusal(terms) is not None,
            "a bundled recipe trains on it": normalised(prompt.text) in trained_on,
        }
        if fault := next((fault for fault, holds in faults.items() if holds), None):
            left_out[fault] += 1
            continue
        seen.add(sha256)
        yield prompt


def _starter_questions() -> frozenset[str]:
    """What the starter pack's rows ask."""
    loaded = load(SourceSpec(source="starter"))
    asked = [row.messages for row in loaded.conversations]
    asked += [row.messages for row in loaded.comparisons]
    return frozenset(normalised(messages[0].content) for messages in asked)
