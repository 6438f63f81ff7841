"""The reward model: a language model's trunk and a scalar head that says how good an answer is.

Its folder loads in plain transformers as a sequence classifier with one label. Beside the whole
weights it carries its adapter alone, for the base it was trained on to wear as a hat.
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
from transformers import AutoConfig, AutoModelForSequenceClassification

from guildgpt.chat import ChatTemplate, FileTokenizer
from guildgpt.data.examples import Example
from guildgpt.errors import ModelError
from guildgpt.model.chat_tokenizer import ChatTokenizer
from guildgpt.model.config import AdapterConfig
from guildgpt.model.gguf_architectures import Weights
from guildgpt.model.locate import refuse_run_folder
from guildgpt.model.quiet import quiet
from guildgpt.network.hats import Hats
from guildgpt.network.trunk import Trunk, length_groups, predicted, trunk_for

REWARD_FILE = "reward.json"
ADAPTER_FILE = "adapter.safetensors"
HEADS_FILE = "heads.safetensors"  # where there are several


@dataclass(frozen=True, slots=True)
class RewardRecord:
    """What a reward model's folder says of itself besides its weights."""

    bias: float  # added to every score: with it demonstrations score 0 on average
    base_sha256: str  # of the weights its adapter was trained on
    adapter: dict[str, Any]
    learned: dict[str, int] = field(default_factory=dict)  # comparisons by source; older: unknown


def scalar_head(width: int, *, seed: int | None, members: int = 1) -> nn.Linear:
    """A head (members, d) drawn from N(0, 1/√(d+1)), bias 0; without a seed all zeros.

    Ouyang et al.'s and Ziegler et al.'s; Huang et al. 2024, arXiv 2403.17031, detail 12.
    """
    head = nn.Linear(width, members)
    with torch.no_grad():
        head.bias.zero_()
        head.weight.zero_()
        if seed is not None:
            generator = torch.Generator().manual_seed(seed)
            head.weight.normal_(std=1 / math.sqrt(width + 1), generator=generator)
    return head


def member_scores(trunk: Trunk, head: nn.Linear, examples: Sequence[Example]) -> Tensor:
    """The scores (rows, members) of each example, read at its last token."""
    ends = torch.tensor([len(e) for e in examples]).cumsum(0) - 1
    hidden = trunk.hidden(examples, ends.to(head.weight.device))
    return head(hidden.float())  # type: ignore[no-any-return]


def final_scores(trunk: Trunk, head: nn.Linear, examples: Sequence[Example]) -> Tensor:
    """The score (rows,) of each example: its members' mean."""
    return _mean(member_scores(trunk, head, examples))


def _mean(scores: Tensor) -> Tensor:
    return scores[:, 0] if scores.shape[1] == 1 else scores.mean(1)


def mean_head(head: nn.Linear) -> nn.Linear:
    """The one head (1, d) whose score is the mean of the members'."""
    if head.out_features == 1:
        return head
    return _head(head.weight.detach().mean(0, keepdim=True), float(head.bias.detach().mean()))


def token_values(trunk: Trunk, head: nn.Linear, examples: Sequence[Example]) -> Tensor:
    """The value (K,) of the state before each predicted token, laid end to end."""
    places = predicted(examples).to(head.weight.device) - 1
    return head(trunk.hidden(examples, places).float())[:, 0]  # type: ignore[no-any-return]


@dataclass
class RewardModel:
    """A trunk and a head, ready to score."""

    trunk: Trunk
    head: nn.Linear
    micro_tokens: int = 1024
    members: nn.Linear | None = None  # the heads whose mean `head` is, where there are several

    def scores(self, examples: Sequence[Example]) -> Tensor:
        """The score (rows,) of each example on the CPU: the higher, the better the answer."""
        return self.scores_and_states(examples, states=False)[0]

    @torch.no_grad()
    def scores_by_member(self, examples: Sequence[Example]) -> Tensor:
        """The scores (rows, members) of each example on the CPU; their mean is `scores`."""
        heads = self.members or self.head
        found = torch.empty(len(examples), heads.out_features)
        lengths = [len(example) for example in examples]
        for group in length_groups(lengths, self.micro_tokens, padded=self.trunk.padded):
            batch = [examples[index] for index in group]
            found[group] = member_scores(self.trunk, heads, batch).cpu()
        return found

    @torch.no_grad()
    def scores_and_states(
        self, examples: Sequence[Example], *, states: bool = True
    ) -> tuple[Tensor, list[Tensor]]:
        """The same, and with `states` the hidden states (tokens, d) before each predicted token of
        each example: a value head can read them."""
        found = torch.empty(len(examples))
        kept = [torch.empty(0)] * len(examples) if states else []
        lengths = [len(example) for example in examples]
        for group in length_groups(lengths, self.micro_tokens, padded=self.trunk.padded):
            batch = [examples[index] for index in group]
            if not states:
                found[group] = final_scores(self.trunk, self.head, batch).cpu()
                continue
            ends = torch.tensor([len(e) for e in batch]).cumsum(0) - 1
            before = predicted(batch) - 1
            rows = torch.cat([before, ends]).to(self.head.weight.device)
            hidden = self.trunk.hidden(batch, rows).float()
            found[group] = _mean(self.head(hidden[len(before) :])).cpu()
            parts = torch.split(hidden[: len(before)], [e.trained for e in batch])
            for index, part in zip(group, parts, strict=True):
                kept[index] = part
        return found, kept


def reward_files(
    hats: Hats, name: str, record: RewardRecord, members: nn.Linear | None = None
) -> dict[str, bytes]:
    """The small files of a reward model's folder that say how it scores; with several `members`
    their heads, whose mean is the model's own."""
    files = {
        REWARD_FILE: f"{json.dumps(asdict(record), indent=2)}\n".encode(),
        ADAPTER_FILE: to_bytes(hats.adapter_weights(name)),
    }
    if members is not None:
        heads = {"weight": members.weight, "bias": members.bias}
        files[HEADS_FILE] = to_bytes({key: one.detach().cpu() for key, one in heads.items()})
    return files


def classifier(causal: Any, head: nn.Linear, chat: ChatTokenizer) -> Any:
    """A causal model's body with the head on it, as transformers' sequence classifier.

    The bias is not part of it: transformers' head has none, and differences do not need it.
    """
    labels = {"id2label": {0: "score"}, "label2id": {"score": 0}}
    config = type(causal.config).from_dict({**causal.config.to_dict(), **labels})
    config.architectures = None
    config.pad_token_id = chat.pad_id
    model = require_classifier(config)
    setattr(model, model.base_model_prefix, getattr(causal, causal.base_model_prefix))
    model.score = nn.Linear(head.in_features, 1, bias=False)
    with torch.no_grad():
        model.score.weight.copy_(head.weight.detach().cpu())
    return model


def require_classifier(config: Any) -> Any:
    """transformers' sequence classifier of a model, without weights. ModelError where there is
    none, so that a reward model could be trained and not be written."""
    try:
        with torch.device("meta"), quiet():
            return AutoModelForSequenceClassification.from_config(config)
    except ValueError as error:
        raise ModelError(
            f"transformers has no sequence classifier for `{config.model_type}`",
            where="stages",
            remedy="Llama-shaped models, MPT and GPT-NeoX have one; `dpo` needs no reward model.",
        ) from error


def require_classifier_for(folder: Path) -> None:
    """The same for a folder's model, where its configuration can be read without its weights."""
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception:  # whoever loads the model says what is wrong
        return
    require_classifier(config)


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
        with quiet():
            model = AutoModelForSequenceClassification.from_pretrained(
                folder, dtype=torch.float32, trust_remote_code=False, local_files_only=True
            )
    except Exception as error:  # whatever transformers raises for a folder that is not whole
        raise ModelError(
            f"transformers cannot load this reward model ({error})",
            where=folder,
            remedy="Was it copied whole?",
        ) from error
    head = _head(model.score.weight.detach(), record.bias).to(device)
    model.to(device, dtype).requires_grad_(False).eval()
    return RewardModel(trunk_for(model, dtype), head, micro_tokens, _members(folder, device))


def wear_reward_model(
    hats: Hats, name: str, folder: Path, base_sha256: str, micro_tokens: int = 1024
) -> RewardModel:
    """A reward model as a hat on the base it was trained on; on another base, by itself."""
    record = read_record(folder)
    if record.base_sha256 != base_sha256:
        return load_reward_model(folder, hats.dtype, hats.device, micro_tokens)
    config = AdapterConfig(**record.adapter)
    hats.add(name, config, seed=0, weights=load_file(folder / ADAPTER_FILE))
    weight = torch.from_numpy(Weights(folder).read("score.weight"))
    head = _head(weight, record.bias).to(hats.device)
    return RewardModel(hats.trunk(name), head, micro_tokens)


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


def _members(folder: Path, device: torch.device) -> nn.Linear | None:
    """The heads of an ensemble; ModelError where their file is not whole."""
    path = folder / HEADS_FILE
    if not path.is_file():
        return None
    try:
        heads = load_file(path)
        return _head(heads["weight"], heads["bias"]).to(device)
    except Exception as error:  # whatever safetensors raises for a file that is not whole
        raise ModelError(
            f"the heads of this reward model cannot be read ({error})",
            where=path,
            remedy="Was it copied whole?",
        ) from error


def _head(weight: Tensor, bias: float | Tensor) -> nn.Linear:
    head = scalar_head(weight.shape[1], seed=None, members=len(weight))
    with torch.no_grad():
        head.weight.copy_(weight.float())
        head.bias.copy_(torch.as_tensor(bias))
    return head.requires_grad_(False)
