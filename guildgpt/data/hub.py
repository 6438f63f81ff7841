"""One file of a Hugging Face data set, by name and revision: fetched once, then cached."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from guildgpt.errors import DataError


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file in the cache and the commit it belongs to."""

    path: Path
    commit: str  # 40 hexadecimal digits


def fetch(
    repo: str,
    filename: str,
    *,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    endpoint: str | None = None,
    instead: str = "a local path",
) -> Fetched:
    """The file `filename` of the data set `repo` at `revision` (a commit, branch or tag).

    A dropped connection is taken up again after the last whole piece (10 MB). Without a network a
    file that is in the cache already is used; one that is not raises DataError, whose remedy names
    `instead`.
    """
    from huggingface_hub import hf_hub_download

    try:
        path = hf_hub_download(
            repo,
            filename,
            repo_type="dataset",
            revision=revision,
            cache_dir=cache_dir,
            endpoint=endpoint,
        )
    except Exception as error:  # whatever the HTTP library beneath raises; it has changed before
        raise in_words(error, repo, revision, filename, instead) from error
    # The cache keeps it as …/snapshots/COMMIT/FILE.
    return Fetched(Path(path), commit=Path(path).parents[filename.count("/")].name)


def unreachable(error: Exception) -> bool:
    """Whether the Hub gave no answer, rather than a refusal."""
    return getattr(error, "response", None) is None


def in_words(
    error: Exception, repo: str, revision: str | None, filename: str, instead: str
) -> DataError:
    """What a fault of the Hub client means, and what to do; the remedy names `instead`."""
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    page = f"https://huggingface.co/datasets/{repo}"
    elsewhere = f"Download {filename} from {page} elsewhere, copy it here and use `{instead}`."
    # The first kind that fits counts: some are subclasses of later ones.
    faults: list[tuple[type[Exception], str, str]] = [
        (
            GatedRepoError,
            "the data set's owner asks you to accept its terms first",
            f"Accept them at {page}, then `hf auth login`.",
        ),
        (
            RevisionNotFoundError,
            f"the data set has no revision {revision}",
            "Leave `revision` out.",
        ),
        (
            LocalEntryNotFoundError,
            "the Hugging Face Hub cannot be reached, and the file is not in the cache",
            f"Check the connection; or: {elsewhere}",
        ),
        (
            EntryNotFoundError,
            f"the data set has no file {filename} at this revision",
            elsewhere,
        ),
        (
            RepositoryNotFoundError,
            "the Hub knows no such data set, or not under your login",
            f"Look for its name at https://huggingface.co/datasets. {elsewhere}",
        ),
    ]
    other = (
        f"the download failed ({type(error).__name__}: {error})",
        f"Try again; or: {elsewhere}",
    )
    known = ((what, remedy) for kind, what, remedy in faults if isinstance(error, kind))
    what, remedy = next(known, other)
    return DataError(what, where=f"{repo}@{revision}" if revision else repo, remedy=remedy)
