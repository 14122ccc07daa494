"""JupyterHub and JupyterLab as their users see them: each step is what a hand does and an eye waits for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlencode

from playwright.sync_api import Locator, Page, expect

from tests.support.browser import Browser
from tests.support.hub_api import quoted

LAUNCH_MS = 120_000
CELL_MS = 120_000


class HubPage:
    """The Hub's pages, for one user."""

    def __init__(self, browser: Browser) -> None:
        self.browser = browser
        self.page: Page = browser.page
        self.user = ""

    def log_in(self, user: str, password: str) -> None:
        """Go to the Hub and say who this is."""
        self.user = user
        self.page.goto(f"{self.browser.base}/")
        self.browser.picture("log-in")
        self.page.get_by_label("Username:").fill(user)
        self.page.get_by_label("Password:").fill(password)
        self.page.get_by_role("button", name="Sign in").click()
        expect(self.page.get_by_text("Logout")).to_be_visible()

    def home(self) -> None:
        """Go to the list of the user's servers."""
        self.page.goto(f"{self.browser.base}/hub/home")
        self.page.wait_for_function("window._jupyterhub_page_loaded")  # its buttons do nothing before

    def new_server(self, name: str) -> None:
        """Put a server with a name into the list on the home page, and start it: the form opens."""
        self.home()
        self.page.get_by_label("server name").fill(name)
        self.page.get_by_role("button", name="Add New Server").click()
        self.row(name).get_by_text("start", exact=True).click()
        expect(self.form()).to_be_visible()

    def open_form(self, server: str, prefilled: Mapping[str, str]) -> None:
        """Follow a link that somebody shared."""
        self.page.goto(f"{self.browser.base}/hub/spawn/{quoted(self.user)}/{server}?{urlencode(prefilled)}")
        expect(self.form()).to_be_visible()

    def form(self) -> Locator:
        """Return the form with a session's options."""
        return self.page.locator("#spawn_form")

    def field(self, label: str) -> Locator:
        """Return a field of the chosen profile, unfolded; those of other profiles are there, and not seen."""
        folded = self.form().locator("details:not([open]) > summary").filter(visible=True)
        if folded.count():
            folded.click()
        return self.form().get_by_label(label, exact=True).filter(visible=True)

    def choose(self, label: str, value: str) -> None:
        """Fill in one field, found by what is written at it."""
        field = self.field(label)
        kind = field.evaluate("e => e.tagName === 'SELECT' ? 'select' : e.type")
        if kind == "select":
            field.select_option(label=value)
        elif kind in ("checkbox", "radio"):
            field.set_checked(value == "yes")
        else:
            field.fill(value)

    def launch(self) -> None:
        """Send the form; the page of progress comes."""
        self.browser.forget_progress()
        self.form().get_by_role("button", name="Start").click()

    def await_lab(self, server: str) -> Lab:
        """Watch the progress until JupyterLab is there."""
        try:
            self.page.wait_for_url(f"**/user/{quoted(self.user)}/{server}/lab**", timeout=LAUNCH_MS)
        except Exception as error:  # whatever it is, what the page said is what helps
            error.add_note(str(self.browser.progress()))
            raise
        return Lab(self.browser)

    def stop(self, server: str) -> None:
        """Stop a server, on the home page; its row offers to start it again."""
        self.home()
        row = self.row(server)
        row.get_by_text("stop", exact=True).click()
        expect(row.get_by_text("start", exact=True)).to_be_visible(timeout=60_000)

    def start(self, server: str) -> None:
        """Start a stopped server again: in the form's place stands what it is."""
        self.home()
        self.row(server).get_by_text("start", exact=True).click()
        expect(self.form()).to_be_visible()

    def delete(self, server: str) -> None:
        """Remove a stopped server from the list."""
        self.home()
        self.row(server).get_by_text("delete", exact=True).click()
        expect(self.row(server)).to_have_count(0, timeout=30_000)

    def row(self, server: str) -> Locator:
        """Return a server's line in the list on the home page."""
        return self.page.locator(f'tr[data-server-name="{server}"]')


class Lab:
    """JupyterLab, in the same window."""

    def __init__(self, browser: Browser) -> None:
        self.browser = browser
        self.page: Page = browser.page
        # A launcher, or the notebook that was open when the server was stopped; both come below the splash.
        expect(self.page.locator("#jp-main-dock-panel .lm-TabBar-tab").first).to_be_visible(timeout=60_000)
        expect(self.page.locator("#jupyterlab-splash")).to_have_count(0)

    def new_notebook(self) -> None:
        """Open a notebook with the first Python there is, and wait for its kernel."""
        self.page.locator('.jp-LauncherCard[data-category="Notebook"]:visible').first.click()
        expect(self._notebook().locator(".jp-CodeCell").first).to_be_visible()
        idle = self._notebook().locator(".jp-Notebook-ExecutionIndicator[data-status=idle]")
        expect(idle).to_be_visible(timeout=60_000)

    def run_cell(self, code: str) -> Locator:
        """Write code into the last cell, run it, wait for its end; return what it shows."""
        cells = self._notebook().locator(".jp-CodeCell")
        cell = cells.nth(cells.count() - 1)  # not `last`: that would be the new one, once this one runs
        editor = cell.locator(".cm-content")
        editor.click()
        self.page.keyboard.insert_text(code)  # as a paste: typed, the editor would close brackets itself
        self.page.keyboard.press("Shift+Enter")
        if not _begun(cell):
            # JupyterLab forgets a cell that is run in the moment in which its kernel's connection comes up.
            editor.click()
            self.page.keyboard.press("Control+Enter")
        expect(cell.locator(".jp-InputPrompt")).to_have_text(re.compile(r"\[\d+\]:"), timeout=CELL_MS)
        return cell.locator(".jp-Cell-outputArea")

    def save_as(self, name: str) -> None:
        """Keep the notebook in home: the first time JupyterLab asks for its name."""
        self.page.keyboard.press("Control+s")
        dialog = self.page.locator("dialog.jp-Dialog")
        dialog.get_by_role("textbox").fill(name)
        dialog.get_by_role("button", name="Rename and Save").click()
        expect(self.page.locator(".lm-TabBar-tab.jp-mod-dirty")).to_have_count(0)

    def side_bar(self, name: str) -> None:
        """Show a side bar; a click on the one that is shown would hide it."""
        tab = self.page.get_by_role("tab", name=name)
        if tab.get_attribute("aria-selected") != "true":
            tab.click()

    def open_dashboard(self, pane: str) -> Locator:
        """Open one of Dask's plots from the panel at the left; return the frame's element."""
        self.side_bar("Dask")
        self.page.get_by_role("button", name=pane, exact=True).click()
        return self.page.locator("iframe:visible").last

    def open_card(self, title: str) -> Page:
        """Press a card of the launcher that leads out of JupyterLab; return the page that it opens."""
        with self.page.expect_popup() as opened:
            self.page.locator(".jp-LauncherCard:visible").filter(has_text=title).click()
        return opened.value

    def _notebook(self) -> Locator:
        return self.page.locator(".jp-NotebookPanel:visible")


def _begun(cell: Locator) -> bool:
    try:
        expect(cell.locator(".jp-InputPrompt")).not_to_have_text("[ ]:", timeout=3_000)
    except AssertionError:
        return False
    return True
