"""One request to the REST API, read from the wire, and its answer, written to it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from simguild.fake.errors import ApiError
from simguild.fake.messages import Upload

_FILE = re.compile(r"files\[(\d+)\]")


@dataclass(frozen=True, slots=True)
class Call:
    """The path's parts, the query, the JSON body and the files that came with it."""

    path: Mapping[str, str]
    query: Mapping[str, str]
    body: Any
    files: dict[int, Upload]

    def id(self, name: str) -> int:
        """A snowflake of the path."""
        return int(self.path[name])


Handler = Callable[[Call], Any]  # gives the answer's JSON, or None for 204
Route = tuple[str, str, Handler, str]  # method, path, handler, the rate limit's bucket


async def read(request: web.Request) -> Call:
    """The request as JSON, or as multipart with `payload_json` and `files[n]`."""
    body: Any = {}
    files: dict[int, Upload] = {}
    try:
        if request.content_type == "multipart/form-data":
            for name, part in (await request.post()).items():
                numbered = _FILE.fullmatch(name)
                if isinstance(part, web.FileField) and numbered:
                    file = Upload(part.filename, part.file.read(), part.content_type)
                    files[int(numbered[1])] = file
                elif name == "payload_json" and isinstance(part, str):
                    body = json.loads(part)
        elif request.can_read_body:
            body = json.loads(await request.read())
    except ValueError as error:
        words = "The request body contains invalid JSON."
        raise ApiError(400, 50109, words, violation="invalid JSON") from error
    return Call(request.match_info, request.query, body, files)


def reply(status: int, body: object, headers: Mapping[str, str]) -> web.Response:
    """An answer of JSON, its type without a charset, as discord.py compares it."""
    data = json.dumps(body, separators=(",", ":")).encode()
    return web.Response(
        status=status, body=data, content_type="application/json", headers=dict(headers)
    )
