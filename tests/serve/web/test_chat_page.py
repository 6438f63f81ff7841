"""The chat as a person uses it, in a real browser."""

from __future__ import annotations

import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from ..slow import until
from .conftest import PHONE, Open, Site

CODE = """Here is one:

```python
def add(a, b):
    return a + b  # a comment
```

| sum | is |
|----:|----|
| 1   | 1  |

- **first**
- second
"""


def ask(page: Page, text: str) -> None:
    page.get_by_label("Your question").fill(text)
    page.get_by_label("Your question").press("Enter")


def answers(page: Page) -> list[str]:
    return [one.strip() for one in page.locator(".said.assistant .prose").all_inner_texts()]


def done(page: Page, count: int = 1) -> None:
    """Wait until so many answers are shown, with all that belongs to them."""
    expect(page.locator(".said.assistant .deeds")).to_have_count(count)


def test_an_answer_is_streamed_and_rendered(site: Site, opened: Open) -> None:
    site.engine.says = [CODE]
    site.engine.holds_after = 40
    page = opened(site.url)
    ask(page, "Write me a sum.\nPlease.")
    expect(page.locator(".bubble")).to_have_text("Write me a sum.\nPlease.")
    expect(page.locator(".said.assistant .code")).to_contain_text("def add(a, b)")
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    site.engine.holds_after = None
    done(page)
    assert page.locator(".code .k").first.inner_text() == "def"
    expect(page.locator(".prose li strong")).to_have_text("first")
    assert page.locator(".about").inner_text() == "starter@b179c952"
    page.get_by_role("link", name="Write me a sum. Please.").wait_for()
    before = answers(page)
    page.reload()
    done(page)
    assert answers(page) == before


def test_code_and_answers_are_copied(site: Site, opened: Open) -> None:
    site.engine.says = [CODE]
    page = opened(site.url, permissions=["clipboard-read", "clipboard-write"])
    ask(page, "Write me a sum.")
    done(page)
    page.get_by_role("button", name="Copy", exact=True).click()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == "def add(a, b):\n    return a + b  # a comment\n"
    page.get_by_role("button", name="Copy this answer").click()
    expect(page.get_by_text("Copied.")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == CODE


@pytest.mark.parametrize("way", ["Escape", "button"])
def test_it_is_stopped(site: Site, opened: Open, way: str) -> None:
    site.engine.says = ["one two three four five"]
    site.engine.holds_after = 3
    page = opened(site.url)
    ask(page, "Count.")
    expect(page.locator(".prose")).to_have_text("one two")
    if way == "Escape":
        page.keyboard.press("Escape")
    else:
        page.get_by_role("button", name="Stop").click()
    expect(page.locator(".note")).to_have_text("It was stopped here.")
    done(page)
    assert answers(page) == ["one two"]
    assert site.engine.running == 0


def test_an_answer_is_asked_for_again_and_both_stay(site: Site, opened: Open) -> None:
    site.engine.says = ["First.", "Second."]
    page = opened(site.url)
    ask(page, "Well?")
    done(page)
    page.get_by_role("button", name="Answer again").click()
    expect(page.locator(".prose")).to_have_text("Second.")
    group = page.get_by_role("group", name="Answer 2 of 2")
    group.get_by_role("button", name="The one before").click()
    expect(page.locator(".prose")).to_have_text("First.")
    page.get_by_role("group", name="Answer 1 of 2").wait_for()


def test_a_question_is_edited_into_a_branch(site: Site, opened: Open) -> None:
    site.engine.says = ["First.", "Second.", "Third."]
    page = opened(site.url)
    ask(page, "One?")
    done(page)
    ask(page, "Two?")
    done(page, 2)
    page.locator(".said.user").last.hover()
    page.get_by_role("button", name="Edit this question").last.click()
    field = page.locator(".edit-form textarea")
    expect(field).to_be_focused()
    assert field.input_value() == "Two?"
    field.fill("Three?")
    field.press("Enter")
    expect(page.locator(".prose").last).to_have_text("Third.")
    assert page.locator(".bubble").all_inner_texts() == ["One?", "Three?"]
    page.get_by_role("group", name="Question 2 of 2").get_by_label("The one before").click()
    expect(page.locator(".prose").last).to_have_text("Second.")


def test_chats_are_searched_renamed_and_deleted(site: Site, opened: Open) -> None:
    page = opened(site.url)
    for text in ("What is bread?", "What is steel?"):
        ask(page, text)
        done(page)
        page.get_by_role("button", name="New chat").click()
        expect(page.locator(".empty")).to_be_visible()
    page.keyboard.press("Control+k")
    search = page.get_by_label("Search your chats")
    expect(search).to_be_focused()
    search.fill("BREAD")
    expect(page.locator("#list a")).to_have_count(1)
    search.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator(".bubble")).to_have_text("What is bread?")
    page.get_by_role("button", name="Rename this chat").click()
    page.get_by_label("Title").fill("Baking")
    page.get_by_role("dialog").get_by_role("button", name="Rename").click()
    expect(page.locator("#title")).to_have_text("Baking")
    page.get_by_role("button", name="Delete this chat").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.locator(".empty")).to_be_visible()
    search.fill("")
    expect(page.locator("#list a")).to_have_text(["What is steel?"])


def test_thumbs_are_given_and_taken_back(site: Site, opened: Open) -> None:
    page = opened(site.url)
    ask(page, "Well?")
    done(page)
    up, down = page.get_by_label("A good answer"), page.get_by_label("A bad answer")
    up.click()
    expect(up).to_have_attribute("aria-pressed", "true")
    down.click()
    expect(down).to_have_attribute("aria-pressed", "true")
    expect(up).to_have_attribute("aria-pressed", "false")
    page.get_by_label("Why, if you like").fill("It is short.")
    page.get_by_label("Why, if you like").press("Enter")
    expect(page.get_by_text("Thank you.")).to_be_visible()
    page.reload()
    expect(down).to_have_attribute("aria-pressed", "true")
    [*_, newest] = site.run(site.store.snapshot()).ratings
    assert (newest.value, newest.reason) == (-1, "It is short.")
    down.click()
    expect(down).to_have_attribute("aria-pressed", "false")


def test_an_answer_is_worded_better(site: Site, opened: Open) -> None:
    page = opened(site.url)
    ask(page, "Well?")
    done(page)
    page.get_by_role("button", name="Word it better").click()
    field = page.get_by_label("Your answer")
    assert field.input_value() == "Hello."
    field.fill("Good day.")
    give = page.get_by_role("button", name="Send it")
    give.click()  # not before they say that it is theirs
    expect(page.get_by_role("dialog")).to_be_visible()
    page.get_by_label("I wrote this myself").check()
    give.click()
    expect(page.locator(".theirs")).to_contain_text("Good day.")
    [made] = site.run(site.store.snapshot()).corrections
    assert made.text == "Good day."


def test_on_a_phone_what_is_done_with_an_answer_stands_there_in_words(
    site: Site, opened: Open
) -> None:
    page = opened(site.url, viewport=PHONE)
    ask(page, "Well?")
    done(page)
    bar = page.locator(".said.assistant .deeds")
    assert bar.inner_text().split("\n") == ["More"]
    more = bar.get_by_role("button", name="More")
    more.click()
    words = ["Copy this answer", "Word it better", "Answer again", "Two answers, side by side"]
    assert bar.inner_text().split("\n") == ["More", *words]
    bar.get_by_role("button", name="Word it better").focus()
    page.keyboard.press("Escape")
    expect(more).to_be_focused()
    expect(bar.get_by_role("button", name="Word it better")).to_be_hidden()


BOXES = """() => {
    const box = (one) => one.getBoundingClientRect();
    const told = box(document.querySelector("#notice"));
    const used = [...document.querySelectorAll("button, a, textarea, input, summary")];
    const over = used.filter((one) => {
        const it = box(one);
        return one.checkVisibility() && it.width && it.left < told.right && it.right > told.left
            && it.top < told.bottom && it.bottom > told.top;
    });
    return [told.width > 0, over.map((one) => one.outerHTML)];
}"""


@pytest.mark.parametrize("size", [{"width": 1280, "height": 800}, PHONE], ids=["wide", "phone"])
def test_what_is_told_covers_nothing_that_one_uses(
    site: Site, opened: Open, size: dict[str, int]
) -> None:
    site.engine.says = ["A paragraph of words.\n\n" * 40]
    page = opened(site.url, viewport=size)
    ask(page, "Well?")
    done(page)
    page.get_by_label("A good answer").click()
    page.get_by_label("Why, if you like").press("Enter")
    expect(page.get_by_text("Thank you.")).to_be_visible()
    assert page.evaluate(BOXES) == [True, []]


def test_what_is_told_stands_before_an_open_dialog_and_outlives_it(
    site: Site, opened: Open
) -> None:
    page = opened(f"{site.url}/people")
    page.get_by_role("button", name="Invite …").click()
    page.get_by_label("Name").fill("Hanna")
    page.get_by_role("button", name="Make a link").click()
    page.get_by_role("dialog").get_by_role("button", name="Copy").click()
    told = page.get_by_role("dialog").get_by_text("Copied.")  # it is read out, too
    expect(told).to_be_visible()
    on_top = "(one) => { one.style.pointerEvents = 'auto'; const box = one.getBoundingClientRect();"
    on_top += " return document.elementFromPoint(box.x + 9, box.y + 9) === one; }"
    assert told.evaluate(on_top)
    page.get_by_role("button", name="Done").click()
    expect(page.get_by_text("Copied.")).to_be_visible()


def test_a_reader_who_looks_up_is_not_pulled_away(site: Site, opened: Open) -> None:
    site.engine.says = ["A paragraph of words.\n\n" * 120]
    site.engine.holds_after = 700
    page = opened(site.url)
    ask(page, "Tell me.")
    place = "document.querySelector('#thread').scrollTop"
    until(lambda: page.evaluate(place) > 1500)  # along with what is written
    page.evaluate("document.querySelector('#thread').scrollTop = 100")
    page.evaluate("new Promise(requestAnimationFrame)")  # the page hears of it
    page.evaluate("new Promise(requestAnimationFrame)")
    count = page.locator(".prose p").count()
    site.engine.holds_after = None
    done(page)
    assert page.locator(".prose p").count() > count
    assert page.evaluate(place) == 100


HOSTILE = """<script>alert(1)</script><img src=x onerror=alert(2)>

<svg onload=alert(3)></svg><iframe srcdoc="<script>alert(4)</script>"></iframe>

[a](javascript:alert(5)) [b](data:text/html,<script>alert(6)</script>) <javascript:alert(7)>

![c](https://evil.example/pixel.png) ![d](data:image/svg+xml,<svg onload=alert(8)>)

<style>*{display:none}</style><a href="https://evil.example" onclick="alert(9)">e</a>

[f](https://evil.example/ "x\\" onmouseover=alert(10)") `</code><script>alert(11)</script>`

```html" onload="alert(12)
</code></pre><script>alert(13)</script><math><mi xlink:href="javascript:alert(14)">
"""


def test_hostile_markdown_does_nothing(site: Site, opened: Open) -> None:
    """Any dialog, error or break of the policy fails the test: see `opened`."""
    site.engine.says = [HOSTILE]
    page = opened(site.url)
    asked_for: list[str] = []
    page.on("request", lambda request: asked_for.append(request.url))
    ask(page, HOSTILE)
    done(page)
    page.reload()
    done(page)
    for tag in (
        "script",
        "img",
        "svg",
        "iframe",
        "style",
        "math",
        "[onerror], [onload], [onclick]",
    ):
        assert page.locator(f".prose {tag}").count() == 0, tag
    for link in page.locator(".prose a").all():
        assert re.match("https?://", link.get_attribute("href") or "")
        assert link.get_attribute("rel") == "noopener noreferrer nofollow"
    assert all(url.startswith(site.url) for url in asked_for)
    assert "alert(1)" in page.locator(".prose").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [{"width": 1280, "height": 800}, PHONE], ids=["wide", "phone"])
def test_everybody_can_use_it(site: Site, opened: Open, scheme: str, size: dict[str, int]) -> None:
    site.engine.says = [CODE, HOSTILE]
    page = opened(site.url, color_scheme=scheme, viewport=size)
    accessible(page)
    ask(page, "Write me a sum.")
    done(page)
    ask(page, "And?")
    done(page, 2)
    page.get_by_label("A good answer").first.click()
    page.get_by_label("Why, if you like").wait_for()
    accessible(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    if size == PHONE:
        page.get_by_role("button", name="More").first.click()
        accessible(page)
    page.get_by_role("button", name="Word it better").first.click()
    accessible(page)


def accessible(page: Page) -> None:
    """axe-core finds nothing."""
    page.wait_for_load_state("networkidle")
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def test_the_first_paint_is_light(site: Site, opened: Open) -> None:
    page = opened(site.url)
    page.wait_for_load_state("networkidle")
    sizes = page.evaluate(
        "performance.getEntries().filter((one) => 'transferSize' in one)"
        ".map((one) => one.transferSize)"
    )
    assert len(sizes) > 5
    assert sum(sizes) < 100_000


def test_an_answer_goes_on_while_another_chat_is_looked_at(site: Site, opened: Open) -> None:
    site.engine.says = ["First.", "one two three four", "Third."]
    page = opened(site.url)
    ask(page, "What is bread?")
    done(page)
    page.get_by_role("button", name="New chat").click()
    site.engine.holds_after = 3
    ask(page, "Count.")
    expect(page.locator(".prose")).to_have_text("one two")
    page.get_by_role("link", name="What is bread?").click()
    expect(page.locator(".prose")).to_have_text("First.")
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    page.get_by_role("link", name="Count.").click()
    expect(page.locator(".prose")).to_have_text("one two")
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    site.engine.holds_after = None
    done(page)
    assert answers(page) == ["one two three four"]
    assert page.locator(".bubble").all_inner_texts() == ["Count."]
