"""Responses that are stored because a program asks for it: told again, gone on from, deleted.

Each belongs to the key that asked for it (without keys: to this machine); for others it is not
there. What a conversation was told is found by following it back, so that a response which is
deleted takes its words out of all that went on from it.
"""

from __future__ import annotations

import secrets
from typing import Annotated, Any, Literal

from fastapi import Query, Request

from guildgpt.errors import RecordGone
from guildgpt.feedback.messages.responses import TooLong
from guildgpt.feedback.records import StoredResponse
from guildgpt.feedback.store import Store
from guildgpt.serve.problems import Problem
from guildgpt.serve.replies import Json
from guildgpt.serve.requests import ResponsesRequest, Said
from guildgpt.serve.responses import Keep

LARGEST = 2**20  # characters of one response's items


async def tell(id: str, request: Request, stream: bool = False) -> Json:
    """A stored response."""
    if stream:
        raise Problem(400, "a stored response is told whole", param="stream")
    found = await _store(request).responses.of(id, _owner(request))
    if found is None:
        raise _unknown(id)
    response: Json = found.body["response"]
    return response


async def delete(id: str, request: Request) -> Json:
    """Delete it; what went on from it cannot be gone on from any more."""
    if not await _store(request).responses.delete(id, _owner(request)):
        raise _unknown(id)
    return {"id": id, "object": "response", "deleted": True}


async def items(
    id: str,
    request: Request,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Literal["asc", "desc"] = "desc",
) -> Json:
    """What a response was told: its input, and all that was said before it."""
    try:
        found = await _store(request).responses.chain(id, _owner(request))
    except RecordGone:
        raise _unknown(id) from None
    except TooLong as error:
        raise Problem(400, error.what) from error
    *before, last = found
    told = [item for one in before for item in _said(one)] + last.body["items"]
    if order == "desc":
        told.reverse()
    if after is not None:
        place = next((n for n, item in enumerate(told) if item["id"] == after), None)
        if place is None:
            raise Problem(400, f"there is no item `{after}` here", param="after")
        told = told[place + 1 :]
    page = told[:limit]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else "",
        "last_id": page[-1]["id"] if page else "",
        "has_more": len(told) > limit,
    }


async def earlier(asked: ResponsesRequest, request: Request) -> list[Said]:
    """What was said before, where a request goes on from a stored response. Raises `Problem`."""
    id = asked.previous_response_id
    if not id:
        return []
    try:
        found = await _store(request, "previous_response_id").responses.chain(id, _owner(request))
    except RecordGone:
        raise Problem(
            400,
            f"Previous response with id '{id}' not found.",
            param="previous_response_id",
            code="previous_response_not_found",
        ) from None
    except TooLong as error:
        what = f"{error.what}: begin a new one"
        raise Problem(400, what, param="previous_response_id") from error
    return [Said.model_validate(item) for one in found for item in _said(one)]


def keeping(asked: ResponsesRequest, request: Request) -> Keep:
    """What stores the response to a request. Raises `Problem` where it cannot be stored."""
    responses, owner = _store(request, "store").responses, _owner(request)
    told = [_item(one, f"input.{n}") for n, one in enumerate(asked.items) if one.type == "message"]
    if sum(len(part["text"]) for item in told for part in item["content"]) > LARGEST:
        raise Problem(400, f"at most {LARGEST:,} characters are stored", param="store")

    async def keep(response: Json) -> None:
        body = {"response": response, "items": told}
        await responses.add(response["id"], owner, response["previous_response_id"], body)

    return keep


def _said(one: StoredResponse) -> list[Any]:
    """The items of one turn of a conversation: what was said, and what was answered."""
    return [*one.body["items"], *one.body["response"]["output"]]


def _item(one: Said, place: str) -> Json:
    """A message as it is told again."""
    text: Json = {"type": "input_text", "text": one.text(place)}
    if one.role == "assistant":
        text |= {"type": "output_text", "annotations": [], "logprobs": []}
    told: Json = {"id": f"msg_{secrets.token_hex(24)}", "type": "message", "role": one.role}
    named = {"name": one.name} if one.name else {}
    return told | {"status": "completed", "content": [text]} | named


def _store(request: Request, param: str | None = None) -> Store:
    store: Store | None = request.app.state.store
    if store is None:
        what = "nothing can be stored here now: send the whole conversation as input"
        raise Problem(400, what, param=param, code="no_store")
    return store


def _owner(request: Request) -> str:
    owner: str = request.state.holder.owner
    return owner


def _unknown(id: str) -> Problem:
    return Problem(404, f"Response with id '{id}' not found.")
