"""The Hub client against a small Hub of our own: one file by its name."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path

import pytest
from fake_hub import COMMIT, FakeHub, Repo

from guildgpt.data import hub as client
from guildgpt.data.source import load
from guildgpt.data.spec import SourceSpec
from guildgpt.errors import DataError

REPO, FILE = "databricks/databricks-dolly-15k", "databricks-dolly-15k.jsonl"
ROW = {"instruction": "Why?", "context": "", "response": "So.", "category": "open_qa"}
CONTENT = "".join(
    json.dumps({**ROW, "instruction": f"Why {i}?"}) + "\n" for i in range(2000)
).encode()


@pytest.fixture
def fake_hub(hub: FakeHub) -> FakeHub:
    """Dolly's."""
    hub.sets[REPO] = Repo({FILE: CONTENT})
    return hub


def test_a_set_is_fetched_by_name_and_its_commit_and_hash_recorded(fake_hub, tmp_path) -> None:
    loaded = load(SourceSpec.parse("dolly"), cache_dir=tmp_path, endpoint=fake_hub.url)
    assert len(loaded.conversations) == 2000
    item = loaded.provenance
    assert (item.origin, item.revision, item.note) == (REPO, COMMIT, FILE)
    assert item.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert loaded.conversations[0].source.file == FILE
    assert item.written_by == "people"


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("oasst1", "2023-04-12_oasst_ready.trees.jsonl.gz"),
        ("oasst2", "2023-11-05_oasst2_ready.trees.jsonl.gz"),
    ],
)
def test_open_assistant_s_releases_by_name(fake_hub, tmp_path, name: str, file: str) -> None:
    """Gzipped trees, as they lie on the Hub."""
    answer = {"message_id": "b", "parent_id": "a", "role": "assistant", "text": "So.", "rank": 0}
    prompt = {"message_id": "a", "role": "prompter", "text": "Why?", "replies": [answer]}
    prompt |= {"lang": "en", "review_result": True, "deleted": False}
    answer |= {"lang": "en", "review_result": True, "deleted": False, "replies": []}
    tree = {"message_tree_id": "a", "tree_state": "ready_for_export", "prompt": prompt}
    repo = f"OpenAssistant/{name}"
    fake_hub.sets[repo] = Repo({file: gzip.compress(json.dumps(tree).encode())})
    loaded = load(SourceSpec.parse(name), cache_dir=tmp_path, endpoint=fake_hub.url)
    assert [message.content for message in loaded.conversations[0].messages] == ["Why?", "So."]
    item = loaded.provenance
    assert (item.origin, item.revision, item.note) == (repo, COMMIT, file)
    assert (item.licence, item.written_by) == ("Apache-2.0", "people")


def test_a_second_time_comes_from_the_cache(fake_hub, tmp_path) -> None:
    for revision in (None, "main", COMMIT):
        fetched = client.fetch(
            REPO, FILE, revision=revision, cache_dir=tmp_path, endpoint=fake_hub.url
        )
        assert fetched.commit == COMMIT
        assert fetched.path.read_bytes() == CONTENT
    assert len(fake_hub.ranges) == 1


def test_a_dropped_download_goes_on_where_it_broke_off(fake_hub, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1024)
    fake_hub.drop_after = 10_000
    fetched = client.fetch(REPO, FILE, cache_dir=tmp_path, endpoint=fake_hub.url)
    assert fetched.path.read_bytes() == CONTENT
    assert fake_hub.ranges == [None, "bytes=9216-"]  # nine whole pieces had come


def test_the_expected_hash_holds_for_a_fetched_file_too(fake_hub, tmp_path) -> None:
    spec = SourceSpec(source="dolly", sha256="f" * 64)
    with pytest.raises(DataError, match="sha256"):
        load(spec, cache_dir=tmp_path, endpoint=fake_hub.url)


def test_without_a_network_the_cache_serves_and_else_the_remedy_helps(
    fake_hub, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    nowhere = "http://127.0.0.1:9"  # the discard port: nobody listens
    with pytest.raises(DataError, match="cannot be reached") as caught:
        load(SourceSpec.parse("dolly"), cache_dir=tmp_path, endpoint=nowhere)
    assert caught.value.where == REPO
    assert FILE in (caught.value.remedy or "")
    assert "`dolly:PATH`" in (caught.value.remedy or "")
    load(SourceSpec.parse("dolly"), cache_dir=tmp_path, endpoint=fake_hub.url)
    again = load(SourceSpec.parse("dolly"), cache_dir=tmp_path, endpoint=nowhere)
    assert len(again.conversations) == 2000
    assert again.provenance.revision == COMMIT


@pytest.mark.parametrize(
    ("repo", "file", "revision", "said"),
    [
        (REPO, FILE, "v9", "no revision v9"),
        (REPO, "other.jsonl", "main", "no file other.jsonl"),
        ("someone/else", FILE, "main", "no such data set"),
    ],
)
def test_what_the_hub_does_not_have(fake_hub, tmp_path: Path, repo, file, revision, said) -> None:
    with pytest.raises(DataError, match=said) as caught:
        client.fetch(repo, file, revision=revision, cache_dir=tmp_path, endpoint=fake_hub.url)
    assert caught.value.where == f"{repo}@{revision}"
    assert caught.value.remedy
