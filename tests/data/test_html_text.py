"""HTML as the Markdown that a chat model writes."""

from __future__ import annotations

import pytest

from guildgpt.data.html_text import markdown


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
        ("</li></blockquote></ul></pre>stray", "stray"),
        ("<pre>cut", "```\ncut\n```"),
        ("<p> </p><pre>\n</pre><ul><li></li></ul>", ""),
        ("", ""),
    ],
)
def test_in_and_out(html: str, text: str) -> None:
    assert markdown(html) == text


def test_depth_and_length_are_no_trouble() -> None:
    assert "deep" in markdown("<blockquote>" * 3000 + "deep")
    assert markdown("<p>" * 20_000 + "x") == "x"
