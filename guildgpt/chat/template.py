"""The chat template: a conversation becomes `(token_ids, loss_mask)`, the same everywhere.

ChatML, one turn: `<|im_start|>role\\ncontent<|im_end|>\\n`. Trained are the content of every
assistant turn and the `<|im_end|>` that ends it, nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from guildgpt.chat.conversation import Message
from guildgpt.chat.tokenizer import Tokenizer
from guildgpt.errors import ModelError, refuse_newer

TEMPLATE_FILE = "template.json"


class Rendered(NamedTuple):
    """Token ids and, for each, whether the loss is taken on it."""

    ids: list[int]
    mask: list[bool]


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """ChatML, as data: the names of its two control tokens and a system text to begin with.

    `system`, if given, opens every conversation that does not open with a system turn of its own.
    """

    name: str = "chatml"
    start: str = "<|im_start|>"
    end: str = "<|im_end|>"
    system: str = ""

    @property
    def control_tokens(self) -> tuple[str, str]:
        """The tokens a tokenizer must hold for this template."""
        return (self.start, self.end)

    def render(self, messages: Sequence[Message], tokenizer: Tokenizer) -> Rendered:
        """Ids and loss mask (both of shape `(tokens,)`) of a whole conversation.

        Each text is encoded on its own, so that the ids before an answer are exactly the ids of
        the prompt that asks for it (`prompt`), and no control token can come out of a text.
        """
        start, end = self._control_ids(tokenizer)
        newline = tokenizer.encode("\n")
        ids: list[int] = []
        mask: list[bool] = []
        for message in self._with_system(messages):
            header = [start, *tokenizer.encode(f"{message.role}\n")]
            content = [*tokenizer.encode(message.content), end]
            ids += header + content + newline
            trained = message.role == "assistant" and message.trained
            mask += [False] * len(header) + [trained] * len(content) + [False] * len(newline)
        return Rendered(ids, mask)

    def prompt(self, messages: Sequence[Message], tokenizer: Tokenizer) -> list[int]:
        """Ids that ask for the next assistant turn: the conversation and an open header."""
        start, _ = self._control_ids(tokenizer)
        return [
            *self.render(messages, tokenizer).ids,
            start,
            *tokenizer.encode("assistant\n"),
        ]

    def eos_id(self, tokenizer: Tokenizer) -> int:
        """The id of the end-of-turn token."""
        return self._control_ids(tokenizer)[1]

    @property
    def jinja(self) -> str:
        """The same template in the language of `apply_chat_template` and of llama.cpp."""
        system = ""
        if self.system:
            turn = json.dumps(f"{self.start}system\n{self.system}{self.end}\n", ensure_ascii=False)
            system = "{% if messages[0]['role'] != 'system' %}{{ " + turn + " }}{% endif %}"
        turns = (
            "{% for message in messages %}"
            f"{{{{ '{self.start}' + message['role'] + '\\n' + message['content']"
            f" + '{self.end}' + '\\n' }}}}"
            "{% endfor %}"
        )
        opening = (
            f"{{% if add_generation_prompt %}}{{{{ '{self.start}assistant\\n' }}}}{{% endif %}}"
        )
        return system + turns + opening

    def save(self, folder: str | Path) -> None:
        """Write `template.json` into a model folder."""
        text = json.dumps(asdict(self), indent=2, ensure_ascii=False)
        (Path(folder) / TEMPLATE_FILE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> ChatTemplate:
        """Read the template a model folder was trained with."""
        path = Path(folder) / TEMPLATE_FILE
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            refuse_newer(record, path)
            if not all(isinstance(value, str) for value in record.values()):
                raise TypeError("all its values are texts")
            return cls(**record)
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise ModelError(
                f"the chat template cannot be read ({error})",
                where=path,
                remedy="Model folders made by `guildgpt train` carry one; was it copied whole?",
            ) from error

    def _with_system(self, messages: Sequence[Message]) -> Iterator[Message]:
        if self.system and not (messages and messages[0].role == "system"):
            yield Message("system", self.system)
        yield from messages

    def _control_ids(self, tokenizer: Tokenizer) -> tuple[int, int]:
        ids = tuple(tokenizer.token_id(token) for token in self.control_tokens)
        if None in ids:
            missing = [t for t, i in zip(self.control_tokens, ids, strict=True) if i is None]
            raise ModelError(
                f"the tokenizer has no {' and no '.join(missing)}, which the chat template needs",
                remedy="Fine-tune it with `guildgpt train` first: that adds the chat tokens.",
            )
        return ids  # type: ignore[return-value]


CHATML = ChatTemplate()


def fit(rendered: Rendered, max_tokens: int, end_id: int) -> Rendered | None:
    """Shorten a rendered conversation to `max_tokens`, or None where nothing trainable is left.

    The rule: the latest turns are dropped until the rest fits and ends with a trained end of turn.
    An answer is never cut, so a row whose first answer does not fit whole is dropped.
    """
    ids, mask = rendered
    if len(ids) <= max_tokens:
        return rendered if any(mask) else None
    for index in range(min(max_tokens, len(ids)) - 1, -1, -1):
        if mask[index] and ids[index] == end_id:
            return Rendered(ids[: index + 1], mask[: index + 1])
    return None
