"""Which version a model is: by the content of all its files."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import gguf
import numpy as np
import pytest

from guildgpt.engines.held_file import HeldFile
from guildgpt.errors import EngineDied, EngineError
from guildgpt.model.locate import locate
from guildgpt.model.version import check_model, version_of


def split(folder: Path) -> list[Path]:
    """A file that is split as llama.cpp splits them; the parts' paths."""
    writer = gguf.GGUFWriter(folder / "large.gguf", "llama", split_max_tensors=1)
    for number in range(3):
        writer.add_tensor(f"blk.{number}.weight", np.full((4, 32), number, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return sorted(folder.glob("*.gguf"))


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_version_of_a_file_is_its_hash(tmp_path: Path) -> None:
    path = tmp_path / "small-00001-of-00002.gguf"  # a name alone splits nothing
    writer = gguf.GGUFWriter(path, "llama")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    found = version_of(locate(str(path)))
    assert found.sha256 == sha256_of(path)
    assert found.id == f"{path.stem}@{found.sha256[:8]}"
    with closing(HeldFile(path)) as held:
        assert held.sha256() == found.sha256


@pytest.mark.parametrize("changed", range(3))
def test_every_part_of_a_split_file_counts(tmp_path: Path, changed: int) -> None:
    parts = split(tmp_path)
    assert [part.name[5:] for part in parts] == [f"-0000{n}-of-00003.gguf" for n in (1, 2, 3)]
    before = version_of(locate(str(parts[0])))
    assert before.sha256 == hashlib.sha256("".join(map(sha256_of, parts)).encode()).hexdigest()
    with closing(HeldFile(parts[0])) as held:
        assert held.sha256() == before.sha256
        held.check_in_place()
        parts[changed].write_bytes(parts[changed].read_bytes()[:-1] + b"\1")
        with pytest.raises(EngineDied, match="replaced or changed"):
            held.check_in_place()
        with pytest.raises(EngineDied, match="replaced or changed"):
            held.sha256()
    assert version_of(locate(str(parts[0]))).sha256 != before.sha256


def test_a_part_that_is_missing_is_named(tmp_path: Path) -> None:
    parts = split(tmp_path)
    parts[1].unlink()
    with pytest.raises(EngineError, match="no such file") as raised:
        HeldFile(parts[0])
    assert raised.value.where == str(parts[1])


def test_where_one_part_cannot_be_opened_the_others_are_closed(tmp_path: Path) -> None:
    """In a process of its own, which may have two more files open, and not three."""
    pytest.importorskip("resource")
    script = """if True:
        import errno, os, resource, sys
        from pathlib import Path
        from guildgpt.engines.held_file import HeldFile

        free = os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free + 2, free + 2))
        try:
            HeldFile(Path(sys.argv[1]))
        except OSError as error:
            print(errno.errorcode[error.errno])
        os.close(os.dup(0))
    """
    command = [sys.executable, "-W", "error::ResourceWarning", "-c", script, split(tmp_path)[0]]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("EMFILE\n", "")


@pytest.mark.parametrize("shards", [1, 2])
def test_the_version_of_a_folder_without_a_gguf_is_that_of_its_weights(
    tmp_path: Path, shards: int
) -> None:
    folder = tmp_path / "sft" / "model"
    folder.mkdir(parents=True)
    (folder / "template.json").write_text("{}")
    (folder / "config.json").write_text('{"architectures": ["BloomForCausalLM"]}')
    names = [f"part-{n}.safetensors" for n in range(shards)]
    if shards == 1:
        names = ["model.safetensors"]
    else:
        index = {"weight_map": {"a": names[0], "b": names[1], "c": names[0]}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    for name in names:
        (folder / name).write_bytes(name.encode())
    before = version_of(locate(str(folder)))
    assert before.id.startswith("sft@")
    check_model(Path(before.path))
    (folder / names[-1]).write_bytes(b"other weights")
    assert version_of(locate(str(folder))).sha256 != before.sha256


def test_a_broken_gguf_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(EngineError, match="damaged"):
        check_model(tmp_path / "model.gguf")
