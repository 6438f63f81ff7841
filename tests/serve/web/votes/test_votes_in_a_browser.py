"""Rounds and rankings in a browser: what is taken back, kept, and read to its end."""

from __future__ import annotations

from playwright.sync_api import Page, Route, expect

from ..conftest import Open, Site
from .visiting import answers, come_in, press, until


def first_round(opened: Open, site: Site) -> tuple[Page, list[Route]]:
    """Rounds with one pair shown, and the questions for more: the second one waits."""
    page = come_in(opened, site, "/account")
    asked: list[Route] = []

    def hold(route: Route) -> None:
        asked.append(route)
        if len(asked) != 2:
            route.continue_()

    page.route("**/api/rounds/next*", hold)
    page.goto(f"{site.url}/rounds")
    answers(page)
    return page, asked


def test_a_round_taken_back_stays_until_something_is_said(site: Site, opened: Open) -> None:
    page, asked = first_round(opened, site)
    first = answers(page)
    press(page, "a")
    expect(page.get_by_role("heading", name="Two answers are on their way")).to_be_visible()
    press(page, "u")
    assert answers(page) == first
    # Once the next pair is here, the one after it is asked for.
    with page.expect_request("**/api/rounds/next*"):
        asked[1].continue_()
    assert answers(page) == first
    expect(page.get_by_text("You said: A is better")).to_be_visible()
    page.get_by_role("button", name="Leave it").click()
    expect(page.locator(".answer .text").first).not_to_have_text(first[0])
    until(page, site, 1)


def test_who_leaves_a_round_as_it_is_waits_for_the_next_one(site: Site, opened: Open) -> None:
    page, asked = first_round(opened, site)
    first = answers(page)
    press(page, "a")
    page.get_by_role("button", name="Take it back").click()
    assert answers(page) == first
    page.get_by_role("button", name="Leave it").click()
    expect(page.get_by_role("heading", name="Two answers are on their way")).to_be_visible()
    asked[1].continue_()
    assert set(answers(page)).isdisjoint(first)


def test_votes_of_two_tabs_are_all_kept_and_each_counts_once(site: Site, opened: Open) -> None:
    page = come_in(opened, site, "/rounds", expects=("503", "Failed to load"))
    answers(page)
    other = page.context.new_page()
    other.goto(f"{site.url}/ranking")
    expect(other.locator(".places > li")).to_have_count(4)
    taken: list[str] = []
    page.context.on(
        "response",
        lambda reply: (
            taken.append(reply.request.post_data_json["id"])
            if reply.ok and "/api/votes" in reply.url
            else None
        ),
    )
    page.wait_for_timeout(300)
    store, site.app.state.store = site.store, None
    page.get_by_role("button", name="A is better").click()
    expect(page.locator("#kept")).to_contain_text("kept in this browser")
    other.get_by_role("button", name="All equal").click()
    expect(other.locator("#kept")).to_contain_text("2 votes are kept in this browser")
    site.app.state.store = store
    until(page, site, 2)
    for tab in (page, other):
        expect(tab.locator("#kept")).to_be_hidden()
    assert page.evaluate("localStorage.length") == 0
    assert len(set(taken)) == 2  # what one tab has removed the other may see for a moment


def test_an_answer_that_was_cut_says_so_wherever_it_is_judged(site: Site, opened: Open) -> None:
    site.engine.stop = "length"
    page = come_in(opened, site, "/rounds")
    answers(page)
    note = page.get_by_text("It was cut at its length.")
    expect(note).to_have_count(2)
    page.goto(f"{site.url}/ranking")
    expect(page.locator(".places > li")).to_have_count(4)
    expect(note).to_have_count(4)
    page.goto(f"{site.url}/compare")
    page.get_by_label("Your question").fill("Why does bread rise?")
    page.keyboard.press("Enter")
    expect(page.get_by_role("group", name="Your verdict")).to_be_visible()
    expect(note).to_have_count(2)
    page.get_by_role("button", name="A is better").click()
    expect(page.get_by_label("The answer that goes on")).to_contain_text("It was cut at its length")


def test_a_long_answer_is_ranked_whole(site: Site, opened: Open) -> None:
    page = come_in(opened, site, "/ranking")
    page.set_viewport_size({"width": 1280, "height": 700})
    expect(page.locator(".places > li")).to_have_count(4)
    page.locator(".places .text").evaluate_all(
        "(all) => all.forEach((one) => one.append(...Array.from({length: 40}, () =>"
        " Object.assign(document.createElement('p'), {textContent: 'A line.'}))))"
    )
    sizes = page.locator(".places .text").evaluate_all(
        "(all) => all.map((one) => [one.clientHeight, one.scrollHeight])"
    )
    assert all(shown > 1000 and whole - shown <= 1 for shown, whole in sizes)
