"""A model proved on itself, a few tokens long, before anything is trained on it.

There are two hundred kinds of models in transformers. What training takes for granted of each is
asked of the very one that is there: that no token sees those after it, that padding on the right
changes nothing, that its head is a product (perhaps with a soft cap), that adapters can be put on
it, and that what the sampler writes step by step is what the trunk reads as a whole.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from guildgpt.data.examples import Example
from guildgpt.errors import GuildError, ModelError
from guildgpt.model.config import AdapterConfig
from guildgpt.model.json_file import json_if_any
from guildgpt.model.quiet import first_line, quiet
from guildgpt.network.decoders import decoder_for
from guildgpt.network.hats import Hats
from guildgpt.network.head import Head
from guildgpt.network.lean import LeanTrunk, causal_model
from guildgpt.network.trunk import PaddedTrunk, Trunk

LONG, SHORT, STEPS = 7, 3, 3  # tokens of the two rows, and those that are written after them
# The most that two results may be apart, as a share of their norm: in float32, after the layers in
# 16 bits, after the head alone in 16 bits.
EXACT, ROUNDED, HEAD_ROUNDED = 1e-3, 0.15, 0.02
KNOWN = "Llama, Qwen, Gemma 2 and 3, Mistral, Phi, GPT-2, GPT-NeoX and MPT are known to train well."


def rehearse(folder: Path, *, adapters: bool) -> Any:
    """A folder's model without its weights; ModelError where it cannot be trained, as far as its
    shape tells, and with `adapters`, where it cannot have them."""
    try:
        with torch.device("meta"), quiet():
            config = AutoConfig.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
            if adapters:
                Hats(model, torch.float32, torch.device("meta")).add(
                    "proof", AdapterConfig(rank=1), seed=0
                )
            return model
    except GuildError:
        raise
    except Exception as error:  # whatever transformers and peft raise at an odd model
        kind = json_if_any(folder / "config.json").get("model_type")
        if kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:  # so it is its figures that are wrong
            raise ModelError(
                f"no model can be made as config.json says ({first_line(error)})",
                where=folder / "config.json",
                remedy=f"`{kind}` is a kind that is known here: mend the file, or take it again "
                "from where the model came from.",
            ) from error
        if not kind:
            raise ModelError(
                f"this folder does not say what model it holds ({first_line(error)})",
                where=folder,
                remedy="A model's folder holds a config.json that names its `model_type`: copy it "
                "from where the model came from.",
            ) from error
        raise ModelError(
            f"a model of this kind cannot be trained here ({first_line(error)})",
            where=folder,
            remedy="It takes causal language models that need no remote code. " + KNOWN,
        ) from error


def refuse_no_numbers(model: nn.Module) -> None:
    """ModelError where a weight is infinite or no number: the very first loss would be none."""
    for name, weight in model.state_dict().items():
        if weight.is_floating_point() and not bool(torch.isfinite(weight).all()):
            raise ModelError(
                f"the base's weights hold what is no number (in {name})",
                where="model.base",
                remedy="They are damaged, or were saved by a training that failed: copy or "
                "download them again, or name another base.",
            )


def prove(trunk: Trunk, *, writes: bool) -> None:
    """ModelError where this model cannot be trained, or not be sampled (asked where the recipe
    `writes`), as every stage takes for granted. Llama-shaped models run on our own pass, which has
    its own tests."""
    if isinstance(trunk, LeanTrunk):
        return
    assert isinstance(trunk, PaddedTrunk)
    causal: Any = causal_model(trunk.model)
    kind, size = causal.config.model_type, len(causal.get_input_embeddings().weight)
    ids = [size // 2 + place * size // 64 for place in range(2 * (LONG + STEPS))]
    long, short = ids[: LONG + STEPS], ids[LONG + STEPS :][: SHORT + STEPS]
    weight = causal.get_input_embeddings().weight
    exact = weight.dtype == torch.float32
    limit, heads_limit = (EXACT, EXACT) if exact else (ROUNDED, HEAD_ROUNDED)
    with torch.no_grad(), quiet():
        try:
            alone, apart = _read(trunk, [long]), _read(trunk, [long[:LONG], short])
            with trunk.mixed(weight.device):
                theirs = causal(input_ids=torch.tensor([long], device=weight.device)).logits[0]
            ours = Head(causal).logits(alone)
        except Exception as error:  # whatever a model's own forward raises
            raise _refused(kind, f"cannot be run here ({first_line(error)})") from error
        if _distance(apart[:LONG], alone[:LONG]) > limit:
            raise _refused(
                kind,
                "sees tokens that come later: it is no causal language model, and cannot learn to "
                "write",
            )
        if _distance(ours, theirs.float()) > heads_limit:
            raise _refused(
                kind, "has a head that is more than a product, which training does not know yet"
            )
        if writes:
            _prove_steps(trunk, kind, long, short, limit)


def _prove_steps(trunk: Trunk, kind: str, long: list[int], short: list[int], limit: float) -> None:
    """ModelError where the sampler's steps are not what the trunk reads."""
    device = next(trunk.model.parameters()).device
    whole = torch.stack([_read(trunk, [row])[-1] for row in (long, short)])
    try:
        decoder = decoder_for(trunk)
        decoder.start(
            [torch.tensor(long[:LONG]).to(device), torch.tensor(short[:SHORT]).to(device)]
        )
        for step in range(STEPS):
            tokens = torch.tensor([long[LONG + step], short[SHORT + step]], device=device)
            hidden = decoder.step(tokens)
        decoder.keep(torch.tensor([1], device=device))
        decoder.step(torch.tensor(short[:1], device=device))
        wrong, said = _distance(hidden.float(), whole) > limit, "other than it reads"
    except Exception as error:
        wrong, said = True, f"not at all: {first_line(error)}"
    if wrong:
        raise ModelError(
            f"a model of the kind `{kind}` cannot write answers here ({said})",
            where="stages",
            remedy="It can be trained by `pretrain`, `sft` and `dpo`: leave out `ppo` and `grpo`, "
            "and set evaluate.constrained = 0.",
        )


def _refused(kind: str, why: str) -> ModelError:
    return ModelError(f"a model of the kind `{kind}` {why}", where="model.base", remedy=KNOWN)


def _read(trunk: Trunk, rows: list[list[int]]) -> Tensor:
    """The hidden states (N, d) of all tokens of some rows."""
    examples = [
        Example(np.array(row, dtype=np.int32), np.ones(len(row), dtype=bool), len(row), "proof")
        for row in rows
    ]
    places = torch.arange(sum(map(len, rows)), device=next(trunk.model.parameters()).device)
    return trunk.hidden(examples, places).float()


def _distance(a: Tensor, b: Tensor) -> float:
    """|a - b| / |b| of the row where it is largest; what is not a number is infinitely far."""
    far = ((a - b).norm(dim=-1) / b.norm(dim=-1).clamp_min(1e-12)).max().item()
    return math.inf if math.isnan(far) else far
