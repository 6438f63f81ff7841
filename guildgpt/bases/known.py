"""Facts about bases that their files do not state: licence, and who wrote their training text."""

from __future__ import annotations

from guildgpt.data.provenance import Provenance, WrittenBy

_SMOLLM2_NOTE = "pretrained on a mixture that includes model-written textbooks (Cosmopedia)"
_KNOWN: dict[str, tuple[str, WrittenBy, str]] = {
    "replit/replit-code-v1-3b": ("CC-BY-SA-4.0", "people", "pretrained on the Stack (code)"),
    "EleutherAI/pythia-1b": ("Apache-2.0", "people", "pretrained on the Pile"),
    "EleutherAI/pythia-2.8b": ("Apache-2.0", "people", "pretrained on the Pile"),
    "HuggingFaceTB/SmolLM2-135M": ("Apache-2.0", "mixed", _SMOLLM2_NOTE),
    "HuggingFaceTB/SmolLM2-360M": ("Apache-2.0", "mixed", _SMOLLM2_NOTE),
    "HuggingFaceTB/SmolLM2-1.7B": ("Apache-2.0", "mixed", _SMOLLM2_NOTE),
    "HuggingFaceTB/SmolLM3-3B-Base": (
        "Apache-2.0",
        "mixed",
        "pretrained on a mixture that includes model-written text",
    ),
}


def base(name: str) -> Provenance | None:
    """What is known of a base on the Hub, without revision and hash."""
    if name not in _KNOWN:
        return None
    licence, written_by, note = _KNOWN[name]
    return Provenance(
        name, "base", licence, name, written_by=written_by, attribution=name, note=note
    )


def starter() -> Provenance:
    """The provenance of the `starter` base."""
    from guildgpt.bases.starter import STARTER

    return Provenance(
        name=STARTER.name,
        kind="base",
        licence=STARTER.licence,
        origin=STARTER.origin,
        revision=STARTER.version,
        sha256=STARTER.gguf_sha256,
        written_by="mixed",
        attribution="SmolLM2-135M-Instruct by HuggingFaceTB",
        note="instruction-tuned on text that is partly model-written",
    )
