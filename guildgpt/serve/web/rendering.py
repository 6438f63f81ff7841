"""What a model wrote, as HTML that can do nothing: Markdown without HTML in it, code in colours.

Two walls stand between an answer and the page: the parser makes no tag that is not in its rules,
and what it made is cleaned once more of all that is not named here. Links lead away only when they
are clicked, and tell nothing of where from; pictures are links, so that nothing is loaded by being
shown.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import nh3
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.token import STANDARD_TYPES
from pygments.util import ClassNotFound

from guildgpt.text.visible import harmless

LONGEST = 200_000  # characters that are read as Markdown; longer texts are shown as they are
LONGEST_CODE = 10_000  # characters of a block that is coloured, and of one of its lines
LONGEST_LINE = 2_000
DEEPEST = 20  # quotes and lists inside one another
# Pygments knows hundreds of languages, some of them by patterns that a hostile text keeps busy for
# minutes, and the whole process with them: C#, Java, INI and console sessions are such. These are
# read by many eyes.
_LANGUAGES = """
bash c cpp c++ css diff docker dockerfile go golang html http javascript js json jsx kotlin kt lua
make makefile markdown md php powershell py python python3 r rb ruby rs rust scala sh shell sql
swift toml ts tsx typescript xml yaml yml zsh
"""
_TAGS = """
a blockquote br code div em figcaption figure h3 h4 h5 h6 hr li ol p pre s span strong table tbody
td th thead tr ul
"""
LANGUAGES, TAGS = frozenset(_LANGUAGES.split()), set(_TAGS.split())
_CLASSES = {
    "span": {name for name in STANDARD_TYPES.values() if name},
    "div": {"scroll"},
    "figure": {"code"},
    "p": {"plain"},
    "td": {"left", "right", "center"},
    "th": {"left", "right", "center"},
}
SCHEMES = {"http", "https", "mailto"}


class Rendering:
    """Renders answers; one for all of a process, in any thread."""

    def html(self, text: str) -> str:
        """A whole answer."""
        return "".join(self.blocks(text))

    def blocks(self, text: str) -> list[str]:
        """An answer block by block; a text that is too long, or too deeply nested, as it is."""
        text = harmless(text)
        tokens = self._markdown.parse(text, {}) if len(text) <= LONGEST else None
        # What is nested deeper than that, the parser leaves out: nobody's words are lost here.
        if tokens is None or any(token.level >= DEEPEST - 1 for token in tokens):
            return [f'<p class="plain">{html.escape(text)}</p>']
        return [
            self._clean(self._markdown.renderer.render(block, self._markdown.options, {}))
            for block in _blocks(tokens)
        ]

    def cut(self, text: str) -> int:
        """Where the last block of a text begins that is still being written: what stands before it
        is done. A line without its end may become anything, so that only whole ones count."""
        whole = text[: text.rfind("\n") + 1]
        if not whole or len(text) > LONGEST:
            return 0
        places = [block[0].map for block in _blocks(self._markdown.parse(whole, {}))]
        if len(places) < 2 or places[-1] is None:
            return 0
        at = 0
        for _ in range(places[-1][0]):
            at = whole.index("\n", at) + 1
        return at

    @cached_property
    def _markdown(self) -> MarkdownIt:
        options = {"html": False, "linkify": False, "typographer": False, "maxNesting": DEEPEST}
        markdown = MarkdownIt("commonmark", options, renderer_cls=_Renderer)
        markdown.validateLink = _leads_away  # type: ignore[method-assign]
        return markdown.enable(["table", "strikethrough"])

    def _clean(self, made: str) -> str:
        return nh3.clean(
            made,
            tags=TAGS,
            clean_content_tags={"script", "style"},
            attributes={"a": {"href", "title", "target"}, "ol": {"start"}},
            allowed_classes=_CLASSES,
            attribute_filter=_kept,
            url_schemes=SCHEMES,
            link_rel="noopener noreferrer nofollow",
            set_tag_attribute_values={"a": {"target": "_blank"}},
        )


class Growing:
    """An answer that is being written: its blocks that are done, each of them once, and the open
    end, which is rendered anew as it grows."""

    def __init__(self, rendering: Rendering):
        self._rendering = rendering
        self._sent = ""  # as HTML
        self._done = 0  # characters of the text

    def grow(self, text: str) -> tuple[str, str]:
        """The answer's text as it is by now: what is done of it since the last time, and its open
        end."""
        text = harmless(text)
        end = self._done + self._rendering.cut(text[self._done :])
        done = self._rendering.html(text[self._done : end])
        self._sent += done
        self._done = end
        return done, self._rendering.html(text[end:])

    def end(self, text: str) -> tuple[str, str, str | None]:
        """The same for the whole answer; and all of it, if its blocks became something else
        together than they were one by one, as links do whose address comes later."""
        done, rest = self.grow(text)
        whole = self._rendering.html(text)
        return done, rest, None if self._sent + rest == whole else whole


def _leads_away(url: str) -> bool:
    """Whether a link leads to somewhere else: none may call this server's own addresses."""
    return url.strip().lower().partition(":")[0] in SCHEMES and ":" in url


def _kept(tag: str, name: str, value: str) -> str | None:
    """What the second wall makes of an attribute."""
    return None if name == "href" and not _leads_away(value) else value


def _blocks(tokens: Sequence[Token]) -> list[list[Token]]:
    """The tokens of each block that stands in no other."""
    blocks: list[list[Token]] = []
    depth = 0
    for token in tokens:
        if depth == 0:
            blocks.append([])
        blocks[-1].append(token)
        depth += token.nesting
    return blocks


class _Renderer(RendererHTML):
    """markdown-it's, with our code blocks, tables and headings, and pictures as links."""

    def fence(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        """A block of code, in the colours of its language."""
        language = tokens[idx].info.split(maxsplit=1)[0] if tokens[idx].info.strip() else ""
        return _code(tokens[idx].content, language)

    def code_block(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        """A block of code that is one by standing further right."""
        return _code(tokens[idx].content, "")

    def image(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        """A picture is a link to it."""
        token = tokens[idx]
        name = self.renderInlineAsText(token.children or [], options, env) or "picture"
        href = html.escape(str(token.attrGet("src") or ""))
        return f'<a href="{href}">{html.escape(name)}</a>' if href else html.escape(name)

    def heading_open(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        """A heading below the page's own two."""
        return f"<{_level(tokens[idx].tag)}>"

    def heading_close(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        """Its end."""
        return f"</{_level(tokens[idx].tag)}>\n"

    def table_open(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        """A table that is wider than the page is moved inside its own frame."""
        return '<div class="scroll"><table>\n'

    def table_close(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        """Its end."""
        return "</table></div>\n"

    def th_open(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        """A cell; how it is aligned is a class, for a page without inline styles."""
        return _cell(tokens[idx])

    def td_open(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        """The same."""
        return _cell(tokens[idx])


def _level(tag: str) -> str:
    return f"h{min(6, int(tag[1]) + 2)}"


def _cell(token: Token) -> str:
    style = str(token.attrGet("style") or "")
    aligned = style.partition(":")[2]
    return f'<{token.tag} class="{aligned}">' if aligned else f"<{token.tag}>"


def _code(code: str, language: str) -> str:
    name = html.escape(language[:30])
    caption = f"<figcaption>{name}</figcaption>" if name else ""
    inner = f"<pre><code>{_coloured(code, language)}</code></pre>"
    return f'<figure class="code">{caption}{inner}</figure>'


def _coloured(code: str, language: str) -> str:
    long = len(code) > LONGEST_CODE or any(len(line) > LONGEST_LINE for line in code.splitlines())
    if long or language.lower() not in LANGUAGES:
        return html.escape(code)
    try:
        lexer = get_lexer_by_name(language.lower(), stripnl=False, ensurenl=False)
    except ClassNotFound:
        return html.escape(code)
    return str(highlight(code, lexer, HtmlFormatter(nowrap=True)))
