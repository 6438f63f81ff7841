"""Pages and the files they are made of, with the headers that keep them closed to others.

A page is put together here, once for each role and theme: the frame with its menu (`shell.html`)
around what is the page's own. Nothing in it comes from people but the signed-in name, and that is
escaped.
"""

from __future__ import annotations

import hashlib
import html
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from starlette.routing import Match

from guildgpt.errors import StoreError
from guildgpt.feedback.records import Account
from guildgpt.serve.guard import LOCAL, name_of
from guildgpt.serve.problems import Problem
from guildgpt.serve.web.registry import PAGES, Page
from guildgpt.serve.web.signing import set_cookie
from guildgpt.serve.web.who import account_and_session, here

STATIC = Path(__file__).parent / "static"
KINDS = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
PROGRAMS = ("/api/", "/v1/", "/static/")  # what no person comes to
THEME = "guildgpt_theme"  # a cookie: the server draws the page in its colours from the first moment
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
CLOSED = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_HOLE = re.compile(r"\{\{(\w+)\}\}")


@dataclass(frozen=True)
class Pages:
    """All pages, and the files by their names."""

    files: dict[str, bytes]

    @classmethod
    def read(cls) -> Pages:
        """Read every file once."""
        return cls({path.name: path.read_bytes() for path in STATIC.iterdir() if path.is_file()})

    def router(self) -> APIRouter:
        """The routes of pages and files."""
        router = APIRouter(include_in_schema=False)
        for page in PAGES:
            router.add_api_route(page.path, self._showing(page), methods=["GET", "HEAD"])
        router.add_api_route("/static/{name}", self.file, methods=["GET", "HEAD"])
        return router

    async def file(self, name: str, request: Request) -> Response:
        """A style sheet, a script or a picture."""
        kind = KINDS.get(Path(name).suffix)
        if name not in self.files or kind is None:
            raise Problem(404, f"there is no file {name}")
        return answer(request, self.files[name], f"{kind}; charset=utf-8")

    async def lost(self, request: Request) -> Response | None:
        """What a person's browser is shown at an address where nothing is. None for programs, which
        do not ask for HTML, for what programs alone ask for, and where something is."""
        asks_for_html = "text/html" in request.headers.get("accept", "")
        if request.method not in ("GET", "HEAD") or not asks_for_html:
            return None
        if request.scope["path"].startswith(PROGRAMS) or _is_something(request):
            return None
        return self._shown(request, _LOST, *await _account(request), 404)

    def html(self, page: Page, account: Account | None, theme: str | None) -> bytes:
        """A page as this account sees it."""
        role = account.role if account else None
        menu = [
            f'<a href="{one.path}"{_current(one, page)}>{html.escape(one.in_menu)}</a>'
            for one in PAGES
            if one.in_menu and one.is_for(role) and account
        ]
        own_styles = (page.name,) if f"{page.name}.css" in self.files else ()
        scripts = (page.name,) if f"{page.name}.js" in self.files else ()
        parts = {
            "theme": f' data-theme="{theme}"' if theme in ("light", "dark") else "",
            "title": html.escape(page.title),
            "name": page.name,
            "role": role or "nobody",
            "account": html.escape(account.name) if account else "",
            "menu": "".join(menu),
            "styles": "".join(
                f'<link rel="stylesheet" href="/static/{one}.css">'
                for one in (*page.styles, *own_styles)
            ),
            "scripts": "".join(
                f'<script type="module" src="/static/{one}.js"></script>' for one in scripts
            ),
        }
        parts["page"] = self.files[f"{page.name}.html"].decode()
        shell = self.files["shell.html"].decode()
        # In one go: a hole in what is filled in stays what it is.
        return _HOLE.sub(lambda hole: parts.get(hole[1], hole[0]), shell).encode()

    def _showing(self, page: Page) -> Callable[[Request], Awaitable[Response]]:
        async def show(request: Request) -> Response:
            """The page; who has not signed in is led to where one does."""
            # Where one signs in, nobody is, even who needs no account at this machine.
            account, begun = None, None
            if page.seen_by != "anybody":
                account, begun = await _account(request)
            shown = page
            if not page.is_for(account.role if account else None):
                if account is None:
                    to = f"?to={quote(page.path, safe='')}" if page.path != "/" else ""
                    return RedirectResponse(f"/join{to}", 303, headers=CLOSED | _FRESH)
                shown = _REFUSED
            return self._shown(request, shown, account, begun, 200 if shown is page else 403)

        return show

    def _shown(
        self, request: Request, page: Page, account: Account | None, begun: str | None, status: int
    ) -> Response:
        """A page, and with it the session that was `begun` for who is at the machine."""
        body = self.html(page, account, request.cookies.get(THEME))
        response = answer(request, body, "text/html; charset=utf-8", status)
        if begun:
            set_cookie(response, request, here(request), begun)
        return response


_FRESH = {"Cache-Control": "no-cache"}
_REFUSED = next(page for page in PAGES if page.name == "refused")
_LOST = next(page for page in PAGES if page.name == "lost")


def _is_something(request: Request) -> bool:
    """Whether there is a route at the address."""
    return any(one.matches(request.scope)[0] is not Match.NONE for one in request.app.routes)


def _current(entry: Page, page: Page) -> str:
    """How an entry of the menu is marked on a page: as that page, or as the wing that it is in."""
    if entry is page:
        return ' aria-current="page"'
    return ' aria-current="true"' if entry.name == page.wing else ""


async def _account(request: Request) -> tuple[Account | None, str | None]:
    """See `account_and_session`; nobody where the store is not there to say who it is."""
    try:
        return await account_and_session(request)
    except (Problem, StoreError):
        return None, None


def answer(request: Request, body: bytes, kind: str, status: int = 200) -> Response:
    """A body that browsers keep, and ask every time whether it is still the same."""
    tag = f'"{hashlib.sha256(body).hexdigest()[:20]}"'
    headers = CLOSED | _FRESH | {"ETag": tag, "Vary": "Cookie"}
    # Elsewhere browsers do not heed it, and log an error for each page.
    if request.scope["scheme"] == "https" or name_of(request.headers.get("host", "")) in LOCAL:
        headers["Cross-Origin-Opener-Policy"] = "same-origin"
    if status == 200 and tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(body, status, headers, media_type=kind)
