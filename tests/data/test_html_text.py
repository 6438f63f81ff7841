"""HTML as the Markdown that a chat model writes."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guildgpt.data.html_text import markdown

NAMES = "p div b code sup sub pre table tr td ul ol li blockquote h2 hr br a"
TAGS = [f"<{end}{name}>" for name in re.findall(r"\w+", NAMES) for end in ("", "/")]
TEXTS = ["word", "`", "``", "*", "#", " ", "\n", "[", "]", ";", "="]
BROKEN = re.findall(
    r"\S+",
    "<! <![ <![x <![CDATA[ <![if ]> ]]> <!doctype <!-- --> <? ?> </ </> < > <a <a/ <a=' \" ' / & "
    "&# &#x &#xFFFFFFFF; &#xD800; &#0; &lt \0 \ud800 <script> </script> <style> </style>",
)
ENDLESS = f"&#{'9' * 5000};"


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>One.</p>\n\n<p>Two\nlines &amp; more.</p>", "One.\n\nTwo lines & more."),
        (
            "Bare <b>bold</b>, <em>soft</em>, <code>x &lt; y</code>",
            "Bare **bold**, *soft*, `x < y`",
        ),
        ("<p>a<br>b<br/></p>", "a\nb"),
        (
            "<p>Code:</p>\n<pre class='x'><code>def f():\n    return  1\n</code></pre><p>End.</p>",
            "Code:\n\n```\ndef f():\n    return  1\n```\n\nEnd.",
        ),
        ("<pre>``` in it</pre>", "````\n``` in it\n````"),
        ("<p>L:</p><ul><li>a</li><li><p>b</p></li></ul><p>e</p>", "L:\n\n- a\n- b\n\ne"),
        ("<ol><li>a</li><li>b<ul><li>c</li></ul></li><li>d</li></ol>", "1. a\n2. b\n   - c\n3. d"),
        ("<ul><li>a<li>b</ul>", "- a\n- b"),
        ("<blockquote>\n<p>q</p><p>r</p></blockquote><p>s</p>", "> q\n>\n> r\n\ns"),
        ("<h2>Title</h2><p>x</p><hr>", "## Title\n\nx\n\n---"),
        ('See <a href="https://x.example/y">this</a><img src="i.png" alt="pic">.', "See this."),
        ("<script>alert(1)</script><style>p{}</style>kept", "kept"),
        ("no &such; entity &eacute; &#233;", "no &such; entity é é"),
        ("<p>never <b>closed", "never **closed"),
        ("a <b>c</b> <b d='<i", "a **c** <b d='<i"),
        ("a<!-- b -- > <!-- c <b>d</b>", "a <!-- c **d**"),
        ("</li></blockquote></ul></pre>stray", "stray"),
        ("<pre>cut", "```\ncut\n```"),
        ("<p> </p><pre>\n</pre><ul><li></li></ul>", ""),
        ("", ""),
        ("<![foo[x]]> a", "a"),
        ("<![if x]>b<![endif]>c<![", "bc<!["),
        ("<!>a<?php?>b<!ELEMENT [>c</>d", "abcd"),
        (f"a{ENDLESS}b&#xFFFFFFFF;c&#0;", "a\ufffdb\ufffdc\ufffd"),
        ("<table><tr><td>1</td><td>2</td></tr></table>", "1 | 2"),
        (
            "<p>T:</p><table><thead>\n<tr><th>a</th><th>b</th></tr></thead>\n<tbody><tr><td></td>"
            "<td><b>2</b></td></tr><tr><td></td><td></td></tr></tbody></table><p>e</p>",
            "T:\n\na | b\n| **2**\n\ne",
        ),
        ("<table><tr><td>1<td>2<tr><td>3</table>", "1 | 2\n3"),
        ("<p>10<sup>6</sup> people, H<sub>2</sub>O</p>", "10^6 people, H_2O"),
        ("10<sup>-6</sup>, x<sup>n + 1</sup>y, z<sup></sup>", "10^-6, x^(n + 1)y, z"),
        ("<p><sub>small print</sub></p><p>a <sup>too</sup></p>", "small print\n\na too"),
        ("<p>Use</p><p><code>*</code></p><p><code>#</code></p>", "Use\n\n`*`\n\n`#`"),
        ("<p>***</p><h1></h1><p><b></b><code></code></p>", "***"),
        ("<code>a`b</code>", "``a`b``"),
        ("<code>`</code> and <code>``x</code>", "`` ` `` and ``` ``x ```"),
        ("x<sup>a<code>b</sup>c <b>d</b></code>", "x^(a`b)c **d**"),
    ],
)
def test_in_and_out(html: str, text: str) -> None:
    assert markdown(html) == text


def test_depth_and_length_are_no_trouble() -> None:
    assert "deep" in markdown("<blockquote>" * 3000 + "deep")
    assert markdown("<p>" * 20_000 + "x") == "x"


@pytest.mark.parametrize("begun", ["<a ", '<a b="', "</a ", "<!--a>", "<![a", "<?a"])
def test_markup_that_never_ends_is_text(begun: str) -> None:
    """At once: a parser that looked for every end would not be through today."""
    assert markdown(begun * 100_000).count(begun.strip()) == 100_000


@given(st.lists(st.sampled_from([*TAGS, *TEXTS, *BROKEN, ENDLESS]) | st.text(), max_size=20))
@settings(max_examples=500, deadline=None, derandomize=True)
def test_whatever_is_given_is_read(parts: list[str]) -> None:
    assert isinstance(markdown("".join(parts)), str)


@given(st.lists(st.sampled_from([*TAGS, *TEXTS, *["word"] * 10]), max_size=20))
@settings(max_examples=500, deadline=None, derandomize=True)
def test_no_word_is_lost(parts: list[str]) -> None:
    assert markdown("".join(parts)).count("word") == parts.count("word")
