"""The report's page as a reader meets it: opened in a headless Chromium, without a network."""

import io
import re
import shutil
from urllib.parse import unquote

import pandas as pd
import pytest
import simulated_results
from transferbench.analysis.report import write_report

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra `dev`)")
axe = pytest.importorskip(
    "axe_playwright_python.sync_playwright", reason="axe is not installed (extra `dev`)"
)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")

PHONE, DESK = {"width": 360, "height": 740}, {"width": 1400, "height": 900}
BEYOND = """width => Array.from(document.querySelectorAll('main *')).filter(element =>
    element.getBoundingClientRect().right > width + 0.5 && !element.closest('.sr, svg')
    && getComputedStyle(element.closest('.scroll') || document.body).overflowX !== 'auto'
).map(element => element.outerHTML.slice(0, 80))"""
METHODS = {
    name: simulated_results.METHODS[name] for name in ("Scratch", "Fine-tuning", "Uniform weights", "L2TL")
}
TARGETS = {"digits": 85.0, "pets": 93.1}


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    results = tmp_path_factory.mktemp("browser") / "results"
    simulated_results.write_results(results, METHODS, TARGETS, seeds=2)
    simulated_results.write_plans(results, TARGETS)
    return write_report(results, results / "report").as_uri()


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, address):
    """Open the page; what it says, asks for or shows by itself ends in `page.heard`."""
    contexts = []

    def open_page(viewport=DESK, scheme="light", **options):
        context = browser.new_context(viewport=viewport, color_scheme=scheme, **options)
        contexts.append(context)
        page = context.new_page()
        page.heard = []
        page.on("console", lambda message: page.heard.append(message.text))
        page.on("pageerror", lambda error: page.heard.append(str(error)))
        page.on("dialog", lambda dialog: (page.heard.append(dialog.message), dialog.dismiss()))
        page.route(lambda url: not url.startswith(("file:", "data:")), lambda route: _refuse(page, route))
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()


def _refuse(page, route):
    page.heard.append(f"asked for {route.request.url}")
    route.abort()


def digits(page):
    return page.locator("section", has=page.locator("h2", has_text=re.compile("^digits$"))).locator("article")


def column(page, number):
    rows = digits(page).locator("table").first.locator("tbody tr")
    return [row.locator("th, td").nth(number).inner_text().split("\n")[0] for row in rows.all()]


def open_all(page):
    """Open every part that is closed, and wait for what is drawn then."""
    page.evaluate("document.querySelectorAll('details').forEach(details => { details.open = true })")
    page.wait_for_selector(".view .matrix")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_asked_for_and_nothing_complains(visit, scheme):
    page = visit(scheme=scheme)
    page.wait_for_load_state("networkidle")
    assert page.heard == []
    assert page.locator("script:not([type])").count() == 1
    assert simulated_results.HOSTILE in page.locator("h2").all_inner_texts()
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")


def test_no_other_script_could_run(visit):
    page = visit()
    with page.expect_console_message():
        page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"alert(1)\">')")
    assert len(page.heard) > 0  # the page's own policy refuses image and script, and says so
    assert all("Content Security Policy" in line for line in page.heard)


def test_columns_are_sorted_by_click_and_by_keyboard(visit):
    page = visit()
    heading = digits(page).locator("thead th", has_text="accuracy").first
    number = heading.evaluate("element => element.cellIndex")
    assert heading.get_attribute("aria-sort") == "descending"
    best_first = column(page, number)
    assert best_first == sorted(best_first, key=float, reverse=True)
    heading.get_by_role("button").click()
    assert heading.get_attribute("aria-sort") == "ascending"
    assert column(page, number) == best_first[::-1]
    page.keyboard.press("Enter")
    assert heading.get_attribute("aria-sort") == "descending"
    assert column(page, number) == best_first

    name = digits(page).locator("thead th", has_text="method").first
    name.get_by_role("button").focus()
    page.keyboard.press("Space")
    assert heading.get_attribute("aria-sort") is None
    assert column(page, 0) == sorted(column(page, 0))

    difference = digits(page).locator("thead th", has_text="from fine-tuning").first
    place = difference.evaluate("element => element.cellIndex")
    for _ in range(2):  # what is no number comes last, in both directions
        difference.get_by_role("button").click()
        assert column(page, place)[-1] == "reference"


def test_the_row_to_take_is_named_first_and_the_scores_fit_beside_it(visit):
    page = visit({"width": 1280, "height": 900})
    assert page.locator("main .take").first.inner_text().startswith("Take on ")
    table = digits(page).locator(".scroll").first
    assert table.evaluate("element => element.scrollWidth <= element.clientWidth")
    assert digits(page).locator("details.costs").inner_text().startswith("Cost and labels")


def test_every_column_has_a_button(visit):
    page = visit()
    assert page.locator("thead th").count() == page.locator("thead th button").count() > 50


def test_every_figure_has_words(visit):
    page = visit()
    figures = page.locator("svg:not([aria-hidden])")
    assert figures.count() > 20
    for figure in figures.all():
        assert figure.get_attribute("role") == "img"
        assert len(figure.get_attribute("aria-label")) > 20
    hidden = page.locator("svg[aria-hidden]")
    assert hidden.count() == page.locator("thead svg").count()  # the axes of columns, said in their cells


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_fault(visit, scheme):
    page = visit(scheme=scheme)
    open_all(page)
    only = {"runOnly": ["color-contrast"]} if scheme == "dark" else {}  # all that the scheme changes
    found = axe.Axe().run(page, options={"resultTypes": ["violations"], **only}).response["violations"]
    assert [(fault["id"], [node["html"][:120] for node in fault["nodes"][:3]]) for fault in found] == []


@pytest.mark.parametrize("viewport", [PHONE, DESK])
def test_the_page_is_not_wider_than_the_screen(visit, viewport):
    page = visit(viewport)
    open_all(page)
    assert page.evaluate("document.documentElement.scrollWidth") == viewport["width"]
    assert page.evaluate(BEYOND, viewport["width"]) == []


def test_a_number_leads_to_its_runs(visit):
    page = visit()
    link = digits(page).locator("tbody a.runs").first
    digests = link.get_attribute("title").split(": ")[1].split(", ")
    rows = page.locator("tr.hit")
    assert (
        not digits(page)
        .locator("details:not(.wrong, .costs, .sizes)")
        .first.evaluate("element => element.open")
    )
    link.click()
    assert sorted(rows.locator("td").nth(1).inner_text() for rows in rows.all()) == sorted(digests)
    assert (
        digits(page).locator("details:not(.wrong, .costs, .sizes)").first.evaluate("element => element.open")
    )
    assert rows.first.is_visible()
    for known in page.locator("a.runs").all():
        assert page.locator(known.get_attribute("href")).count() == 1


def test_what_went_wrong_is_drawn_for_the_row_that_is_chosen(visit):
    page = visit()
    wrong = digits(page).locator("details.wrong")
    assert wrong.count() == 1
    assert not wrong.locator(".matrix").is_visible()
    wrong.locator("summary").click()
    cell = wrong.locator(".matrix tbody tr").nth(3).locator("td").nth(5)
    assert int(cell.inner_text()) > 5  # 3 is taken for 5
    assert simulated_results.HOSTILE in wrong.locator(".matrix tbody th").nth(3).inner_text()
    assert wrong.locator(".mistakes li").count() == 16
    wrong.get_by_label("Row").select_option("Scratch")
    assert wrong.locator(".matrix caption").inner_text().startswith("Confusions of Scratch")
    wrong.get_by_label("A", exact=True).select_option("Scratch")
    rows = wrong.locator("table", has_text="both right").locator("tbody tr")
    assert rows.count() == 3
    counts = [[int(cell) for cell in row.locator("td").all_inner_texts()[:4]] for row in rows.all()]
    assert [sum(line) for line in counts] == [797, 797, 2 * 797]
    assert [a + b for a, b in zip(*counts[:2], strict=True)] == counts[2]
    wrong.get_by_label("B", exact=True).select_option("Scratch")
    assert "the same row" in wrong.inner_text()
    assert page.heard == []


def test_data_behind_is_csv(visit):
    page = visit()
    links = page.locator("a[download]")
    assert links.count() >= page.locator("figure").count() + page.locator("article").count()
    for link in links.all():
        assert re.fullmatch(r"[\w.-]+\.csv", link.get_attribute("download"))
        text = unquote(link.get_attribute("href").removeprefix("data:text/csv;charset=utf-8,"))
        assert len(pd.read_csv(io.StringIO(text))) > 0
    with page.expect_download() as download:
        page.locator("figure a[download]").first.click()
    curve = pd.read_csv(download.value.path())
    assert list(curve.columns) == ["label", "seed", "step", "seconds", "score"]


def test_it_prints(visit):
    page = visit({"width": 718, "height": 1000}, scheme="dark")  # the width of A4 between its margins
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("nav").is_visible()
    assert page.evaluate(BEYOND, 718) == []
    assert page.pdf().startswith(b"%PDF")
