"""What is wrong with a request, or with us, in OpenAI's form: `{"error": {…}}` with its status."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from guildgpt.engines.server_link import ServerBusy
from guildgpt.errors import (
    EngineDied,
    EngineError,
    GuildError,
    LimitReached,
    OfferRefused,
    RecordGone,
    SignInRefused,
    StoreError,
)
from guildgpt.talk.waiting import Busy, TooMany

log = logging.getLogger(__name__)
_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "server_error",
}


class AsciiJson(JSONResponse):
    """JSON that is ASCII: half a surrogate pair, which JSON can bring and which is told back, has
    no bytes of its own."""

    def render(self, content: Any) -> bytes:
        """The body."""
        return json.dumps(content, allow_nan=False).encode()


class Wrong(BaseModel):
    """What is wrong; `param` is the field that is."""

    message: str
    type: str
    param: str | None
    code: str | None


class Told(BaseModel):
    """An answer that is an error."""

    error: Wrong


class Problem(Exception):
    """A request that is answered by an error; `param` is the field that is wrong."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ):
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})
        kind = _KINDS.get(status, _KINDS[400] if status < 500 else _KINDS[500])
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}

    def response(self) -> AsciiJson:
        """The whole answer."""
        return AsciiJson(self.body, self.status, self.headers)


def engine_died() -> Problem:
    """What who asked an engine that died is answered with."""
    return Problem(503, "the model has failed and is started anew: ask again")


def problem_of(error: Exception) -> Problem:
    """What a failure is to who asked; what is nobody's business goes to the log alone."""
    match error:
        case Problem():
            return error
        case Busy() | TooMany() | ServerBusy():
            wait = str(math.ceil(error.seconds) or 1)
            return Problem(429, str(error), code="rate_limit", headers={"Retry-After": wait})
        case LimitReached():
            wait = str(math.ceil(error.seconds))
            what = ". ".join(filter(None, (error.what, error.remedy)))
            return Problem(429, what, code="rate_limit_exceeded", headers={"Retry-After": wait})
        case OfferRefused():
            return Problem(400, f"{error.what}. {error.remedy}", code="offer_refused")
        case EngineDied():
            log.warning("engine died: %s", error.what)
            return engine_died()
        case EngineError():
            log.error("%s", error)
            return Problem(503, "the model cannot answer now; the operator's log says why")
        case SignInRefused():
            return Problem(403, f"{error.what}. {error.remedy}", code="sign_in_refused")
        case RecordGone():
            return Problem(404, "this is not there any more", code="gone")
        case StoreError():
            log.error("%s", error)
            return Problem(503, "the store cannot be reached now; the operator's log says why")
        case GuildError():
            log.error("%s", error)
        case _:
            log.error("unforeseen", exc_info=error)
    return Problem(500, "something went wrong here; the operator's log says what")


def tell_problems(app: FastAPI) -> None:
    """Have every failure of an app answered in OpenAI's form."""

    @app.exception_handler(Exception)
    @app.exception_handler(GuildError)
    @app.exception_handler(Problem)
    async def failed(request: Request, error: Exception) -> JSONResponse:
        return problem_of(error).response()

    @app.exception_handler(RequestValidationError)
    async def wrong(request: Request, error: RequestValidationError) -> JSONResponse:
        # The deepest: where a field may be of several kinds, the kind that it nearly was.
        return _wrong(max(error.errors(), key=lambda one: len(one["loc"]))).response()

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> Response:
        page: Response | None = None
        if error.status_code == 404:
            page = await request.app.state.pages.lost(request)
        if page:
            return page
        message = f"{error.detail}: {request.method} {request.scope['path']}"
        return Problem(error.status_code, message, headers=error.headers).response()


def _wrong(first: Mapping[str, Any]) -> Problem:
    """What is wrong with a body, by its place in it."""
    # Beside fields and numbers, pydantic names the kind that it tried: "str", "list[int]".
    parts = [str(part) for part in first["loc"] if part not in ("body", "str")]
    place = [part for part in parts if "[" not in part]
    if first["type"] == "json_invalid":
        return Problem(400, f"the body is no JSON: {first.get('ctx', {}).get('error', '')}")
    param = ".".join(place) or None
    if param is None and first["type"].endswith("attributes_type"):
        # A body of another kind comes as its bytes: that is what curl sends unless it is told.
        what = "the body is no JSON object; send one, and `Content-Type: application/json` with it"
        return Problem(400, what)
    return Problem(400, f"{param or 'the body'}: {first['msg']}", param=param)
