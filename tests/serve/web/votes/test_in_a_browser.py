"""Votes by people with a browser: by keyboard, on a phone, without the server for a while."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Route, expect

from guildgpt.feedback.records import Candidate
from guildgpt.feedback.voting.prompts import NewPrompt

from ...conftest import VERSION
from ..conftest import PHONE, Open, Site
from .visiting import READ, answers, come_in, press, text_of, texts_of, until, votes
from .voters import NEW, ballot, next_round, try_out

PAGES = (
    "rounds",
    "ranking",
    "compare",
    *("versions", "pool", "corrections", "reports"),
    "people",
    "runs",
)


def test_rounds_are_played_by_keyboard(site: Site, opened: Open) -> None:
    page = come_in(opened, site, "/rounds")
    first = answers(page)
    press(page, "a")
    expect(page.locator(".answer .text").first).not_to_have_text(first[0])
    second = answers(page)
    assert set(first).isdisjoint(second)
    (vote,) = until(page, site, 1)
    assert text_of(site, vote, 0) == first[0]
    press(page, "u")  # taken back, and said anew
    assert answers(page) == first
    press(page, "ArrowRight")
    assert answers(page) == second
    _, again = until(page, site, 2)
    assert again.comparison_id == vote.comparison_id
    assert text_of(site, again, 0) == first[1]
    for number, (key, verdict) in enumerate(
        [("t", "tie"), ("x", "both_bad"), ("s", "skip")], start=3
    ):
        shown = answers(page)
        press(page, key)
        expect(page.locator(".answer .text").first).not_to_have_text(shown[0])
        assert until(page, site, number)[-1].verdict == verdict
    page.get_by_text("What you said").click()
    expect(page.locator("#past li")).to_have_count(4)
    expect(page.locator("#past li").nth(3)).to_contain_text("B better")


def test_keys_mean_nothing_where_one_types_or_has_not_read(site: Site, opened: Open) -> None:
    page = come_in(opened, site, "/rounds")
    shown = answers(page)
    page.wait_for_timeout(READ)
    page.keyboard.press("Control+a")
    page.keyboard.press("q")
    assert answers(page) == shown
    assert votes(site) == []
    page.get_by_label("Single keys are votes").uncheck()
    press(page, "a")
    page.reload()
    answers(page)
    press(page, "a")
    assert votes(site) == []
    page.get_by_label("Single keys are votes").check()
    page.evaluate(  # a key at the very moment at which the next pair appears
        """() => new MutationObserver(() =>
            document.body.dispatchEvent(new KeyboardEvent("keydown", {key: "b", bubbles: true}))
        ).observe(document.querySelector("#stage"), {childList: true})"""
    )
    press(page, "b")
    expect(page.locator(".answer .text").first).not_to_have_text(shown[0])
    until(page, site, 1)


def test_one_who_has_voted_on_all_is_told_what_they_wait_for(site: Site, opened: Open) -> None:
    try_out(site)
    page = come_in(opened, site, "/rounds", expects=("409",))
    expect(page.locator("#about")).to_contain_text("A new version is being tried")
    for number in range(1, 6):
        answers(page)
        assert NEW.id not in page.content()
        press(page, "b")
        until(page, site, number)
    expect(page.get_by_role("heading", name="You are up to date")).to_be_visible()
    press(page, "u")
    expect(page.locator(".answer.chosen")).to_have_count(1)


def test_while_the_server_is_away_the_vote_is_kept_and_sent_once(site: Site, opened: Open) -> None:
    page = come_in(opened, site, "/rounds", expects=("503", "Failed to load"))
    answers(page)
    page.wait_for_timeout(READ)
    store, site.app.state.store = site.store, None
    page.keyboard.press("a")
    expect(page.locator("#kept")).to_contain_text("kept in this browser")
    assert page.evaluate("Object.keys(localStorage).length") == 1
    site.app.state.store = store
    page.reload()  # even a page that was closed meanwhile sends it
    until(page, site, 1)
    expect(page.locator("#kept")).to_be_hidden()
    assert page.evaluate("localStorage.length") == 0


def test_a_vote_whose_answer_was_lost_is_sent_again_and_counts_once(
    site: Site, opened: Open
) -> None:
    page = come_in(opened, site, "/rounds", expects=("Failed to load",))
    sent: list[str] = []

    def lose(route: Route) -> None:
        sent.append(route.request.post_data or "")
        if len(sent) == 1:
            route.fetch()  # it arrives, and the answer is lost
            route.abort()
        else:
            route.continue_()

    page.route("**/api/votes", lose)
    answers(page)
    press(page, "a")
    expect(page.locator("#kept")).to_be_visible()
    expect(page.locator("#kept")).to_be_hidden()
    assert sent[0] == sent[1]
    assert len(votes(site)) == 1


def test_a_vote_that_is_refused_is_told(site: Site, opened: Open) -> None:
    page = come_in(opened, site, "/rounds", expects=("409",))
    answers(page)
    page.wait_for_timeout(READ)
    for one in site.run(site.store.rounds.in_state("open")):
        site.run(site.store.rounds.end(one.id, "closed"))
    page.keyboard.press("a")
    expect(page.locator("#notice")).to_contain_text("This round has closed meanwhile")
    assert votes(site) == []


def test_answers_are_ranked_by_keyboard_with_equals(site: Site, opened: Open) -> None:
    page = come_in(opened, site, "/ranking")
    items = page.locator(".places > li")
    expect(items).to_have_count(4)
    texts = page.locator(".places .text").all_inner_texts()
    items.nth(3).focus()
    for _ in range(3):
        page.keyboard.press("ArrowUp")  # the last is the best
    items.nth(2).focus()
    page.keyboard.press("=")  # and the third as good as the second
    assert items.nth(2).get_attribute("aria-label") == "Answer B, place 2, shared"
    page.get_by_role("button", name="Save this order").click()
    (vote,) = until(page, site, 1)
    best, equal = vote.ranking[:2]
    stored = texts_of(site, vote.comparison_id)
    assert stored[best] == texts[3]
    assert {stored[one] for one in equal} == set(texts[:2])


def test_an_order_that_nobody_touched_is_asked_about(site: Site, opened: Open) -> None:
    page = come_in(opened, site, "/ranking")
    page.get_by_label("How many answers").select_option("3")
    expect(page.locator(".places > li")).to_have_count(3)
    page.get_by_role("button", name="Save this order").click()
    page.get_by_role("button", name="Cancel").click()
    assert votes(site) == []
    page.get_by_role("button", name="Move B up").click()
    page.get_by_role("button", name="Save this order").click()
    until(page, site, 1)


def test_a_question_is_answered_twice_and_the_better_one_goes_on(site: Site, opened: Open) -> None:
    page = come_in(opened, site, "/compare")
    page.get_by_label("Your question").fill("Why does bread rise?")
    page.keyboard.press("Enter")
    expect(page.get_by_role("group", name="Your verdict")).to_be_visible()
    first = answers(page)
    page.locator("h1").click()  # out of the field: keys are verdicts then
    press(page, "b")
    expect(page.get_by_label("The answer that goes on")).to_contain_text(first[1][-20:])
    (vote,) = until(page, site, 1)
    assert text_of(site, vote, 0) == first[1]
    page.get_by_label("Your question").fill("And salt?")
    page.get_by_role("button", name="Ask").click()
    page.get_by_role("button", name="Both bad").click()
    second = until(page, site, 2)[-1]
    assert second.verdict == "both_bad"
    asked = [one for one in site.run(site.store.snapshot()).messages if one.role == "user"]
    by_text = {one.text: one for one in asked}
    answer = site.run(site.store.conversations.message(by_text["And salt?"].parent_id))
    assert answer.text.replace("*", "") == first[1]  # what was chosen


def test_a_question_of_the_chat_gets_two_answers_and_the_chosen_one_goes_on_there(
    site: Site, opened: Open
) -> None:
    page = come_in(opened, site, "/")
    page.get_by_label("Your question").fill("Why does bread rise?")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Two answers, side by side").click()
    expect(page.get_by_role("group", name="Your verdict")).to_be_visible()
    chosen = answers(page)[0]
    press(page, "a")
    page.get_by_role("link", name="Go on in the chat").click()
    shown = page.get_by_label("The model answered")
    expect(shown).to_contain_text(chosen[-20:])
    expect(shown).to_contain_text("/3")  # the first answer and both of these
    until(page, site, 1)


def test_who_stops_both_answers_may_ask_again(site: Site, opened: Open) -> None:
    page = come_in(opened, site, "/compare")
    site.engine.holds_after = 3
    page.get_by_label("Your question").fill("Why does bread rise?")
    page.keyboard.press("Enter")
    expect(page.locator(".answer .text").first).to_contain_text("Bread")
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_text("Stopped.")).to_be_visible()
    site.engine.holds_after = None
    page.get_by_role("button", name="Ask again").click()
    expect(page.get_by_role("button", name="A is better")).to_be_visible()


def test_a_candidate_is_dropped_from_its_page_once_that_is_confirmed(
    site: Site, opened: Open
) -> None:
    try_out(site)
    page = come_in(opened, site, "/versions", "operator")
    expect(page.get_by_role("heading", name=f"{NEW.id} is being tried")).to_be_visible()
    page.get_by_role("button", name="Drop …").click()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Drop …").click()
    page.get_by_label("Why?").fill("it talks too much")
    page.get_by_role("button", name="Drop", exact=True).click()
    expect(page.locator("#trial")).to_contain_text("No candidate is being tried")
    ((release,), *_) = site.run(site.store.releases.history())
    assert (release.version_id, release.kind, release.why) == (
        VERSION.id,
        "drop",
        "it talks too much",
    )


def test_who_votes_by_position_is_shown_by_code(site: Site, opened: Open) -> None:
    async def work() -> str:
        member = await site.store.members.of_user(1)
        new = (NewPrompt(f"Question {n}?", "tests", "CC0-1.0") for n in range(20))
        await site.store.prompts.add(new)
        for prompt in (await site.store.prompts.all("accepted"))[:20]:
            answers = [Candidate("This.", VERSION.id), Candidate("That.", VERSION.id)]
            held = await site.store.rounds.open(prompt, answers, "discord")
            await site.store.votes.cast(held.comparison_id, member.id, "ranked", (0, 1))
        return site.store.seen.code(member.id)

    code = site.run(work())
    page = come_in(opened, site, "/versions", "operator")
    row = page.locator("#voters tbody tr")
    expect(row).to_contain_text(code)
    expect(row).to_contain_text("100 %")
    expect(row).to_contain_text("votes by position since")
    expect(page.locator("#voters")).to_contain_text("1 by position: their votes do not count")


def test_the_figures_of_versions_are_explained(site: Site, opened: Open) -> None:
    try_out(site)
    page = come_in(opened, site, "/versions", "operator", viewport=PHONE)
    card = page.get_by_role("article", name=NEW.id)
    expect(card.get_by_text("no duels yet")).to_have_count(2)
    expect(card).to_contain_text("thumbs: 0 up, 0 down")
    page.get_by_text("What the figures mean").click()
    expect(page.get_by_text("0 is the average of all")).to_be_visible()
    tabs = page.locator("#office a")
    expect(tabs).to_have_count(6)
    for tab in tabs.all():  # all of them are in sight, on a phone, too
        box = tab.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= PHONE["width"]


def test_a_correction_is_accepted_on_its_page(furnished: Site, opened: Open) -> None:
    page = come_in(opened, furnished, "/corrections", "operator")
    expect(page.locator(".beside")).to_contain_text("In my words.")
    page.get_by_role("button", name="Accept the correction").click()
    expect(page.locator("#corrections")).to_contain_text("Nothing waits for you")
    (made,) = furnished.run(furnished.store.corrections.all())
    assert made.state == "accepted"


def test_a_link_is_shown_once_and_lets_somebody_in(site: Site, opened: Open) -> None:
    page = come_in(opened, site, "/people", "operator")
    page.get_by_role("button", name="Invite …").click()
    page.get_by_label("Name").fill("Hanna")
    page.get_by_role("button", name="Make a link").click()
    link = page.get_by_label("Link", exact=True).input_value()
    expect(page.get_by_role("dialog")).to_contain_text("leads nowhere from others")
    page.get_by_role("button", name="Done").click()
    expect(page.locator("#people")).to_contain_text("Hanna")
    assert link.partition("#")[2] not in page.content()
    hers = opened(link)
    hers.get_by_role("button", name="Come in").click()
    hers.wait_for_url(f"{site.url}/")
    assert hers.locator("a.me").inner_text() == "Hanna"


@pytest.fixture
def furnished(site: Site) -> Site:
    """With something on every page."""
    try_out(site)
    voter = site.signed_in("Ben")
    for _ in range(2):
        voter.post("/api/votes", json=ballot(next_round(voter))).raise_for_status()

    async def more() -> None:
        store = site.store
        snapshot = await store.snapshot()
        answer = next(one for one in snapshot.messages if one.role == "assistant")
        await store.reports.add(answer.id, None, "rude")
        await store.accounts.invite("voter", "Gustav")
        member = (await store.accounts.all())[0].member_id
        await store.corrections.offer(answer.id, member, "In **my** words.", "CC0-1.0")

    site.run(more())
    return site


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_on_any_page(furnished: Site, opened: Open, theme: str) -> None:
    page = come_in(opened, furnished, "/rounds", "operator", color_scheme=theme, expects=("409",))
    for name in (*PAGES, "api/versions/story"):
        for size in ({"width": 1280, "height": 860}, PHONE):
            page.set_viewport_size(size)  # type: ignore[arg-type]
            page.goto(f"{furnished.url}/{name}")
            page.wait_for_load_state("networkidle")
            page.wait_for_timeout(READ)  # until what fades in is there
            found = Axe().run(page)
            assert found.violations_count == 0, f"{name}: {found.generate_report()}"
            wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert wide <= 0, f"{name} is wider than the window"
