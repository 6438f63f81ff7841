"""A model opened to be measured: as a chat, by its template, or as it continues plain text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

from guildgpt.bases.base import context_limit, load_base, load_tokenizer, read_model
from guildgpt.bases.config import BaseConfig
from guildgpt.bases.locate import locate_base
from guildgpt.chat import ChatTemplate, Message
from guildgpt.chat.tokenizer import FileTokenizer
from guildgpt.errors import GuildError, ModelError
from guildgpt.model.adapter import merge
from guildgpt.model.chat_tokenizer import ChatTokenizer
from guildgpt.model.quiet import quiet
from guildgpt.model.special_tokens import special_tokens
from guildgpt.network.reward_model import REWARD_FILE
from guildgpt.network.sampler import Sampled, Sampling, sample
from guildgpt.network.trunk import Trunk, trunk_for
from guildgpt.network.world import World

PLACES = 16_384  # tokens that a batch of answers has room for
HOLDS = 2048  # tokens, of a model that does not say how many it holds


@dataclass(frozen=True)
class Opened:
    """A model, and how text becomes ids for it."""

    trunk: Trunk
    template: ChatTemplate | None  # None: it continues plain text
    tokenizer: FileTokenizer
    opening: tuple[int, ...]  # what the model's own tokenizer puts before every text
    begin: int  # what stands before a text that nothing stands before
    ends: frozenset[int]  # what ends an answer
    holds: int  # tokens

    @property
    def chat(self) -> bool:
        """Whether it is asked by its chat template."""
        return self.template is not None

    def plain(self, text: str) -> list[int]:
        """The ids of a text from its beginning; control tokens in it stay text."""
        return [*self.opening, *self.tokenizer.encode(text)]

    def asking(self, messages: Sequence[Message]) -> list[int]:
        """The ids that ask for an answer, of a model that is opened as a chat."""
        assert self.template is not None
        return self.template.prompt(messages, self.tokenizer)

    def write(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        *,
        seed: int = 0,
        stops: Sequence[str] = (),
        on_progress: Callable[[int], None] = lambda done: None,
    ) -> list[Written]:
        """A text to each prompt, up to the first of `stops` or the model's own end."""
        longest = max(map(len, prompts), default=0) + sampling.max_new_tokens
        stop = next(iter(self.ends))
        tail = max((len(text.encode()) for text in stops), default=0)

        def over(ids: Sequence[int]) -> bool:
            # A token is a byte at least, but for those that end a character.
            return ids[-1] in self.ends or (
                tail > 0 and any(one in self.tokenizer.decode(ids[-tail - 4 :]) for one in stops)
            )

        written = sample(
            self.trunk,
            prompts,
            sampling,
            eos_id=stop,
            seed=seed,
            rows=max(PLACES // longest, 1),
            over=over,
            on_progress=on_progress,
        )
        return [self._written(one, stops) for one in written]

    def _written(self, one: Sampled, stops: Sequence[str]) -> Written:
        ids = [int(token) for token in one.ids]
        ended = bool(ids) and ids[-1] in self.ends
        ids = ids[: len(ids) - ended]
        text = self.tokenizer.decode(ids)
        places = [place for stop in stops if (place := text.find(stop)) >= 0]
        return Written(text[: min(places)] if places else text, ended or bool(places), tuple(ids))


@dataclass(frozen=True, slots=True)
class Written:
    """What a model wrote, without the stop word that ended it."""

    text: str
    ended: bool  # by the model or by a stop word; else it was cut
    ids: tuple[int, ...]


def open_model(model: str, world: World, *, chat: bool | None = False) -> Opened:
    """A model on its device: asked by its chat template or, without `chat`, to continue plain text;
    None goes by whether its control tokens were ever trained.

    Plain text is read as transformers reads it with the folder's own tokenizer, and no row is added
    to the vocabulary, so that a log-probability is the folder's own. It computes in float32 on a
    CPU, elsewhere in the format of the files. ModelError for a reward model, and for a base that
    never saw a chat and is to be asked as one.
    """
    if (Path(model).expanduser() / REWARD_FILE).is_file():
        raise ModelError(
            "this is a reward model: it predicts no text and answers nothing",
            where=model,
            remedy="Give --comparisons SOURCE.",
        )
    config = as_trained(model)
    spoken = load_tokenizer(config)[0]
    if chat is not False:
        base = None if _unseen(spoken) else load_base(config)
        if base and not _unseen(base.chat):
            return _opened(base.model, base.chat, config, world, chat=True)
        if chat:
            names = " and ".join(spoken.template.control_tokens)
            raise ModelError(
                f"this base never saw {names}: it has not learned to chat",
                where=model,
                remedy="Leave --chat out, and it continues plain text.",
            )
    place = locate_base(config)
    network = read_model(place.folder)
    if place.adapter:
        network = merge(network, place.adapter)
    return _opened(network, spoken, config, world, chat=False)


def as_trained(model: str) -> BaseConfig:
    """The model as it was trained: with the system prompt that its own template holds."""
    with suppress(GuildError, OSError):
        own = ChatTemplate.load(Path(model).expanduser())
        return BaseConfig(base=model, context=32, system=own.system)
    return BaseConfig(base=model, context=32)


def _unseen(chat: ChatTokenizer) -> set[int]:
    return set(chat.new_tokens) & set(chat.control_ids)


def _opened(
    network: Any, spoken: ChatTokenizer, config: BaseConfig, world: World, *, chat: bool
) -> Opened:
    dtype = torch.float32 if world.device.type == "cpu" else network.dtype
    network = network.to(world.device, dtype).eval()
    opening, begin, end = borders(locate_base(config).tokenizer, spoken)
    if chat or end is None:
        end = spoken.eos_id if chat else spoken.pad_id  # the latter never comes
    return Opened(
        trunk_for(network, dtype),
        spoken.template if chat else None,
        spoken.tokenizer,
        () if chat else opening,
        next(token for token in (begin, end) if token is not None),
        frozenset([end]),
        context_limit(network.config) or HOLDS,
    )


def borders(folder: Path, spoken: ChatTokenizer) -> tuple[tuple[int, ...], int | None, int | None]:
    """What the folder's own tokenizer puts before a text, and what it calls a text's beginning (or,
    without one, its end) and end. Where transformers cannot read it, what its files call them."""
    try:
        with quiet():
            own: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        bare, whole = own.encode("a", add_special_tokens=False), own.encode("a")
    except Exception:  # it has many kinds, and remote code is not run
        named = special_tokens(folder, spoken.tokenizer.token_id)
        begin, end = (
            spoken.tokenizer.token_id(named[name]) if name in named else None
            for name in ("bos_token", "eos_token")
        )
        return (), end if begin is None else begin, end
    opening = tuple(whole[: whole.index(bare[0])]) if bare and bare[0] in whole else ()
    begin = own.eos_token_id if own.bos_token_id is None else own.bos_token_id
    return opening, begin, own.eos_token_id
