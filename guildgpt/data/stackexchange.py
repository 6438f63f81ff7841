"""Stack Exchange's dump: people's answers to people's questions, and people's votes on them.

A site's Posts.xml has a row for each question and each answer, the answers anywhere after their
question, perhaps years later. It is read twice: first for numbers alone, 24 bytes an answer (a
gigabyte for the largest site), which say what answers are to be compared; then for their texts.
"""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from guildgpt.chat import Comparison, Conversation, Message, Source
from guildgpt.data.html_text import markdown
from guildgpt.data.provenance import UNKNOWN
from guildgpt.data.rows import clean, question
from guildgpt.data.xml_rows import read_rows
from guildgpt.errors import DataError

QUESTION, ANSWER = "1", "2"
MOST = 4  # answers to one question that are compared: best, worst, and evenly between
SPARE = 1.05  # questions chosen for each that is wanted: some texts turn out empty
# What the licence is where a post does not say: by the day on which it was written (UTC).
LICENCES = (
    ("2018-05-02", "CC-BY-SA-4.0"),
    ("2011-04-08", "CC-BY-SA-3.0"),
    ("", "CC-BY-SA-2.5"),
)
NEW_TERMS = "2024-07"  # since then dumps are handed out under an agreement
MONTH = re.compile(r"\d{4}-\d{2}")
SITE = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)*\.(com|net|org)")
# Of a row's attributes, those that are read and those that hold nothing to be learned.
KNOWN = frozenset(
    {
        "Id",
        "PostTypeId",
        "ParentId",
        "AcceptedAnswerId",
        "CreationDate",
        "DeletionDate",
        "Score",
        "ViewCount",
        "Body",
        "OwnerUserId",
        "OwnerDisplayName",
        "LastEditorUserId",
        "LastEditorDisplayName",
        "LastEditDate",
        "LastActivityDate",
        "Title",
        "Tags",
        "AnswerCount",
        "CommentCount",
        "FavoriteCount",
        "ClosedDate",
        "CommunityOwnedDate",
        "ContentLicense",
    }
)

Numbers = NDArray[np.int64]


@dataclass
class Dump:
    """What a Posts.xml turned out to be, known once it is read."""

    path: Path
    licences: Counter[str] = field(default_factory=Counter)  # of the posts that were taken
    newest: str = ""  # the month of the newest date in it, such as 2024-03
    posts: int = 0

    @property
    def licence(self) -> str:
        """The latest of its posts' licences: what is made from an older one may go under it."""
        return max(self.licences, default=UNKNOWN)

    @property
    def attribution(self) -> str:
        """Whom to credit: the site's name is that of the file's folder, where it looks like one."""
        folder = self.path.expanduser().resolve().parent.name.lower()
        site = folder if SITE.fullmatch(folder) else ""
        return (
            f"questions and answers from {site or 'a site of Stack Exchange'}, copyright their "
            f"authors; post N stands with its author's name at https://{site or 'SITE'}/q/N "
            "(https://stackexchange.com)"
        )

    @property
    def note(self) -> str:
        """The dump's month, and how many posts are under which licence."""
        shares = ", ".join(f"{count:,} {name}" for name, count in sorted(self.licences.items()))
        month = self.newest or "an unknown month"
        return f"a Stack Exchange dump whose newest post is of {month}; posts taken: {shares or 0}"

    @property
    def warnings(self) -> list[str]:
        """What the operator must know of the terms under which the dump was handed out."""
        if not self.newest or self.newest < NEW_TERMS:
            return []
        return [
            f"{self.path.name}: its newest post is of {self.newest}. Dumps since July 2024 are "
            "handed out on the promise not to train a large language model on the file; the posts "
            "are under CC-BY-SA all the same. Earlier dumps carry no such promise"
        ]


def read(
    path: str | Path,
    *,
    name: str,
    skipped: Counter[str],
    unread: Counter[str],
    dump: Dump,
    limit: int | None = None,
) -> Iterator[Conversation | Comparison]:
    """For each question whose answers were voted on differently a comparison, and the best answer
    as a conversation if people thought well of it.

    The place of an answer is by its grade, log2(1 + votes) rounded, one more if the asker accepted
    it, and -1 below zero votes (Askell et al. 2021, arXiv 2112.00861, 3.3): places between two
    answers are the distance of their grades. `limit` is the number of questions.
    """
    grades, chosen = _choose(path, skipped, unread, dump, limit)
    waiting: dict[int, _Thread] = {}
    for line, row in read_rows(path, "posts"):
        kind, post = row.get("PostTypeId"), _number(row, "Id", f"{path}:{line}")
        home = post if kind == QUESTION else grades.get(post, (None, 0))[0]
        if home is None or home not in chosen:
            continue
        thread = waiting.setdefault(home, _Thread())
        text = clean(markdown(row.get("Body", "")))
        if kind == QUESTION:
            thread.asked = question(clean(row.get("Title", "")), text)
        else:
            thread.answers[post] = text
        thread.licences[_licence(row) or UNKNOWN] += 1
        if thread.asked is not None and len(thread.answers) == chosen[home]:
            source = Source(name, Path(path).name, home)
            yield from _rows(waiting.pop(home), grades, source, skipped, dump)
    if waiting:
        skipped["its question is not in the file"] += len(waiting)


@dataclass
class _Thread:
    """A question and its chosen answers, as far as they were met."""

    asked: str | None = None
    answers: dict[int, str] = field(default_factory=dict)
    licences: Counter[str] = field(default_factory=Counter)


def _rows(
    thread: _Thread,
    grades: Mapping[int, tuple[int, int]],
    source: Source,
    skipped: Counter[str],
    dump: Dump,
) -> Iterator[Conversation | Comparison]:
    """What can be learned from a question that is whole."""
    if not thread.asked:
        skipped["empty prompt"] += 1
        return
    if UNKNOWN in thread.licences:
        skipped["under a licence that is not known"] += 1
        return
    answers = [(grades[post][1], post, text) for post, text in thread.answers.items() if text]
    if empty := len(thread.answers) - len(answers):
        skipped["empty answer"] += empty
    answers.sort(key=lambda one: (-one[0], one[1]))
    if len({grade for grade, _, _ in answers}) < 2:
        skipped["fewer than two answers with different votes"] += 1
        return
    dump.licences += thread.licences
    asked = (Message("user", thread.asked),)
    best = answers[0][0]
    if best >= 1:
        yield Conversation((*asked, Message("assistant", answers[0][2])), source)
    yield Comparison(
        prompt=asked,
        answers=tuple(Message("assistant", text) for _, _, text in answers),
        ranks=tuple(best - grade for grade, _, _ in answers),
        source=source,
    )


def _choose(
    path: str | Path,
    skipped: Counter[str],
    unread: Counter[str],
    dump: Dump,
    limit: int | None,
) -> tuple[dict[int, tuple[int, int]], dict[int, int]]:
    """The question and the grade of each answer that is to be compared, and how many answers of
    each question are."""
    posts, parents, votes, accepted = (array("q") for _ in range(4))
    for line, row in read_rows(path, "posts"):
        where = f"{path}:{line}"
        dump.posts += 1
        dates = [row.get(key, "") for key in ("CreationDate", "LastActivityDate")]
        dump.newest = max(dump.newest, *(date[:7] for date in dates if MONTH.match(date)), "")
        unread.update(key for key, value in row.items() if key not in KNOWN and value.strip())
        post = _number(row, "Id", where)
        if row.get("PostTypeId") == QUESTION:
            if row.get("AcceptedAnswerId"):
                accepted.append(_number(row, "AcceptedAnswerId", where))
        elif row.get("PostTypeId") == ANSWER:
            posts.append(post)
            parents.append(_number(row, "ParentId", where))
            votes.append(_number(row, "Score", where))
        elif "PostTypeId" not in row:
            raise DataError(
                f"the row has no `PostTypeId`, only {', '.join(row)}",
                where=where,
                remedy="Posts have Id, PostTypeId, Score and Body; is this a dump's Posts.xml?",
            )
        else:
            skipped["neither a question nor an answer"] += 1
    ids, homes, scores = (np.array(one, np.int64) for one in (posts, parents, votes))
    grade = np.where(scores < 0, -1, np.rint(np.log2(1 + np.maximum(scores, 0)))).astype(np.int64)
    grade += np.isin(ids, np.array(accepted, np.int64))
    return _compared(ids, homes, grade, skipped, limit)


def _compared(
    ids: Numbers, homes: Numbers, grade: Numbers, skipped: Counter[str], limit: int | None
) -> tuple[dict[int, tuple[int, int]], dict[int, int]]:
    """The answers that are to be compared, of the first questions: best, worst, and between."""
    order = np.lexsort((ids, -grade, homes))
    ids, homes, grade = ids[order], homes[order], grade[order]
    firsts = np.flatnonzero(np.diff(homes, prepend=homes[:1] - 1)) if len(homes) else homes
    found: dict[int, tuple[int, int]] = {}
    chosen: dict[int, int] = {}
    most = None if limit is None else int(limit * SPARE) + 1
    for first, end in zip(firsts, [*firsts[1:], len(homes)], strict=True):
        if grade[first] == grade[end - 1]:
            skipped["fewer than two answers with different votes"] += 1
            continue
        if most is not None and len(chosen) >= most:
            skipped["over the limit"] += 1
            continue
        places = np.unique(np.linspace(first, end - 1, min(MOST, end - first)).round().astype(int))
        if more := int(end - first) - len(places):
            skipped["over four answers to one question"] += more
        home = int(homes[first])
        chosen[home] = len(places)
        found.update({int(ids[place]): (home, int(grade[place])) for place in places})
    return found, chosen


def _licence(row: Mapping[str, str]) -> str | None:
    """A post's licence, as an SPDX id; None for one that is not Stack Exchange's."""
    said = row.get("ContentLicense", "").strip().upper().replace(" ", "-")
    if said:
        return said if said in {spdx for _, spdx in LICENCES} else None
    written = row.get("CreationDate", "")
    if not MONTH.match(written):
        return None
    return next(spdx for since, spdx in LICENCES if written >= since)


def _number(row: Mapping[str, str], key: str, where: str) -> int:
    """A whole number of 64 bits; DataError where it is none."""
    text = row.get(key)
    try:
        value = int(text or "")
    except ValueError:
        value = 1 << 63
    if abs(value) >= 1 << 63:
        raise DataError(
            f"the row has no `{key}`" if text is None else f"`{key}` is {text!r}, no whole number",
            where=where,
            remedy="Posts have Id, PostTypeId, Score and Body, answers a ParentId; is this a "
            "dump's Posts.xml?",
        )
    return value
