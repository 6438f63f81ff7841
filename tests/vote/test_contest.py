"""Whose answers meet, before any engine is opened."""

from __future__ import annotations

from pathlib import Path

import pytest

from guildgpt.chat import ChatTemplate
from guildgpt.errors import GuildError, ModelError
from guildgpt.feedback.records import Decision
from guildgpt.feedback.store import Store
from guildgpt.model.locate import locate
from guildgpt.model.version import Version, version_of
from guildgpt.vote.contest import find

from .conftest import NEW, OLD


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model folder that a run left; nothing of it is opened."""
    monkeypatch.chdir(tmp_path)
    made = Path("runs/night/sft/model")
    made.mkdir(parents=True)
    ChatTemplate().save(made)
    (made / "model-Q8_0.gguf").write_bytes(b"GGUF" + bytes(60))
    return made


async def register(store: Store, model: str) -> Version:
    found = version_of(locate(model))
    await store.versions.register(found)
    return found


async def test_who_serves_is_opened_as_it_was_registered(store: Store, folder: Path) -> None:
    whole = await register(store, str(folder))
    await store.releases.add({whole.id: 0.8, NEW.id: 0.2}, "canary")
    contest = await find(store)
    (player,) = contest.players
    assert (player.expected, contest.decision, contest.purpose) == (whole.id, None, "train")
    assert player.model.folder == folder.absolute()
    assert version_of(player.model).id == whole.id

    alone = await register(store, str(folder / "model-Q8_0.gguf"))
    await store.releases.add({alone.id: 1.0}, "serve")
    (player,) = (await find(store)).players
    assert player.model.folder is None
    assert version_of(player.model).id == alone.id


async def test_without_a_release_the_newest_model_is_asked(store: Store, folder: Path) -> None:
    (player,) = (await find(store)).players
    assert (player.model.folder, player.expected) == (folder, None)


async def test_a_candidate_whose_file_is_gone(store: Store, canary: Decision) -> None:
    with pytest.raises(GuildError, match=f"the file of {OLD.id} is gone") as raised:
        await find(store)
    assert raised.value.where == OLD.path


async def test_models_by_name(store: Store, folder: Path, canary: Decision) -> None:
    whole = await register(store, str(folder))
    other = folder.parent / "other.gguf"
    other.write_bytes(b"GGUF" + bytes(61))
    contest = await find(store, [whole.id, str(other)])
    assert [player.expected for player in contest.players] == [whole.id, None]
    assert contest.decision is None
    with pytest.raises(GuildError, match="would meet itself") as raised:
        await find(store, [whole.id, str(folder)])
    assert "Without a MODEL" in str(raised.value.remedy)
    with pytest.raises(GuildError, match="there is no version nobody@01234567"):
        await find(store, ["nobody@01234567"])
    with pytest.raises(ModelError, match="no model called"):
        await find(store, ["nobody"])
    await store.decisions.change(canary.id, state="dropped")
    assert len((await find(store, [whole.id, str(folder)])).players) == 1
