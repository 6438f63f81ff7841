"""A data set of the Hub by its id: which of its files belong to a subset and a split."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from guildgpt.data import hub
from guildgpt.data.files import ABOUT, NAMED, SPLITS, File, of_split, split_of
from guildgpt.errors import DataError
from guildgpt.paths import cache_dir as own_cache

CONVERTED = "refs/convert/parquet"  # where the Hub keeps what it made Parquet of


@dataclass(frozen=True, slots=True)
class Fetched:
    """A split's files, where they lie now, and what is known of them."""

    files: list[File]
    commit: str
    licence: str  # as the set's card says; '' where it says none
    notices: list[str]


@dataclass(frozen=True, slots=True)
class Listing:
    """What the Hub says of a data set at one commit."""

    commit: str
    names: list[str]
    licence: str
    configs: list[dict[str, Any]]  # of the card: which files belong to which subset and split


def fetch_set(
    repo: str,
    *,
    split: str,
    subset: str | None,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    endpoint: str | None = None,
) -> Fetched:
    """The files of a split, fetched once and then cached.

    The card's `configs` say which they are; else the files' names do. Without a network, what was
    fetched before is used. DataError names the subsets and splits that there are.
    """
    listing = _listed(repo, revision, endpoint)
    names, notices = chosen(listing, repo, split, subset)
    files = []
    for name in names:
        found = hub.fetch(
            repo,
            name,
            revision=listing.commit,
            cache_dir=cache_dir,
            endpoint=endpoint,
            instead="file:PATH",
        )
        files.append(File(found.path, name))
    return Fetched(files, listing.commit, listing.licence, notices)


def chosen(
    listing: Listing, repo: str, split: str, subset: str | None
) -> tuple[list[str], list[str]]:
    """The names of the files of a subset's split, and what is to be said of the choice."""
    names = sorted(
        name
        for name in listing.names
        if NAMED.search(name) and name.rpartition("/")[2] not in ABOUT
    )
    if not names:
        raise DataError(
            "no file of this data set is of a kind that is read",
            where=repo,
            remedy=f'Most sets are there as Parquet, too: revision = "{CONVERTED}"',
        )
    configs = {str(one.get("config_name", "default")): one for one in listing.configs}
    configs = {name: one for name, one in configs.items() if one.get("data_files")}
    if configs:
        named = subset or _default(configs, repo)
        if named not in configs:
            raise _no_subset(repo, named, list(configs))
        notices = [f"its subset `{named}`"] if len(configs) > 1 and not subset else []
        return _of_card(configs[named], names, repo, split), notices
    if subset:
        folders = sorted({part for name in names for part in name.split("/")[:-1]})
        names = [name for name in names if subset in name.split("/")[:-1]]
        if not names:
            raise _no_subset(repo, subset, folders)
    if split == "train" and not any(map(split_of, names)):
        return names, ["no file's name tells a split: all are read"] if len(names) > 1 else []
    return of_split(names, split, repo), []


def _default(configs: Mapping[str, Mapping[str, Any]], repo: str) -> str:
    """The subset that is meant where none is named."""
    marked = next((name for name, one in configs.items() if one.get("default")), None)
    if marked or "default" in configs or len(configs) == 1:
        return marked or ("default" if "default" in configs else next(iter(configs)))
    raise DataError(
        f"this data set has {len(configs)} subsets",
        where=repo,
        remedy=f'Choose one in its source: subset = "{next(iter(configs))}". There are '
        f"{', '.join(configs)}.",
    )


def _no_subset(repo: str, subset: str, there: list[str]) -> DataError:
    return DataError(
        f"there is no subset `{subset}`",
        where=repo,
        remedy=f"There are {', '.join(there)}." if there else "Leave `subset` out.",
    )


def _of_card(config: Mapping[str, Any], names: list[str], repo: str, split: str) -> list[str]:
    """The files that a card gives for a split: one pattern or several, for the whole or by split.

    Of a pattern alone their names tell the split."""
    folder = str(config.get("data_dir") or "").strip("/")
    data = config["data_files"]
    data = data if isinstance(data, list) else [data]
    splits: dict[str, list[str]] = {}
    for one in data:
        by_split = one if isinstance(one, dict) else {"split": "", "path": one}
        paths = by_split.get("path", [])
        patterns = [paths] if isinstance(paths, str) else paths
        found = [
            name
            for name in names
            if any(fnmatch(name, f"{folder}/{one}".lstrip("/")) for one in patterns)
        ]
        splits.setdefault(str(by_split.get("split", "")), []).extend(found)
    if "" in splits:
        names = splits[""]
        told = any(map(split_of, names))
        return of_split(names, split, repo) if told or split != "train" else names
    wanted = split if split in splits else SPLITS.get(split, split)
    if splits.get(wanted):
        return splits[wanted]
    raise DataError(
        f"there is no split `{split}`",
        where=repo,
        remedy=f'Choose one in its source: split = "…". There are {", ".join(splits)}.',
    )


def _listed(repo: str, revision: str | None, endpoint: str | None) -> Listing:
    """What the Hub says of a set; what it said last, where it cannot be reached."""
    from huggingface_hub import HfApi

    kept = own_cache() / "hub" / f"{repo}@{revision or 'main'}.json".replace("/", "--")
    try:
        info = HfApi(endpoint=endpoint).dataset_info(repo, revision=revision, timeout=30)
    except Exception as error:  # whatever the HTTP library beneath raises
        if hub.unreachable(error) and kept.is_file():
            return Listing(**json.loads(kept.read_text(encoding="utf-8")))
        raise hub.in_words(error, repo, revision, "its files", "file:PATH") from error
    card: Any = info.card_data or {}
    licence, configs = card.get("license"), card.get("configs")
    listing = Listing(
        commit=info.sha or revision or "main",
        names=[one.rfilename for one in info.siblings or ()],
        licence=LICENCES.get(licence, licence) if isinstance(licence, str) else "",
        configs=[one for one in configs or () if isinstance(one, dict)],
    )
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(asdict(listing)), encoding="utf-8")
    return listing


LICENCES = {"odc-by": "ODC-By-1.0", "pddl": "PDDL-1.0", "gfdl": "GFDL-1.3-or-later"}
"""What the Hub calls otherwise than SPDX does."""
