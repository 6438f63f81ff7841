"""What a model wrote becomes HTML that can do nothing, whatever it is."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guildgpt.serve.web.rendering import LONGEST, TAGS, Growing, Rendering

RENDERING = Rendering()
ATTRIBUTES = {
    *("class", "start"),
    *("href", "rel", "target", "title"),
}


class Found(HTMLParser):
    """The tags of some HTML, with their attributes, and its text."""

    def __init__(self, html: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def check(html: str) -> Found:
    """Nothing in it does anything by itself, or by a click leads anywhere but to the web."""
    found = Found(html)
    for tag, attributes in found.tags:
        assert tag in TAGS
        assert attributes.keys() <= ATTRIBUTES
        if "href" in attributes:
            assert tag == "a"
            assert (attributes["href"] or "").lower().startswith(("http:", "https:", "mailto:"))
        if tag == "a":
            assert attributes["rel"] == "noopener noreferrer nofollow"
    return found


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "<svg/onload=alert(1)>",
        "[x](javascript:alert(1))",
        "[x](JaVaScRiPt:alert(1))",
        "[x](java\tscript:alert(1))",
        "[x](&#106;avascript:alert(1))",
        "[x](data:text/html;base64,PHNjcmlwdD4=)",
        "[x](vbscript:x) [y](file:///etc/passwd) [z](//evil.example) [w](/api/leave)",
        "<javascript:alert(1)>",
        "![x](javascript:alert(1))",
        "![x](data:image/svg+xml;base64,AAAA)",
        '![x" onerror="alert(1)](http://e.example/a.png)',
        '[x](http://e.example "\\" onmouseover=\\"alert(1)")',
        "[x]: javascript:alert(1)\n\n[x]",
        '```" onload="alert(1)\nx',
        "```<script>\nalert(1)\n```",
        "`</code><script>alert(1)</script>`",
        "|<script>|\n|-|\n|<img src=x>|",
        "<style>*{display:none}</style>",
        "<a href=javascript:alert(1)>x</a>",
        "<!--><script>alert(1)</script>-->",
        "\x00<script>\x00alert(1)",
        "&lt;script&gt;alert(1)",
    ],
)
def test_hostile_texts_are_shown_and_not_run(text: str) -> None:
    check(RENDERING.html(text))
    growing = Growing(RENDERING)
    for end in range(len(text) + 1):
        for html in growing.grow(text[:end]):
            check(html)


MARKS = st.sampled_from(
    [
        *"<>&\"'`*_[]()!#|~\\-+=:/ \n\t\r",
        *("```", "\n\n", "    ", "1. ", "](", "![", "http://e.example", "\u202e", "\x00"),
        *("<script>", "javascript:", "onerror=", "&#x6a;", "</code>", "<!--", "data:"),
    ]
)


@settings(max_examples=300)
@given(st.lists(st.one_of(MARKS, st.text(max_size=4)), max_size=40).map("".join))
def test_any_text_at_all_is_harmless(text: str) -> None:
    check(RENDERING.html(text))


@settings(max_examples=100)
@given(st.lists(MARKS, max_size=40).map("".join), st.data())
def test_a_growing_answer_becomes_the_whole_one(text: str, data: st.DataObject) -> None:
    """Whatever the pieces that it comes in."""
    ends = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    growing, sent = Growing(RENDERING), ""
    for end in ends:
        done, rest = growing.grow(text[:end])
        sent += done
        check(sent + rest)
    done, rest, whole = growing.end(text)
    shown = sent + done + rest if whole is None else whole
    assert shown == RENDERING.html(text)


def test_blocks_that_are_done_are_sent_once() -> None:
    text = "One.\n\n- a\n- b\n\n```python\nx = 1\n\ny = 2\n```\n\nLast\n"
    growing = Growing(RENDERING)
    sent = [growing.grow(text[:end])[0] for end in range(len(text) + 1)]
    done = [one for one in sent if one]
    assert done == ["<p>One.</p>\n", "<ul>\n<li>a</li>\n<li>b</li>\n</ul>\n", done[2]]
    assert done[2].startswith('<figure class="code">')


def test_what_an_answer_is_made_of() -> None:
    html = RENDERING.html(
        "# Title\n\n**bold** *so* ~~no~~ `code`\n\n> said\n\n1. one\n2. two\n\n"
        "|a|b|\n|:-|-:|\n|1|2|\n\n```py\nif x: pass\n```\n\n[in](https://e.example/a?b=1&c=2)"
    )
    found = check(html)
    tags = [tag for tag, _ in found.tags]
    for tag in ("h3", "strong", "em", "s", "code", "blockquote", "ol", "table", "pre", "a"):
        assert tag in tags, tag
    assert ("span", {"class": "k"}) in found.tags
    assert ("td", {"class": "right"}) in found.tags
    assert "style" not in html
    assert 'href="https://e.example/a?b=1&amp;c=2"' in html
    assert 'target="_blank"' in html


def test_a_picture_is_a_link_to_it() -> None:
    found = check(RENDERING.html("![A **cat**](https://e.example/cat.png)"))
    [(_, link)] = [one for one in found.tags if one[0] == "a"]
    assert (found.text.strip(), link["href"]) == ("A cat", "https://e.example/cat.png")
    assert "img" not in [tag for tag, _ in found.tags]


@pytest.mark.parametrize(
    "text",
    [
        "word **b** `c`\n\n" * 70_000,  # a megabyte
        ">" * 100_000,
        "".join("  " * deep + "- a\n" for deep in range(300)),
        "[" * 50_000,
        "![a](" * 20_000,
        "*a **b " * 20_000,
        "".join("`" * count + "a" for count in range(500)),
        "```python\n" + "x = '" * 20_000,
        *(f"```{name}\n" + "a\n" * 40_000 for name in ("cs", "java", "sql")),
        "```cs\n" + "a\n" * 14_900,
        "```java\n" + "a " * 900 + "\n",
        "```ini\n" + ": a" * 600 + "\n",
        "|a" * 3000 + "\n" + "|-" * 3000 + "\n" + "|b" * 3000,
        "<" * 100_000,
        "&#x" * 50_000,
    ],
    ids=lambda text: text[:8].strip(),
)
def test_what_is_long_or_deep_ends_and_loses_no_words(text: str) -> None:
    found = check(RENDERING.html(text))
    assert found.text.count("a") == text.count("a")
    if len(text) > LONGEST:
        assert found.text == text


def test_direction_is_not_turned_for_what_comes_after() -> None:
    assert "\u202e" not in RENDERING.html("`access_level\u202e\u2066// admin`")
    assert "שלום" in RENDERING.html("שלום")
