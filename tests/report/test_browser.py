"""The page in Chromium: a silent console, marks where data are, working toggles."""

import shutil
import time

import pytest

from mtl_jax import report
from tests import workdirs
from tests.workdirs import FACTORS, trajectories

webdriver = pytest.importorskip("selenium.webdriver")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not DRIVER, reason="needs Chromium and its driver")
PATIENCE = 60
REFRESH = '<body data-refresh="4">'


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    variants = ("single", "multi", "multi-pcgrad")
    rows = trajectories(variants, ("<b>&$x_1^", "b"), (0, 1, 2), factors=FACTORS)
    path = workdirs.write(tmp_path_factory.mktemp("browser") / "run", rows)
    return report.write(path)


@pytest.fixture(scope="module")
def browser(page):
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--window-size=1200,1600"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(DRIVER)
    made = webdriver.Chrome(options=options, service=service)
    made.get(page.as_uri())
    made.execute_script("window.dispatchEvent(new Event('beforeprint'))")  # draws all
    yield made
    made.quit()


def wait(browser, script):
    """Wait until a script returns true."""
    begun = time.monotonic()
    while not browser.execute_script(f"return {script}"):
        assert time.monotonic() < begun + PATIENCE, script
        time.sleep(0.1)


def lines_of(browser, figure):
    return browser.execute_script(f"return {lines(figure)}")


def lines(figure):
    return f"document.querySelectorAll('#figure-{figure} .mark-line path').length"


MARKS = "svg .mark-symbol path, svg .mark-rect path, svg .mark-line path"
ALL_DRAWN = f"""[...document.querySelectorAll(".chart")].every(
  (chart) => chart.querySelector("{MARKS}"))"""


def test_every_panel_has_marks_and_the_console_is_silent(browser):
    wait(browser, ALL_DRAWN)
    assert not browser.get_log("browser")


def test_a_name_is_hidden_in_the_whole_page(browser):
    wait(browser, ALL_DRAWN)
    before = {name: lines_of(browser, name) for name in ("gap", "learning")}
    button = 'document.querySelector("#figure-gap button[data-variant=\\"multi\\"]")'
    browser.execute_script(f"{button}.click()")
    for name, count in before.items():
        wait(browser, f"{lines(name)} < {count}")
    browser.execute_script(f"{button}.click()")
    for name, count in before.items():
        wait(browser, f"{lines(name)} === {count}")


def test_tasks_are_found_by_a_part_of_their_name(browser):
    shown = """[...document.querySelectorAll(".panel")].filter(
      (panel) => panel.dataset.task && !panel.hidden
      ).map((panel) => panel.dataset.task)"""
    script = """const box = document.getElementById("search"); box.value = arguments[0];
      box.dispatchEvent(new Event("input"))"""
    browser.execute_script(script, "x_1")
    assert set(browser.execute_script(f"return {shown}")) == {"<b>&$x_1^"}
    browser.execute_script(script, "")
    assert set(browser.execute_script(f"return {shown}")) == {"<b>&$x_1^", "b"}


def test_data_of_a_figure_are_a_table(browser):
    browser.execute_script(
        "document.querySelector('#figure-gap details.data').open = true"
    )
    wait(
        browser, "document.querySelectorAll('#figure-gap details.data tr').length > 100"
    )


def samples(figure, mark):
    """Marks in the legend of a figure."""
    return f"document.querySelectorAll('#figure-{figure} .legend {mark}').length"


def test_a_legend_shows_what_its_figure_draws(browser):
    counts = [
        browser.execute_script(f"return {samples(figure, mark)}")
        for figure in ("learning", "conflict-effects")
        for mark in ("line", "path")
    ]
    assert counts == [3, 0, 0, 2]


STATE = """return [
  document.querySelector("#figure-gap button[data-variant=multi]").ariaPressed,
  document.querySelector("input[data-seed='1']").checked,
  document.querySelector("input[name=scale]:checked").value,
  document.getElementById("search").value,
  document.querySelector("#figure-gap details.data").open,
  document.querySelector("#figure-learning details.data").open,
  [...document.querySelectorAll(".panel")].some((panel) => panel.dataset.task === "b"
    && !panel.hidden), Math.round(window.scrollY), location.hash]"""
CHOOSE = """
document.querySelector("#figure-gap button[data-variant=multi]").click();
document.querySelector("input[data-seed='1']").click();
document.querySelector("input[value=log]").click();
document.querySelector("#figure-gap details.data").open = true;
const box = document.getElementById("search"); box.value = "x_1";
box.dispatchEvent(new Event("input"));
window.before = true"""


@pytest.mark.parametrize("hash_", ["", "#factors"])
def test_a_page_that_reloads_keeps_what_its_reader_chose(page, browser, hash_):
    text = page.read_text()
    page = page.with_name(f"following{hash_[1:]}.html")
    page.write_text(text.replace("<body>", REFRESH, 1))
    browser.get(page.as_uri() + hash_)
    browser.execute_script(CHOOSE)
    table = "#figure-gap details.data table"
    wait(browser, f"document.querySelector('{table}') !== null")
    scroll = "document.getElementById('figure-learning').scrollIntoView()"
    browser.execute_script(scroll)
    wait(browser, f"{lines('learning')} > 0")
    at = browser.execute_script("return Math.round(window.scrollY)")
    wait(browser, "window.before === undefined && document.readyState === 'complete'")
    expected = ["false", False, "log", "x_1", True, False, False, at, hash_]
    assert browser.execute_script(STATE) == expected
    wait(browser, f"{lines('learning')} > 0")
    assert browser.execute_script("return window.scrollY") == pytest.approx(at, abs=5)
    errors = [e for e in browser.get_log("browser") if e["level"] == "SEVERE"]
    assert not errors


def test_nothing_is_wider_than_a_phone(browser):
    metrics = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    wait(browser, "document.documentElement.scrollWidth <= 390")
