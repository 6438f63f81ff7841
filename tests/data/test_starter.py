from __future__ import annotations

from guildgpt.data.source import SourceSpec, load
from guildgpt.data.split import normalised
from guildgpt.data.starter import starter_prompts


def test_the_starter_pack_is_whole() -> None:
    loaded = load(SourceSpec.parse("starter"))
    assert (len(loaded.conversations), len(loaded.comparisons)) == (256, 396)
    assert loaded.skipped.total() == 0
    assert loaded.provenance.licence == "CC0-1.0"
    assert {row.source.file for row in loaded.conversations} == {"conversations.jsonl"}


def test_its_prompts_are_asked_in_no_training_row() -> None:
    prompts = starter_prompts()
    assert len(prompts) == 60
    assert all(prompt.prompt.strip() and prompt.category for prompt in prompts)
    loaded = load(SourceSpec.parse("starter"))
    asked = {normalised(row.messages[0].content) for row in loaded.conversations}
    asked |= {normalised(row.prompt[-1].content) for row in loaded.comparisons}
    assert not asked & {normalised(prompt.prompt) for prompt in prompts}
