"""Finding the model a person means: a folder, a GGUF file, "starter", or their latest."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from guildgpt.chat.template import TEMPLATE_FILE
from guildgpt.errors import ModelError
from guildgpt.model.json_file import json_if_any
from guildgpt.model.starter import STARTER, starter_gguf

RUNS = Path("runs")
# Where weights begin: whole, or the list of their parts.
WEIGHTS = (
    *("model.safetensors", "model.safetensors.index.json"),
    *("pytorch_model.bin", "pytorch_model.bin.index.json"),
)
# A reward model's, where there are several or the weights hold none.
HEADS_FILE = "heads.safetensors"
# The most faithful first that a small machine still runs well; others follow by name.
PREFERRED = ("q8_0", "f16", "q6_k", "q5_k", "q4_k", "q4_1")


@dataclass(frozen=True, slots=True)
class Located:
    """A model that can be opened: its name for people, its file, its folder if it has one.

    The file is a GGUF, or, in a folder without one, that of its weights.
    """

    name: str
    gguf: Path
    folder: Path | None

    @property
    def weights(self) -> bool:
        """Whether the file is no GGUF: torch opens it."""
        return self.gguf.suffix != ".gguf"


def locate(
    model: str | None,
    runs: Path = RUNS,
    *,
    on_progress: Callable[[str], None] | None = None,
) -> Located:
    """The model that `model` names; None is the newest model folder under `runs`, or the starter.

    A folder that is no model folder stands for the newest one inside it. One without a GGUF counts
    as well, unless it is a reward model's. `on_progress` is told
    when the starter has to be fetched. Raises `ModelError` with near matches for a wrong path.
    """
    if model is None:
        return _newest(runs) or locate(STARTER, on_progress=on_progress)
    if model == STARTER:
        return Located(STARTER, starter_gguf(on_progress=on_progress), None)
    path = Path(model).expanduser()
    if path.is_dir():
        return _in_folder(path)
    if path.is_file():
        return Located(path.stem, path, None)
    raise ModelError(f"there is no model called {model!r}", remedy=_near(model, path, runs))


def located_at(gguf: Path, name: str) -> Located:
    """The model whose file lies there; it is a folder's where its template lies beside it, or where
    it is no GGUF."""
    in_folder = gguf.suffix != ".gguf" or (gguf.parent / TEMPLATE_FILE).is_file()
    return Located(name, gguf, gguf.parent if in_folder else None)


def model_folders(root: Path) -> Iterator[Path]:
    """Every folder at or under `root` with a model that speaks, hidden ones left out: a template,
    and a GGUF or weights."""
    return (
        place
        for place, files in _walk(root)
        if TEMPLATE_FILE in files and (_has_gguf(files) or _speaks(place, files))
    )


def _has_gguf(files: set[str]) -> bool:
    return any(name.endswith(".gguf") for name in files)


def _speaks(folder: Path, files: set[str]) -> bool:
    """Whether a folder has weights of a model that writes, not of one that scores."""
    if "config.json" not in files or HEADS_FILE in files or files.isdisjoint(WEIGHTS):
        return False
    kind = (json_if_any(folder / "config.json").get("architectures") or [""])[0]
    return str(kind).endswith(("ForCausalLM", "LMHeadModel"))


def _walk(root: Path) -> Iterator[tuple[Path, set[str]]]:
    """Every folder at or under `root` with the names of its files, hidden folders left out."""
    for place, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield Path(place), set(files)


def refuse_run_folder(path: Path) -> None:
    """ModelError, with the models in it, for a folder that holds models and is none: a run's, or
    one of its stages'."""
    if not path.is_dir() or (path / "config.json").is_file():
        return
    whole = {"config.json", TEMPLATE_FILE}
    found = [place for place, files in _walk(path) if whole <= files]
    is_run = (path / "recipe.json").is_file()
    if found:
        found.sort(key=lambda folder: (folder / "config.json").stat().st_mtime_ns, reverse=True)
        raise ModelError(
            f"this is {'the folder of a run' if is_run else 'a folder with models in it'}, and no "
            "model",
            where=path,
            remedy=f"Name {'one of its models' if len(found) > 1 else 'its model'}: "
            + ", ".join(map(str, found)),
        )
    if is_run:
        raise ModelError(
            "this is the folder of a run that has left no model yet",
            where=path,
            remedy="Run its recipe again: the same command goes on from its last checkpoint.",
        )


def _newest(root: Path) -> Located | None:
    folder = max(model_folders(root), key=lambda f: _choose(f).stat().st_mtime_ns, default=None)
    return Located(str(folder), _choose(folder), folder) if folder else None


def best_gguf(folder: Path) -> Path | None:
    """The GGUF to run among those of a folder, if it has one."""

    def rank(path: Path) -> tuple[int, str]:
        name = path.name.lower()
        places = [i for i, kind in enumerate(PREFERRED) if kind in name]
        return (places[0] if places else len(PREFERRED), name)

    return min(folder.glob("*.gguf"), key=rank, default=None)


def _choose(folder: Path) -> Path:
    """The file to run among those of a model folder: a GGUF, or else the weights."""
    weights = (folder / name for name in WEIGHTS)
    return best_gguf(folder) or next(filter(Path.is_file, weights))


def _in_folder(path: Path) -> Located:
    if found := _newest(path):
        return found
    if (path / "adapter_config.json").is_file() and not (path / "config.json").is_file():
        raise ModelError(
            "this is an adapter without its base, which cannot be talked to",
            where=path,
            remedy="Talk to the model that it was taken from, or train one of it: a recipe with "
            'model.base = "this folder" and model.adapter = "merge".',
        )
    has_template = (path / TEMPLATE_FILE).is_file()
    files = sorted(path.glob("*.gguf"))
    if not has_template and _speaks(path, {one.name for one in path.iterdir()}):
        # As transformers saves it; a GGUF of it says by itself how it is asked.
        return Located(str(path), _choose(path), None if files else path)
    if files and not has_template:
        raise ModelError(
            f"this folder has no {TEMPLATE_FILE}, so it is not a model folder",
            where=path,
            remedy=f"To talk to the GGUF file alone, name it: {files[0]}",
        )
    if has_template:
        raise ModelError(
            "this model folder has no .gguf file, and no weights of a model that writes",
            where=path,
            remedy="A reward model scores answers (`guildgpt compare`) and cannot be talked to. "
            "Was the folder copied whole?",
        )
    refuse_run_folder(path)
    raise ModelError(
        "there is no model here",
        where=path,
        remedy="Those of `guildgpt train` lie at runs/NAME/STAGE/model; was it copied whole?",
    )


def _near(model: str, path: Path, runs: Path) -> str:
    """A sentence with what the person may have meant."""
    from difflib import get_close_matches

    names = [STARTER, *(str(folder) for folder in model_folders(runs))]
    if path.parent.is_dir():
        names += [
            str(other)
            for other in path.parent.iterdir()
            if other.suffix == ".gguf" or (other.is_dir() and next(model_folders(other), None))
        ]
    by_end = {Path(name).name: name for name in names}  # "ppo" finds runs/today/ppo
    close = get_close_matches(model, names, 3, 0.6)
    close += [by_end[end] for end in get_close_matches(path.name, by_end, 3, 0.6)]
    if close:
        return f"Did you mean {' or '.join(dict.fromkeys(close))}?"
    return "Name a model folder, a .gguf file, or `starter`."
