"""The page in a browser: it draws, fits the screen, and follows what the reader does."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from made_up import HOSTILE, Made

from vaco_curate.curation import Cut, before_and_after, select
from vaco_curate.reporting import render_html
from vaco_curate.reporting.html import number

playwright = pytest.importorskip("playwright.sync_api")

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
DRAWN = "document.documentElement.dataset.drawn === 'all'"
DESKTOP, PHONE = {"width": 1400, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def browser() -> Iterator:
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def address(made: Made, tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render_html(made.facts, "made up.vaco"))
    return path.as_uri()


@pytest.fixture(scope="module")
def opened(browser, address):
    """Open the page; gives it with the list of what went wrong in it."""
    contexts = []

    def call(viewport, scheme):
        context = browser.new_context(viewport=viewport, color_scheme=scheme, accept_downloads=True)
        contexts.append(context)
        page, wrong = context.new_page(), []
        page.on("console", lambda message: wrong.append(message.text) if message.type != "log" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: None if request.url == address else wrong.append(request.url))
        page.goto(address)
        page.wait_for_function(DRAWN)
        return page, wrong

    yield call
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def page(opened):
    return opened(DESKTOP, "light")[0]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_it_draws_every_figure_within_the_screen_without_an_error(opened, viewport, scheme):
    page, wrong = opened(viewport, scheme)
    assert wrong == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    figures = page.locator("figure").all()
    assert len(figures) >= 11
    for figure in figures:
        name = figure.get_attribute("aria-label")
        assert name
        assert figure.locator("svg.marks .role-mark :is(path, line, rect)").count() > 0, name
        drawn = figure.locator("[role='graphics-document']")
        assert drawn.get_attribute("aria-label").startswith(name)
        assert figure.locator("figcaption").inner_text().endswith(".")
    shade = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert (sum(shade) > 600) == (scheme == "light")
    assert page.title().startswith("script>"), "what follows the last slash of a hostile name"
    assert HOSTILE in page.locator("dl.facts").inner_text()


def set_share(page, share):
    page.locator("#share").fill(str(share))


@pytest.mark.parametrize("share", [10, 37, 80])
@pytest.mark.parametrize("level", ["rows", "episodes"])
def test_the_slider_says_what_a_filter_would_keep(made, page, share, level):
    page.locator(f"input[name=level][value={level}]").check()
    set_share(page, share)
    amount = f"{share}%ep" if level == "episodes" else f"{share}%"
    selection = select(made.candidates, Cut(amount))
    kept = before_and_after(made.candidates, selection)[1]
    expected = {
        "rows": kept.rows,
        "episodes": kept.episodes,
        "mean": kept.return_mean,
        "median": kept.return_quantiles[1],
        "lowest": selection.cut,
    }
    assert page.locator("#kept-effective").inner_text() == f"{kept.effective_episodes:.1f}"
    for fact, value in expected.items():
        assert page.locator(f"#kept-{fact}").inner_text() == number(value), fact
    spoken = page.locator("#share").get_attribute("aria-valuetext")
    assert spoken == f"{share} percent: {number(kept.rows)} rows, mean return {number(kept.return_mean)}"
    assert page.locator("#kept-coverage").inner_text().endswith(" %")
    command = page.locator("#command").inner_text()
    assert command == f"vaco-curate filter 'made up.vaco' --top {amount}"
    assert page.locator("#unit").inner_text() == level


def test_the_keyboard_moves_the_slider_and_the_charts_follow(page):
    set_share(page, 50)
    before = page.locator("#figure-projection .mark-symbol.role-mark").inner_html()
    page.locator("#share").focus()
    page.keyboard.press("ArrowLeft")
    assert page.locator("#share-shown").inner_text() == "49"
    set_share(page, 5)
    page.wait_for_function(
        "old => document.querySelector('#figure-projection .mark-symbol.role-mark').innerHTML !== old",
        arg=before,
    )


def column(page, number):
    return page.locator(f"#table tbody tr > :nth-child({number})").all_inner_texts()


def test_the_table_is_sorted_searched_and_says_what_is_kept(made, page):
    page.locator("input[name=level][value=episodes]").check()
    set_share(page, 20)
    score = made.facts.episodes["score"].round(4)
    first = page.locator("#table thead button", has_text="mean score")
    assert column(page, 2)[0] == number(score.max())
    first.click()
    assert column(page, 2)[0] == number(score.min())
    assert page.locator("#table th[aria-sort=ascending]").inner_text() == "mean score"
    assert set(column(page, 4)) == {"none"}
    first.click()
    assert column(page, 4)[0] == "all"
    page.locator("#search").fill("ada")
    assert page.locator("#listed").inner_text() == "75 found"
    page.locator("#search").fill("29")
    assert {name[:2] for name in column(page, 1)} == {"29"}
    page.locator("#search").fill("dropped")
    assert page.locator("#listed").inner_text() == "240 found"
    assert set(column(page, 4)) == {"none"}
    page.locator("#search").fill("kept")
    assert page.locator("#listed").inner_text() == "60 found"
    page.locator("#following").click()
    assert page.locator("#page").inner_text() == "21 to 40 of 60"
    page.locator("#search").fill("nobody")
    assert page.locator("#listed").inner_text() == "0 found"
    assert page.locator("#copy-ids").is_disabled()
    page.locator("#search").fill("")


def test_ids_are_copied(page):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator("#search").fill("29")
    page.locator("#copy-ids").click()
    page.wait_for_function("document.querySelector('#copy-ids').classList.contains('copied')")
    copied = page.evaluate("navigator.clipboard.readText()").split(",")
    assert sorted(copied) == sorted(["29", *(str(number) for number in range(290, 300))])
    page.locator("#search").fill("")


def test_an_episode_is_chosen_in_the_table(page):
    line = "#figure-course .mark-line.role-mark path"
    before = page.locator(line).nth(1).get_attribute("d")
    row = page.locator("#table tbody tr").nth(1)
    episode = row.locator("th").inner_text()
    row.get_by_role("button", name="draw").click()
    assert page.locator("#chosen").input_value() == episode
    page.wait_for_function(
        "([line, old]) => document.querySelectorAll(line)[1].getAttribute('d') !== old", arg=[line, before]
    )


def test_a_figure_is_saved_as_png(page):
    figure = page.locator("#figure-histogram")
    figure.locator("summary").click()
    with page.expect_download() as saved:
        figure.get_by_text("Save as PNG").click()
    assert saved.value.suggested_filename == "histogram.png"
    assert saved.value.path().read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_all_figures_are_printed_within_the_paper(browser, address):
    page = browser.new_page(viewport={"width": 700, "height": 900}, color_scheme="dark")
    page.goto(address)
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")  # at once, before all are drawn
    page.emulate_media(media="print")
    page.wait_for_function(
        "document.querySelectorAll('svg.marks').length === document.querySelectorAll('figure').length"
    )
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for drawn in page.locator("svg.marks").all():
        box = drawn.bounding_box()
        assert box["width"] > 200
        assert box["x"] + box["width"] <= 700
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    page.close()
