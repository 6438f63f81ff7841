"""A chat template that was read, held against whoever wrote it: the same ids on conversations of
every kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from guildgpt.chat.conversation import Message
from guildgpt.chat.template import ChatTemplate
from guildgpt.chat.template_pieces import NotExpressed
from guildgpt.chat.tokenizer import Tokenizer

SAID = (
    "Hello",
    "What is TLS? It encrypts what travels.",
    "  two spaces first, and last  ",
    "\n\na line break first, and last\n",
    "naïve café, 日本語, Привет, 🎉👩‍💻",
    "def greet(name):\n    print(f'hello, {name}')  # 1024\n\n\ngreet(\"x\")",
    "\ttabs\tand  double   spaces",
    "(brackets), {{ braces }} {% if %} \\n 'quotes' & <tags>",
    "1, 22, 333 and 4444.5",
    "a",
)


def samples(template: ChatTemplate) -> Iterator[list[Message]]:
    """Conversations of one and several turns, with a system text and without."""
    for place, said in enumerate(SAID):
        other = SAID[place - 1]
        # Where a prompt ends in text, an answer that begins with whitespace would be joined to it.
        answers = said.lstrip(), other.lstrip()
        turns = [
            Message("user", said),
            Message("assistant", answers[0]),
            Message("user", other),
            Message("assistant", answers[1]),
        ]
        for length in range(1, len(turns) + 1):
            yield turns[:length]
            yield [Message("system", SAID[place - 2]), *turns[:length]]
        if template.later_system:
            yield [*turns[:2], Message("system", SAID[place - 2]), *turns[2:]]


def proven(template: ChatTemplate, prove: Callable[[ChatTemplate], None]) -> ChatTemplate:
    """A template that `prove` lets pass: the one given, or, where that does not, with system texts
    folded; NotExpressed where neither does."""
    try:
        prove(template)
    except NotExpressed:
        if template.system_turn is None:
            raise
        template = replace(template, system_turn=None, later_system=None, after_system=None)
        prove(template)
    return template


def prove_ids(
    template: ChatTemplate,
    tokenizer: Tokenizer,
    theirs: Callable[[Sequence[Message], bool], list[int]],
) -> None:
    """NotExpressed unless `theirs` gives our ids on all sample conversations, with what asks for an
    answer and without."""
    for messages in samples(template):
        ours = {False: template.render(messages, tokenizer).ids}
        if messages[-1].role == "user":
            ours[True] = template.prompt(messages, tokenizer)
            if template.last is not None:  # a text after the last answer, which there is none of
                del ours[False]
        for asks, ids in ours.items():
            try:
                found = theirs(messages, asks)
            except Exception as error:  # a template raises what it likes
                raise NotExpressed(f"it refuses a sample conversation: {error}") from error
            if ids != found:
                place = next(
                    (
                        i
                        for i, pair in enumerate(zip(ids, found, strict=False))
                        if len(set(pair)) > 1
                    ),
                    min(len(ids), len(found)),
                )
                raise NotExpressed(
                    f"the ids of a sample of {len(messages)} messages differ from place {place} on"
                )
