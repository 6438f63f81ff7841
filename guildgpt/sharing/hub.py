"""The Hugging Face Hub as `guildgpt push` uses it: who one is there, what is there, and sending.

Files travel as `huggingface_hub` sends them: what arrived before a break is not sent again, and
nothing is seen of a commit until it is whole.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from guildgpt import __version__
from guildgpt.errors import GuildError
from guildgpt.sharing.parcel import Item

if TYPE_CHECKING:
    from huggingface_hub import HfApi

TOKENS = "https://huggingface.co/settings/tokens"
LOG_IN = f"Make one that may write at {TOKENS}, then `hf auth login`, or set HF_TOKEN to it."
NETWORK = {"httpx", "httpx2", "httpcore", "requests", "urllib3", "hf_xet"}  # who sends
_SECRET = re.compile(r"hf_\w+|https?://\S+")  # addresses to send to are signed


class HubError(GuildError):
    """The Hub did not do what it was asked to."""


@dataclass(frozen=True, slots=True)
class There:
    """A repository as it is on the Hub; `private` is None where there is none of that name."""

    repo: str
    user: str
    private: bool | None


def log_in() -> HfApi:
    """The Hub's client, with the token that this machine has; HubError where it has none."""
    from huggingface_hub import HfApi, get_token

    token = get_token()
    if not token:
        raise HubError("this machine has no token for the Hugging Face Hub", remedy=LOG_IN)
    return HfApi(token=token, library_name="guildgpt", library_version=__version__)


def look(api: HfApi, repo: str) -> There:
    """Whether a repository is there, and that the token's owner may write it, as far as one can
    know before."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        who: dict[str, Any] = api.whoami()
    except Exception as error:  # whatever the HTTP library beneath raises; it has changed before
        raise in_words(error, repo) from error
    _check_may_write(who, repo)
    user = str(who.get("name"))
    try:
        return There(repo, user, bool(api.model_info(repo, timeout=30).private))
    except RepositoryNotFoundError:
        return There(repo, user, None)
    except Exception as error:
        raise in_words(error, repo) from error


def send(
    api: HfApi, items: Sequence[Item], there: There, *, public: bool, revision: str | None
) -> str:
    """Make the repository if need be, and send the files as one commit. Its address."""
    from huggingface_hub import CommitOperationAdd

    repo = there.repo
    try:
        if there.private is None:
            api.create_repo(repo, private=not public, exist_ok=True)
        if revision:
            api.create_branch(repo, branch=revision, exist_ok=True)
        operations = [CommitOperationAdd(item.name, item.content) for item in items]
        done = api.create_commit(
            repo,
            operations,
            commit_message=f"Sent by GuildGPT {__version__}",
            revision=revision,
        )
    except Exception as error:
        raise in_words(error, repo) from error
    return str(done.commit_url)


def in_words(error: Exception, repo: str) -> HubError:
    """What a fault of the Hub or of the way there means, and what to do. No address and no token
    is in it."""
    status, said = _status(error), _said(error)
    owner = repo.partition("/")[0]
    again = "What has arrived is there already: the same command goes on with the rest."
    match status:
        case None if not _of_the_network(error):
            return HubError(
                f"it could not be sent ({said})",
                where=repo,
                remedy=f"Are the files whole, and readable? Then try again. {again}",
            )
        case None:
            return HubError(
                f"the Hub was not reached, or the connection broke off ({said})",
                where=repo,
                remedy=f"Check the network. {again}",
            )
        case 401:
            return HubError(
                "the Hub does not know the token of this machine",
                where=repo,
                remedy=f"It was mistyped, or is no longer valid. {LOG_IN} (HF_TOKEN goes before "
                "a login, where it is set.)",
            )
        case 403:
            return HubError(
                f"the token may not write to {repo} ({said})",
                where=repo,
                remedy=f"Give it the right to write repositories of {owner} at {TOKENS}, or push "
                "to a name under your own account.",
            )
        case 404:
            return HubError(
                f"the Hub does not find {repo}, or not under your login ({said})",
                where=repo,
                remedy=f"Is {owner} your account, or an organization that you belong to?",
            )
        case 400 | 422:
            return HubError(
                f"the Hub does not take it as it is ({said})",
                where=repo,
                remedy="If it is about the card: the header of README.md in the model's folder.",
            )
        case 409 | 412:
            return HubError(
                f"somebody else wrote to {repo} at the same moment ({said})",
                where=repo,
                remedy=again,
            )
        case 429:
            return HubError("the Hub asks to wait: too many requests", where=repo, remedy=again)
        case _:
            return HubError(
                f"the Hub answers with an error, {status} ({said})",
                where=repo,
                remedy=f"Look at https://status.huggingface.co, and try later. {again}",
            )


def _check_may_write(who: dict[str, Any], repo: str) -> None:
    """HubError where the token's kind or its owner's names say that this will be refused."""
    owner, user = repo.partition("/")[0], str(who.get("name"))
    token = (who.get("auth") or {}).get("accessToken") or {}
    if token.get("role") == "read":
        raise HubError(
            f"the token of this machine (of {user}) may only read",
            where=repo,
            remedy=LOG_IN,
        )
    names = [user, *(str(one.get("name")) for one in who.get("orgs") or ())]
    if owner.lower() not in map(str.lower, names):
        raise HubError(
            f"you are {user} on the Hub, and {owner} is neither you nor an organization of yours",
            where=repo,
            remedy=f"Push to {user}/{repo.partition('/')[2]}, or log in as somebody else: `hf auth "
            "login`.",
        )


def _status(error: BaseException | None) -> int | None:
    """The HTTP status behind an error, or behind what it came from."""
    while error is not None:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if isinstance(status, int):
            return status
        error = error.__cause__
    return None


def _of_the_network(error: BaseException | None) -> bool:
    """Whether an error, or what it came from, is one of a connection's."""
    while error is not None:
        libraries = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
        if libraries & NETWORK or isinstance(error, ConnectionError | TimeoutError):
            return True
        error = error.__cause__
    return False


def _said(error: BaseException) -> str:
    """What the Hub said, or the error itself, in a line without secrets."""
    inner: BaseException = error
    while inner.__cause__ is not None and not getattr(inner, "server_message", None):
        inner = inner.__cause__
    text = str(getattr(inner, "server_message", None) or inner).strip().partition("\n")[0]
    return _SECRET.sub("…", text).strip() or type(inner).__name__
