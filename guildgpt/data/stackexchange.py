"""Stack Exchange's dump: people's answers to people's questions, and people's votes on them.

A site's Posts.xml has a row for each question and each answer, the answers anywhere after their
question, perhaps years later. It is read twice: first for numbers alone, 24 bytes a post (1.5
gigabytes for the largest site), which say what answers are to be compared; then for their texts.
With a limit it is read for texts once more, of twice as many questions, while too few were usable.
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
NONE = -(1 << 63)  # no post's number
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
    answers = _compared(*_numbers(path, skipped, unread, dump), skipped)
    wanted = len(answers.firsts) if limit is None else limit
    start, end = 0, int(wanted * SPARE) + 1
    over = len(answers.firsts)
    while wanted and start < len(answers.firsts):
        for rows in _taken(path, name, answers, slice(start, end), skipped, dump):
            over -= 1
            wanted -= bool(rows)
            yield from rows
            if not wanted:
                break
        start, end = end, end + 2 * (end - start)
    _count(skipped, "over the limit", over)


def _taken(
    path: str | Path,
    name: str,
    answers: _Answers,
    part: slice,
    skipped: Counter[str],
    dump: Dump,
) -> Iterator[list[Conversation | Comparison]]:
    """What can be learned from each question of a part, in the order in which they are whole."""
    grades, chosen = _choose(answers, part, skipped)
    waiting: dict[int, _Thread] = {}
    for line, row in read_rows(path, "posts"):
        kind, post = row.get("PostTypeId"), _number(row, "Id", f"{path}:{line}")
        home = post if kind == QUESTION else grades.get(post, (NONE, 0))[0]
        if home not in chosen or kind not in (QUESTION, ANSWER) or row.get("DeletionDate"):
            continue
        thread = waiting.setdefault(home, _Thread())
        if post in thread.answers or (kind == QUESTION and thread.asked is not None):
            continue
        text = clean(markdown(row.get("Body", "")))
        if kind == QUESTION:
            thread.asked = question(clean(row.get("Title", "")), text)
        else:
            thread.answers[post] = text
        thread.licences[_licence(row) or UNKNOWN] += 1
        if thread.asked is not None and len(thread.answers) == chosen[home]:
            del chosen[home]
            source = Source(name, Path(path).name, home)
            yield list(_rows(waiting.pop(home), grades, source, skipped, dump))


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


def _numbers(
    path: str | Path, skipped: Counter[str], unread: Counter[str], dump: Dump
) -> tuple[Numbers, Numbers, Numbers, Numbers]:
    """Of each question and answer its Id; the Id of its question, NONE for a question; the votes
    for an answer, the accepted answer of a question. Then the Ids of what was deleted."""
    posts, homes, values, deleted = (array("q") for _ in range(4))
    for line, row in read_rows(path, "posts"):
        where = f"{path}:{line}"
        dump.posts += 1
        dates = [row.get(key, "") for key in ("CreationDate", "LastActivityDate")]
        dump.newest = max(dump.newest, *(date[:7] for date in dates if MONTH.match(date)), "")
        unread.update(key for key, value in row.items() if key not in KNOWN and value.strip())
        post = _number(row, "Id", where)
        home = value = NONE
        if row.get("PostTypeId") == QUESTION:
            if row.get("AcceptedAnswerId"):
                value = _number(row, "AcceptedAnswerId", where)
        elif row.get("PostTypeId") == ANSWER:
            home, value = _number(row, "ParentId", where), _number(row, "Score", where)
        elif "PostTypeId" not in row:
            raise DataError(
                f"the row has no `PostTypeId`, only {', '.join(row)}",
                where=where,
                remedy="Posts have Id, PostTypeId, Score and Body; is this a dump's Posts.xml?",
            )
        else:
            skipped["neither a question nor an answer"] += 1
            continue
        if row.get("DeletionDate"):
            deleted.append(post)
            continue
        posts.append(post)
        homes.append(home)
        values.append(value)
    _count(skipped, "deleted", len(deleted))
    ids, parents, numbers, gone = (
        np.asarray(one, np.int64) for one in (posts, homes, values, deleted)
    )
    return ids, parents, numbers, gone


@dataclass(frozen=True)
class _Answers:
    """Answers by question, the best first, and of each question that is worth asking where its
    answers begin and end."""

    ids: Numbers
    homes: Numbers
    grades: Numbers
    firsts: Numbers
    ends: Numbers


def _compared(
    ids: Numbers, homes: Numbers, values: Numbers, deleted: Numbers, skipped: Counter[str]
) -> _Answers:
    """The answers with their grades, of each Id its first row, and the questions whose answers
    differ in them."""
    first = np.sort(np.unique(ids, return_index=True)[1])
    _count(skipped, "has the Id of an earlier post", len(ids) - len(first))
    ids, homes, values = ids[first], homes[first], values[first]
    asked = homes == NONE
    questions, accepted = ids[asked], values[asked]
    ids, homes, votes = ids[~asked], homes[~asked], values[~asked]
    grades = np.where(votes < 0, -1, np.rint(np.log2(1.0 + np.maximum(votes, 0)))).astype(np.int64)
    grades += np.isin(ids, accepted)
    order = np.lexsort((ids, -grades, homes))
    ids, homes, grades = ids[order], homes[order], grades[order]
    answered, firsts, counts = np.unique(homes, return_index=True, return_counts=True)
    ends = firsts + counts
    differ = grades[firsts] != grades[ends - 1]
    here = np.isin(answered, questions)
    gone = ~here & np.isin(answered, deleted)
    same = np.isin(questions, answered, invert=True).sum() + (~differ).sum()
    _count(skipped, "fewer than two answers with different votes", same)
    _count(skipped, "its question was deleted", (differ & gone).sum())
    _count(skipped, "its question is not in the file", (differ & ~here & ~gone).sum())
    return _Answers(ids, homes, grades, firsts[differ & here], ends[differ & here])


def _choose(
    answers: _Answers, part: slice, skipped: Counter[str]
) -> tuple[dict[int, tuple[int, int]], dict[int, int]]:
    """Of a part of the questions the answers that are to be compared, best, worst and between:
    the question and the grade of each, and how many answers of each question are."""
    found: dict[int, tuple[int, int]] = {}
    chosen: dict[int, int] = {}
    for first, end in zip(answers.firsts[part], answers.ends[part], strict=True):
        places = np.unique(np.linspace(first, end - 1, min(MOST, end - first)).round().astype(int))
        _count(skipped, "over four answers to one question", end - first - len(places))
        home = int(answers.homes[first])
        chosen[home] = len(places)
        found.update(
            {int(answers.ids[place]): (home, int(answers.grades[place])) for place in places}
        )
    return found, chosen


def _count(skipped: Counter[str], reason: str, number: int | np.integer) -> None:
    """Left out for a reason, unless there is none."""
    if number:
        skipped[reason] += int(number)


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
