"""A physicist's day in a browser: log in, choose, watch it start, analyse, look at the dashboard, stop, come back."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from urllib.parse import urljoin

import pytest
import requests
from playwright.sync_api import expect

from local_cluster import demo as demo_run
from local_cluster.settings import CHECKOUT
from tests.support.browser import Browser, launched
from tests.support.hub_api import HubUser
from tests.support.hub_page import HubPage, Lab
from tests.support.hub_place import Hub, sessions_of
from tests.support.tenant import Body, Tenant, poll

USER = "marie"
SERVER = "zmumu"
ANALYSIS = CHECKOUT / "examples" / "notebook" / "zmumu.py"
INPUT_BYTES = 170_000  # of uproot-Zmumu.root, 171 kB: what its origin has sent when it was read


@pytest.fixture
def marie(hub: Hub, physics: Tenant) -> Iterator[HubUser]:
    """Somebody new, who leaves nothing behind."""
    with hub.users(physics, USER) as [user]:
        yield user


@pytest.fixture
def window(hub: Hub) -> Iterator[Browser]:
    """A browser that goes to the Hub only; a page that asks another host is at fault."""
    with launched(hub.base) as found:
        yield found
        assert not found.outside, f"pages asked other hosts: {found.outside}"


def test_from_the_login_to_the_plot_and_back_the_next_day(
    marie: HubUser, window: Browser, hub: Hub, physics: Tenant
) -> None:
    page = HubPage(window)
    page.log_in(USER, hub.password)
    page.new_server(SERVER)
    choose(page)
    lab = launch(page)
    both_workers(physics)
    analyse(lab, marie, physics)
    ask_model(lab)
    dashboard(lab, marie)
    stop_and_start_again(page, marie)
    page.stop(SERVER)
    page.delete(SERVER)
    window.picture("deleted")
    poll(lambda: not sessions_of(physics, USER), "the session is gone", 30)


def choose(page: HubPage) -> None:
    """The form offers what the profile has, and says what is free."""
    form = page.form().inner_text()
    assert re.search(r"small \([\d.]+ cores, 1Gi memory\)", form)
    assert re.search(r"\d of 2 GPUs free now", form)
    page.choose("Workers on cpu", "2")
    page.choose("From the start on cpu", "2")
    page.choose("Cache for root:// files", "one for the session; kept while the server is stopped")
    page.form().get_by_label(re.compile("^dimuon, version 1: ")).filter(visible=True).check()
    page.browser.picture("form")


def launch(page: HubPage) -> Lab:
    """The page says in sentences what happens, and ends in JupyterLab."""
    begin = time.monotonic()
    page.launch()
    expect(page.page.locator("#progress-message")).not_to_be_empty()
    page.browser.picture("progress")
    lab = page.await_lab(SERVER)
    seconds = time.monotonic() - begin
    said = page.browser.progress()
    page.browser.picture("lab")
    print(f"from the click to JupyterLab: {seconds:.1f} s", *said, sep="\n")
    messages = [str(event["message"]) for event in said]
    assert any("Dask" in message for message in messages), messages
    assert any("Notebook" in message for message in messages), messages
    assert not any("Ready" in message.split() for message in messages), "conditions are no sentences"
    percents = [int(str(event["progress"])) for event in said]
    assert percents == sorted(percents)
    return lab


def both_workers(physics: Tenant) -> None:
    """The session was ready with one; the other follows."""
    [session] = sessions_of(physics, USER)
    assert session["spec"]["notebook"]["serverName"] == SERVER

    def both(body: Body) -> bool:
        pools = body["status"].get("components", {}).get("dask", {}).get("pools", {})
        return bool(pools.get("cpu", {}).get("ready") == 2)

    physics.wait(session["metadata"]["name"], both, what="two workers")
    assert session["spec"]["inference"]["models"] == [{"name": "dimuon"}]


def analyse(lab: Lab, marie: HubUser, physics: Tenant) -> None:
    """One cell finds the cluster, reads through the cache and shows the plot."""
    before = demo_run.origin_bytes(physics.facility.origin)
    lab.new_notebook()
    output = lab.run_cell(ANALYSIS.read_text())
    expect(output.locator("img")).to_be_visible()
    expect(output).to_contain_text("pairs, computed by 2 workers")
    output.locator("img").scroll_into_view_if_needed()
    lab.browser.picture("plot")
    lab.save_as("zmumu.ipynb")
    first = demo_run.origin_bytes(physics.facility.origin)
    assert first - before >= INPUT_BYTES, "the origin was not asked"
    again = [read_again(lab, physics.facility.origin) for _ in range(3)]  # others may read meanwhile, but not each time
    assert min(again) < INPUT_BYTES / 10, f"read again, and {again} bytes came from the origin, not from the cache"


def ask_model(lab: Lab) -> None:
    """The model that was ticked in the form answers."""
    cell = "from af_client.models import Models; print('mass', Models().predict('dimuon', [[2, 0, 0, 2, 0, 3.14159]]))"
    expect(lab.run_cell(cell)).to_contain_text("mass [[4.")


def read_again(lab: Lab, origin: str) -> int:
    """Compute once more; return what the origin has sent meanwhile, to whomever."""
    before = demo_run.origin_bytes(origin)
    lab.run_cell("mass = client.gather(client.map(masses, range(0, 2304, 256), range(256, 2305, 256), pure=False))")
    return demo_run.origin_bytes(origin) - before


def dashboard(lab: Lab, marie: HubUser) -> None:
    """Dask's plots are a pane of JupyterLab; who is not logged in sees nothing of them."""
    frame = lab.open_dashboard("Workers")
    expect(frame.content_frame.locator("body")).to_contain_text("tls://", timeout=30_000)
    lab.browser.picture("dashboard")
    address = urljoin(marie.base, str(frame.get_attribute("src")))
    stranger = requests.get(address, timeout=10, allow_redirects=False)
    assert stranger.status_code in (302, 403), "the dashboard is shown to anybody"
    assert "/hub/" in stranger.headers.get("Location", "/hub/")


def stop_and_start_again(page: HubPage, marie: HubUser) -> None:
    """What is in home is there the next day."""
    marie.notebook("PUT", SERVER, "api/contents/notes.txt", json={"type": "file", "format": "text", "content": "42"})
    page.stop(SERVER)
    page.browser.picture("stopped")
    page.start(SERVER)
    page.browser.picture("start-again")
    page.launch()
    lab = page.await_lab(SERVER)
    lab.side_bar("File Browser")
    for file in ("notes.txt", "zmumu.ipynb"):
        expect(lab.page.get_by_role("listitem").filter(has_text=file)).to_be_visible()
    page.browser.picture("next-day")
    assert marie.notebook("GET", SERVER, "api/contents/notes.txt")["content"] == "42"


QUERY = """
from pyspark.sql import SparkSession
spark = SparkSession.builder.getOrCreate()
print(spark.range(1000).selectExpr("sum(id)").collect())
"""


def test_spark_is_offered_and_its_ui_is_a_card(marie: HubUser, window: Browser, hub: Hub, physics: Tenant) -> None:
    page = HubPage(window)
    page.log_in(USER, hub.password)
    page.new_server(SERVER)
    assert page.field("Image").input_value() == "analysis"
    page.choose("Spark workers on cpu", "1")
    assert page.field("Image").input_value() == "spark", "the first image that has Spark"
    window.picture("form-spark")
    page.launch()
    lab = page.await_lab(SERVER)
    [session] = sessions_of(physics, USER)
    assert [pool["nodePool"] for pool in session["spec"]["spark"]["pools"]] == ["cpu"]
    ui = lab.open_card("Spark UI")
    lab.new_notebook()
    expect(lab.run_cell(QUERY)).to_contain_text("sum(id)=499500")
    ui.get_by_role("link", name="Executors").click()
    # The Connect server is the driver; the other one has computed the sum. Scripts draw both.
    expect(ui.locator("#active-executors-table tbody tr")).to_have_count(2, timeout=30_000)
    window.picture("spark-ui", ui)
    stranger = requests.get(ui.url, timeout=10, allow_redirects=False)
    assert stranger.status_code in (302, 403), "Spark's UI is shown to anybody"


def test_a_link_fills_the_form_in_and_starts_nothing(
    marie: HubUser, window: Browser, hub: Hub, physics: Tenant
) -> None:
    page = HubPage(window)
    page.log_in(USER, hub.password)
    page.open_form("shared", {"opt-size": "medium", "opt-workers.cpu": "3", "opt-xcache": "Sidecar"})
    window.picture("link")
    assert page.field("Size").input_value() == "medium"
    assert page.field("Workers on cpu").input_value() == "3"
    assert page.field("Cache for root:// files").input_value() == "Sidecar"
    assert not sessions_of(physics, USER)

    page.open_form("shared", {"opt-size": "huge", "opt-workers.cpu": "3"})
    window.picture("link-refused")
    expect(page.page.locator(".spawn-error-msg")).to_contain_text("'huge' is not offered")
    expect(page.page.locator(".spawn-error-msg")).to_contain_text("medium")


def test_a_choice_in_words_comes_before_its_numbers(marie: HubUser, window: Browser, hub: Hub, physics: Tenant) -> None:
    page = HubPage(window)
    page.log_in(USER, hub.password)
    page.open_form("words", {})
    start, numbers = (
        page.form().get_by_role("group", name="What do you start?"),
        page.form().locator("details").filter(visible=True),
    )
    expect(start.get_by_label("Just a notebook")).to_be_checked()
    expect(numbers).not_to_have_attribute("open", "")
    start.get_by_label("Just a notebook").focus()
    page.page.keyboard.press("ArrowDown")
    expect(start.get_by_label("A few workers")).to_be_checked()
    window.picture("form-words")
    assert page.field("Workers on cpu").input_value() == "4"
    page.choose("A few Spark workers", "yes")
    assert (page.field("Workers on cpu").input_value(), page.field("Image").input_value()) == ("0", "spark")
    page.choose("A GPU", "yes")
    assert page.field("Image").input_value() == "analysis", "as it was before Spark was chosen"
    page.choose("Workers on cpu", "3")
    expect(start.get_by_label("My own choice")).to_be_checked()
    page.page.set_viewport_size({"width": 360, "height": 740})
    window.picture("form-phone")
    assert page.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "it is wider than a phone"
    assert not sessions_of(physics, USER)


def test_who_changes_their_mind_stops_what_is_starting(
    marie: HubUser, window: Browser, hub: Hub, physics: Tenant
) -> None:
    page = HubPage(window)
    page.log_in(USER, hub.password)
    marie.launch("", {"size": "small"})
    marie.ready("")
    page.new_server(SERVER)
    # So many that the server is still starting when the button is pressed.
    page.choose("Workers on cpu", "8")
    page.choose("From the start on cpu", "8")
    page.launch()
    page.page.get_by_role("button", name="Stop Server").click()
    page.page.wait_for_url("**/hub/home")
    sessions = {s["spec"]["notebook"]["serverName"]: s["spec"]["suspend"] for s in sessions_of(physics, USER)}
    assert sessions == {"": False, SERVER: True}, "what was starting is stopped, and nothing else"
    assert marie.server("")["ready"]
    assert marie.server(SERVER)["stopped"]
