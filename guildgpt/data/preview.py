"""See what a model will learn: examples with the trained tokens marked, and every row checked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import NamedTuple

from rich.console import Console
from rich.text import Text

from guildgpt.chat import ChatTemplate, Conversation, Rendered, Source, Tokenizer
from guildgpt.chat.template import fit
from guildgpt.data.checking import check_row
from guildgpt.text.visible import pictured

TRAINED, UNTRAINED = "green", "dim"
OPEN, CLOSE = "⟦", "⟧"  # around trained text where there is no colour


class Segment(NamedTuple):
    """A stretch of tokens that are all trained or all not; a control token stands alone."""

    text: str
    trained: bool
    control: bool


@dataclass(frozen=True, slots=True)
class Statistics:
    """Sizes in tokens of the rows as they will be trained on."""

    rows: int
    dropped: int  # rows of which nothing trainable fits into `max_tokens`, not counted below
    tokens: int
    trained_tokens: int
    longest: int
    longest_row: str  # its file and line

    def __str__(self) -> str:
        share = self.trained_tokens / self.tokens if self.tokens else 0.0
        parts = [
            f"{self.rows:,} row{'s' * (self.rows != 1)}",
            f"{self.tokens:,} tokens, {self.trained_tokens:,} of them trained ({share:.0%})",
            f"the longest row {self.longest:,} ({self.longest_row})",
        ]
        if self.dropped:
            parts.append(f"{self.dropped:,} rows too long to train on")
        return "; ".join(parts)


def preview(
    conversations: Sequence[Conversation],
    tokenizer: Tokenizer,
    template: ChatTemplate,
    console: Console,
    *,
    count: int = 3,
    max_tokens: int | None = None,
) -> None:
    """Print the first `count` conversations as the model sees them, trained tokens marked.

    `max_tokens` shortens them as training will. Where the console has no colour, trained spans
    stand between ⟦ and ⟧.
    """
    coloured = is_coloured(console)
    console.print(_legend(coloured), soft_wrap=True)
    end_id = template.eos_id(tokenizer)
    for conversation in islice(conversations, count):
        lessons = template.lessons(conversation.messages, tokenizer)
        rendered = lessons[-1].rendered
        title = (
            f"{conversation.source} · {len(rendered.ids):,} tokens, {sum(rendered.mask):,} trained"
        )
        if len(lessons) > 1:
            title += f" · the last of {len(lessons)}: each answer is learned in a row of its own"
        shown = fit(rendered, max_tokens, end_id) if max_tokens is not None else rendered
        if shown is None:
            title += f" · left out: no answer of it fits into {max_tokens:,} tokens"
        elif len(shown.ids) < len(rendered.ids):
            title += f" · cut to {len(shown.ids):,}"
        console.print()
        console.print(Text(pictured(title), style="bold"), soft_wrap=True)
        if shown is not None:
            console.print(_marked(segments(shown, tokenizer, template), coloured), soft_wrap=True)


def is_coloured(console: Console) -> bool:
    """Whether what is printed can be told apart by its colour."""
    return console.color_system is not None and not console.no_color


def segments(rendered: Rendered, tokenizer: Tokenizer, template: ChatTemplate) -> Iterator[Segment]:
    """The text of a rendered conversation, cut where training begins or ends.

    Runs of tokens are decoded together, since one character may be spread over several of them.
    """
    names = {tokenizer.token_id(name): name for name in template.control_tokens}
    tokens = zip(rendered.ids, rendered.mask, strict=True)
    for (trained, control), run in groupby(tokens, key=lambda t: (t[1], t[0] in names)):
        ids = [token for token, _ in run]
        if control:
            yield from (Segment(names[token], trained, True) for token in ids)
        else:
            yield Segment(tokenizer.decode(ids), trained, False)


def check_trainable(
    conversations: Sequence[Conversation],
    tokenizer: Tokenizer,
    template: ChatTemplate,
    *,
    max_tokens: int | None = None,
) -> Statistics:
    """Render every conversation and return the sizes, in tokens.

    DataError, with file and row, for the first one that trains nothing, or whose last trained
    token is not the end of turn, so that the model would never learn to stop, or whose answer
    breaks a constraint of its own. With `max_tokens`
    the sizes are those after shortening, and rows that do not fit are counted, not refused.
    """
    end_id = template.eos_id(tokenizer)
    sizes: list[tuple[int, int, Source]] = []  # tokens, trained tokens
    dropped = 0
    for conversation in conversations:
        fitting = 0
        for rendered, _ in template.lessons(conversation.messages, tokenizer):
            check_row(rendered, end_id, conversation)
            shown = fit(rendered, max_tokens, end_id) if max_tokens is not None else rendered
            if shown is not None:
                sizes.append((len(shown.ids), sum(shown.mask), conversation.source))
                fitting += 1
        dropped += not fitting
    longest, _, longest_row = max(sizes, key=lambda size: size[0], default=(0, 0, ""))
    return Statistics(
        rows=len(conversations),
        dropped=dropped,
        tokens=sum(tokens for tokens, _, _ in sizes),
        trained_tokens=sum(trained for _, trained, _ in sizes),
        longest=longest,
        longest_row=str(longest_row),
    )


def _legend(coloured: bool) -> Text:
    if not coloured:
        return Text(f"{OPEN}trained{CLOSE}, the rest is only read; <|…|> are control tokens")
    return Text.assemble(
        ("trained", TRAINED), ", ", ("only read", UNTRAINED), ", <|…|> are control tokens"
    )


def _marked(parts: Iterator[Segment], coloured: bool) -> Text:
    text = Text()
    for trained, run in groupby(parts, key=lambda segment: segment.trained):
        if trained and not coloured:
            text.append(OPEN)
        for segment in run:
            style = TRAINED if trained else UNTRAINED
            style += " bold" if segment.control and trained else ""
            text.append(pictured(segment.text), style=style if coloured else "")
        if trained and not coloured:
            text.append(CLOSE)
    return text
