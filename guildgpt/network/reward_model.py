"""The reward model: a language model's trunk and a scalar head that says how good an answer is.

Its folder loads in plain transformers as a sequence classifier with one label, or, of a kind that
has no such class there, as a causal model whose head lies beside it. Beside the whole weights it
carries its adapter alone, for the base it was trained on to wear as a hat.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from guildgpt.chat import ChatTemplate, FileTokenizer
from guildgpt.data.examples import Example
from guildgpt.errors import ModelError
from guildgpt.model.chat_tokenizer import ChatTokenizer
from guildgpt.model.config import AdapterConfig
from guildgpt.model.json_file import read_json
from guildgpt.model.locate import HEADS_FILE, refuse_run_folder
from guildgpt.model.quiet import quiet
from guildgpt.model.weights import Weights
from guildgpt.network.hats import Hats
from guildgpt.network.lean import causal_model
from guildgpt.network.trunk import Trunk, length_groups, predicted, trunk_for

REWARD_FILE = "reward.json"
ADAPTER_FILE = "adapter.safetensors"


@dataclass(frozen=True, slots=True)
class RewardRecord:
    """What a reward model's folder says of itself besides its weights."""

    bias: float  # added to every score: with it demonstrations score 0 on average
    base_sha256: str  # of the weights its adapter was trained on
    adapter: dict[str, Any]
    learned: dict[str, int] = field(default_factory=dict)  # comparisons by source; older: unknown


def scalar_head(width: int, *, seed: int | None, heads: int = 1) -> nn.Linear:
    """One head or several (heads, d) drawn from N(0, 1/√(d+1)), bias 0; without a seed all zeros.

    Ouyang et al.'s and Ziegler et al.'s; Huang et al. 2024, arXiv 2403.17031, detail 12.
    """
    head = nn.Linear(width, heads)
    with torch.no_grad():
        head.bias.zero_()
        head.weight.zero_()
        if seed is not None:
            generator = torch.Generator().manual_seed(seed)
            head.weight.normal_(std=1 / math.sqrt(width + 1), generator=generator)
    return head


def final_scores(trunk: Trunk, heads: nn.Linear, examples: Sequence[Example]) -> Tensor:
    """The scores (rows, heads) of each example, read at its last token."""
    hidden = trunk.hidden(examples, _last(examples).to(heads.weight.device))
    return heads(hidden.float())  # type: ignore[no-any-return]


def _last(examples: Sequence[Example]) -> Tensor:
    """Where the last tokens (rows,) stand in the examples laid end to end."""
    return torch.tensor([len(e) for e in examples]).cumsum(0) - 1


def mean_head(heads: nn.Linear) -> nn.Linear:
    """The one head (1, d) whose score is the mean of theirs."""
    if heads.out_features == 1:
        return heads
    return _heads(heads.weight.detach().mean(0, keepdim=True), float(heads.bias.detach().mean()))


def token_values(trunk: Trunk, head: nn.Linear, examples: Sequence[Example]) -> Tensor:
    """The value (K,) of the state before each predicted token, laid end to end."""
    places = predicted(examples).to(head.weight.device) - 1
    return head(trunk.hidden(examples, places).float())[:, 0]  # type: ignore[no-any-return]


@dataclass
class RewardModel:
    """A trunk and its heads, ready to score: a score is the mean of the heads'."""

    trunk: Trunk
    heads: nn.Linear
    micro_tokens: int = 1024

    def scores(self, examples: Sequence[Example]) -> Tensor:
        """The score (rows,) of each example on the CPU: the higher, the better the answer."""
        return self.scores_by_head(examples).mean(1)

    @torch.no_grad()
    def scores_by_head(self, examples: Sequence[Example]) -> Tensor:
        """The scores (rows, heads) of each example on the CPU."""
        found = torch.empty(len(examples), self.heads.out_features)
        for group in self._groups(examples):
            batch = [examples[index] for index in group]
            found[group] = final_scores(self.trunk, self.heads, batch).cpu()
        return found

    @torch.no_grad()
    def scores_and_states(self, examples: Sequence[Example]) -> tuple[Tensor, list[Tensor]]:
        """`scores`, and the hidden states (tokens, d) before each predicted token of each example:
        a value head can read them."""
        found = torch.empty(len(examples))
        kept = [torch.empty(0)] * len(examples)
        for group in self._groups(examples):
            batch = [examples[index] for index in group]
            before = predicted(batch) - 1
            rows = torch.cat([before, _last(batch)]).to(self.heads.weight.device)
            hidden = self.trunk.hidden(batch, rows).float()
            found[group] = self.heads(hidden[len(before) :]).mean(1).cpu()
            parts = torch.split(hidden[: len(before)], [e.trained for e in batch])
            for index, part in zip(group, parts, strict=True):
                kept[index] = part
        return found, kept

    def _groups(self, examples: Sequence[Example]) -> list[list[int]]:
        lengths = [len(example) for example in examples]
        return length_groups(lengths, self.micro_tokens, padded=self.trunk.padded)


def reward_files(hats: Hats, name: str, record: RewardRecord, heads: nn.Linear) -> dict[str, bytes]:
    """The small files of a reward model's folder that say how it scores; among them its heads,
    where there are several (the weights beside them have their mean), or nowhere else."""
    files = {
        REWARD_FILE: f"{json.dumps(asdict(record), indent=2)}\n".encode(),
        ADAPTER_FILE: to_bytes(hats.adapter_weights(name)),
    }
    if heads.out_features > 1 or _empty_classifier(causal_model(hats.base).config) is None:
        parts = {"weight": heads.weight, "bias": heads.bias}
        files[HEADS_FILE] = to_bytes({key: one.detach().cpu() for key, one in parts.items()})
    return files


def classifier(causal: Any, head: nn.Linear, chat: ChatTokenizer) -> Any:
    """A causal model's body with the head on it, as transformers' sequence classifier; the causal
    model itself where transformers has none of its kind: then `HEADS_FILE` alone has the head.

    The bias is not part of it: transformers' head has none, and differences do not need it.
    """
    labels = {"id2label": {0: "score"}, "label2id": {"score": 0}}
    config = type(causal.config).from_dict({**causal.config.to_dict(), **labels})
    config.architectures = None
    config.pad_token_id = chat.pad_id
    model = _empty_classifier(config)
    if model is None:
        return causal
    setattr(model, model.base_model_prefix, getattr(causal, causal.base_model_prefix))
    model.score = nn.Linear(head.in_features, 1, bias=False)
    with torch.no_grad():
        model.score.weight.copy_(head.weight.detach().cpu())
    return model


def _empty_classifier(config: Any) -> Any:
    """transformers' sequence classifier of a model, without weights; None where it has none that
    is a body and a head called `score`."""
    try:
        with torch.device("meta"), quiet():
            model = AutoModelForSequenceClassification.from_config(config)
    except ValueError:
        return None
    return model if isinstance(getattr(model, "score", None), nn.Linear) else None


def read_record(folder: Path) -> RewardRecord:
    """A reward model folder's own record; ModelError if this is none."""
    refuse_run_folder(folder)
    path = folder / REWARD_FILE
    try:
        return RewardRecord(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        if isinstance(error, FileNotFoundError):
            reason = f"it holds no {REWARD_FILE}" if folder.is_dir() else "there is no such folder"
        raise ModelError(
            f"this is not a reward model ({reason})",
            where=folder,
            remedy="`guildgpt train` leaves them at runs/NAME/reward/model and runs/NAME/judge/"
            "model.",
        ) from error


def load_reward_model(
    folder: Path, dtype: torch.dtype, device: torch.device, micro_tokens: int = 1024
) -> RewardModel:
    """A reward model by itself, from its whole weights."""
    record = read_record(folder)
    try:
        architectures = read_json(folder / "config.json").get("architectures") or [""]
        causal = architectures[0].endswith("ForCausalLM") or architectures[0].endswith(
            "LMHeadModel"
        )
        kind = AutoModelForCausalLM if causal else AutoModelForSequenceClassification
        with quiet():
            model = kind.from_pretrained(
                folder, dtype=torch.float32, trust_remote_code=False, local_files_only=True
            )
        several = folder / HEADS_FILE
        if several.is_file():
            heads = _heads(**load_file(several)).to(device)
        else:
            heads = _heads(model.score.weight.detach(), record.bias).to(device)
    except Exception as error:  # whatever transformers and safetensors raise where it is not whole
        raise ModelError(
            f"this reward model cannot be loaded ({error})",
            where=folder,
            remedy="Was it copied whole?",
        ) from error
    model.to(device, dtype).requires_grad_(False).eval()
    return RewardModel(trunk_for(model, dtype), heads, micro_tokens)


def wear_reward_model(
    hats: Hats, name: str, folder: Path, base_sha256: str, micro_tokens: int = 1024
) -> RewardModel:
    """A reward model as a hat on the base it was trained on; on another base, by itself."""
    record = read_record(folder)
    if record.base_sha256 != base_sha256:
        return load_reward_model(folder, hats.dtype, hats.device, micro_tokens)
    config = AdapterConfig(**record.adapter)
    hats.add(name, config, seed=0, weights=load_file(folder / ADAPTER_FILE))
    weights = Weights(folder)
    if "score.weight" in weights.names:
        head = _heads(torch.from_numpy(weights.read("score.weight")), record.bias)
    else:
        head = mean_head(_heads(**load_file(folder / HEADS_FILE)))
    return RewardModel(hats.trunk(name), head.to(hats.device), micro_tokens)


def check_same_language(folder: Path, chat: ChatTokenizer) -> None:
    """ModelError where a reward model's tokenizer or template is not the policy's: it would score
    other texts than were written."""
    sample = "Does é ≠ 10 200, in <|im_end|> x = {'a': [1]}?\n\n\tYes.  No! 日本語 🙂"
    theirs = FileTokenizer(folder / "tokenizer.json")
    ours = chat.tokenizer
    names = chat.template.control_tokens
    other = {
        "chat template": ChatTemplate.load(folder) != chat.template,
        "tokenizer": theirs.encode(sample) != ours.encode(sample)
        or len(theirs) != len(ours)
        or any(theirs.token_id(name) != ours.token_id(name) for name in names),
    }
    for what, differs in other.items():
        if differs:
            raise ModelError(
                f"the reward model was trained with another {what} than the policy",
                where=folder,
                remedy="Train the reward model again from the policy's own base.",
            )


def _heads(weight: Tensor, bias: float | Tensor) -> nn.Linear:
    heads = scalar_head(weight.shape[1], seed=None, heads=len(weight))
    with torch.no_grad():
        heads.weight.copy_(weight.float())
        heads.bias.copy_(torch.as_tensor(bias))
    return heads.requires_grad_(False)
