"""Pages in headless Chromium: a click from the first page to a job's plot, and no request leaves the machine."""

import json
import re
import shutil
import signal
import time
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
import test_web_jobs
from test_web import HOSTILE, _rows, named, serving, site  # noqa: F401  (a fixture)

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver (Debian: chromium, chromium-driver)"
)
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1280,900",
)  # fmt: skip


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    found = webdriver.Chrome(options=options, service=Service(DRIVER))
    found.set_page_load_timeout(60)
    yield found
    found.quit()


@pytest.fixture(scope="module")
def address(site):  # noqa: F811
    with serving(site, "--port", "0") as (process, said):
        yield re.search(r"http://\S+", said)[0]
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def one(browser, selector):
    return browser.find_element("css selector", selector)


def wait(what):
    until = time.monotonic() + 20
    while not (found := what()):
        assert time.monotonic() < until
        time.sleep(0.05)
    return found


def asked(browser):
    """Addresses that the browser has asked for since this was called last."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [
        message["params"]["request"]["url"] for message in messages if message["method"] == "Network.requestWillBeSent"
    ]


def hover(browser):
    """The values shown once the pointer is on the first plot."""
    from selenium.webdriver import ActionChains

    box = wait(lambda: one(browser, "figure.plot svg.lines"))
    ActionChains(browser).scroll_to_element(box).move_to_element(box).perform()
    return wait(lambda: (text := one(browser, ".readout").text) and text.startswith("20") and text)


def test_from_the_first_page_to_the_values_of_a_plot(site, browser, address):  # noqa: F811
    browser.get(address)
    host = urlsplit(address).netloc
    assert "key=" not in browser.current_url
    asked(browser)
    one(browser, f'a[href="/project/{site.hostile["proj_id"]}"]').click()
    wait(lambda: "/project/" in browser.current_url)
    one(browser, f'a[href^="/job/{named(site.hostile)}"]').click()
    wait(lambda: "/job/" in browser.current_url)
    assert HOSTILE in one(browser, ".jobname").text and "taken" not in browser.title
    told = hover(browser)
    assert re.match(
        r"20\d\d-\d\d-\d\d \d\d:\d\d: cores in use .*CPU [\d,.]+ % of one core; .*memory used [\d,.]+ GiB", told
    )
    assert one(browser, ".cursor").get_attribute("d").startswith("M")
    one(browser, "figure.plot[tabindex]").send_keys("\ue014")  # the right arrow
    assert wait(lambda: (text := one(browser, ".readout").text) != told and text)
    one(browser, "#q").send_keys(str(site.other["job_id"]), "\ue007")  # enter
    wait(lambda: str(site.other["job_id"]) in browser.current_url)
    browser.get(f"http://{host}/accounting/jobs?job_id={site.hostile['job_id']}")
    assert HOSTILE in one(browser, "table.rows-and-columns").text and "taken" not in browser.title
    urls = asked(browser)
    assert len(urls) > 5
    assert [url for url in urls if urlsplit(url).netloc != host and urlsplit(url).scheme != "data"] == []
    assert [entry for entry in browser.get_log("browser") if "Content Security" in entry["message"]] == []


def test_from_a_number_to_the_samples_behind_it(site, browser, address):  # noqa: F811
    browser.get(address)
    one(browser, "#q").send_keys(str(site.hostile["job_id"]), "\ue007")
    wait(lambda: "/job/" in browser.current_url)
    [row] = _rows(site.root, f"select * from jobs where job_id = {site.hostile['job_id']}", "efficiency")
    one(browser, 'a[href*="/why/mem_peak"]').click()
    wait(lambda: "/why/mem_peak" in browser.current_url)
    told = one(browser, "main").text
    assert f"stored\n{row['mem_peak']}\n" in told and "computed again\nthe same" in told
    assert re.search(r"the peak: \w+ at 20\d\d-.*\narchive/\S+ byte [\d,]+\n20\d\d-", told)
    one(browser, "h1 a").click()
    wait(lambda: browser.current_url.partition("?")[0].endswith(f"/job/{named(site.hostile)}"))


def test_a_job_on_very_many_nodes_is_a_band_with_values(browser, tmp_path):
    root = tmp_path / "site"
    test_web_jobs.make(root)
    with serving(SimpleNamespace(root=root), "--port", "0") as (process, said):
        browser.get(re.search(r"http://\S+", said)[0])
        one(browser, "#q").send_keys(str(test_web_jobs.WIDE), "\ue007")
        wait(lambda: "/job/" in browser.current_url)
        assert len(browser.find_elements("css selector", "figure.plot")) == 1
        assert "59 of 60 nodes together" in one(browser, "figcaption").text
        assert "least busy: n1 (100 % of one core)" in one(browser, "#plot").text
        told = hover(browser)
        assert re.search(r"CPU lowest 100 % of one core; .*CPU median 129 %.*memory highest 1\.58 GiB", told)
        area = "return document.querySelector('path.cpu-all').getBoundingClientRect().height"
        assert browser.execute_script(area) > 10
        process.send_signal(signal.SIGTERM)
        process.wait(20)


@pytest.mark.parametrize("width", [390, 1280])
def test_no_page_scrolls_sideways(site, browser, address, width):  # noqa: F811
    browser.get(address)
    host = urlsplit(address).netloc
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    row = site.hostile
    try:
        for path in (
            "",
            f"project/{row['proj_id']}",
            f"user/{row['user']}",
            f"job/{named(row)}",
            "search?q=1",
            "tables",
        ):
            browser.get(f"http://{host}/{path}")
            assert browser.execute_script("return document.documentElement.scrollWidth") <= width, path
            if not path:
                box = "[...document.querySelectorAll('.scroll')].at(-1)"
                assert "efficiency/jobs" in browser.execute_script(f"return {box}.textContent")
                assert browser.execute_script(f"return {box}.scrollWidth - {box}.clientWidth") == 0
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_files_open_from_disk(site, browser, tmp_path, run):  # noqa: F811
    folder = tmp_path / "pages"
    assert run("-c", site.root / "jobeff.toml", "-q", "report", "--html", folder)[0] == 0
    asked(browser)
    browser.get_log("browser")
    browser.get((folder / "index.html").as_uri())
    assert one(browser, "h1").value_of_css_property("font-weight") == "700"
    one(browser, f'a[href^="job/"][href*="-{site.hostile["job_id"]}-"]').click()
    assert HOSTILE in wait(lambda: one(browser, ".jobname").text)
    assert "GiB" in hover(browser)
    [row] = _rows(site.root, f"select * from jobs where job_id = {site.hostile['job_id']}", "efficiency")
    why = one(browser, "#why-mem_peak")
    assert not why.get_property("open")
    one(browser, 'a[href="#why-mem_peak"]').click()
    wait(lambda: why.get_property("open"))
    assert f"stored\n{row['mem_peak']}\n" in why.text and " byte " in why.text and "the same" in why.text
    one(browser, 'main a[href^="../project/"]').click()
    wait(lambda: "/project/" in browser.current_url)
    assert {urlsplit(url).scheme for url in asked(browser)} <= {"file", "data"}
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
