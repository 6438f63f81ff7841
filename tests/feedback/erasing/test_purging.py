"""What an erasure takes away on disk."""

from __future__ import annotations

from pathlib import Path

from guildgpt.feedback.erasing.purging import purge
from guildgpt.feedback.store import Store
from guildgpt.model.version import Version

ANNA = 111_111_111_111_111_111
TURN = (
    "feedback.jsonl",
    "recipe.json",
    "report.html",
    "dpo/before.json",
    "dpo/checkpoints/7/model.safetensors.tmp",
    "dpo/checkpoints/7/adapter_model.safetensors",
    "dpo/checkpoints/7/tokenizer.json",
    "dpo/model/checkpoint/model.safetensors",
    "reward/model/model.safetensors",
    "dpo/model/report.html",
    "dpo/model/README.md",
    "dpo/model/model-Q8_0.gguf",
    "dpo/model/template.json",
    "dpo/model/lineage.json",
)


def made(folder: Path) -> Path:
    for name in TURN:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("words")
    return folder


def left(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


async def a_message(store: Store) -> str:
    anna = await store.members.of_user(ANNA)
    place = await store.conversations.start("chain", channel_id=8)
    said = await store.conversations.add_message(
        conversation_id=place, parent_id=None, role="user", text="Hm.", member_id=anna.id
    )
    return said.id


async def test_of_a_turn_only_what_answers_stays(store: Store, tmp_path: Path) -> None:
    turn, clean = made(tmp_path / "001"), made(tmp_path / "000")
    await store.decisions.change(
        (await store.decisions.begin(folder=str(clean))).id, state="dropped"
    )
    decision = await store.decisions.begin(folder=str(turn))
    await store.versions.learned(decision.id, [("message", await a_message(store))])
    assert await purge(store) == 0
    model = turn / "dpo" / "model" / "model-Q8_0.gguf"
    await store.versions.register(Version("new@2", "new", str(model), "0" * 64))
    await store.versions.inherit("new@2", decision.id)
    await store.decisions.change(decision.id, state="canary", candidate_id="new@2")
    await store.privacy.erase(ANNA)
    assert await purge(store) > 0
    assert left(turn) == {
        f"dpo/model/{name}" for name in ("model-Q8_0.gguf", "template.json", "lineage.json")
    }
    assert left(clean) == set(TURN)
    assert await purge(store) == 0


async def test_a_turn_in_training_goes_whole_unless_it_is_at_work(
    store: Store, tmp_path: Path
) -> None:
    turn = made(tmp_path / "001")
    decision = await store.decisions.begin(folder=str(turn))
    await store.versions.learned(decision.id, [("message", await a_message(store))])
    await store.privacy.erase(ANNA)
    await store.leases.acquire("learn", "host:1:ab", 60)
    assert await purge(store) == 0
    await store.leases.release("learn", "host:1:ab")
    await purge(store)
    assert left(turn) == set()


async def test_of_another_version_the_reports_go(store: Store, tmp_path: Path) -> None:
    """Its folder may be anybody's: nothing else in it is touched."""
    folder = made(tmp_path / "mine") / "dpo" / "model"
    (folder / "notes.txt").write_text("the operator's")
    version = Version("mine@1", "mine", str(folder / "model-Q8_0.gguf"), "0" * 64)
    await store.versions.register(version, [("message", await a_message(store))])
    await store.privacy.erase(ANNA)
    assert await purge(store) == 1
    assert "notes.txt" in left(folder)
    assert "report.html" not in left(folder)
