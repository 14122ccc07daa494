"""Debian's Chromium, shut off from every host but the Hub's; what it shows is kept in out/browser/."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, Page, Request, Route, sync_playwright

from local_cluster import packages
from local_cluster.progress import Progress
from local_cluster.settings import CHECKOUT

PICTURES = CHECKOUT / "out" / "browser"
WINDOW = {"width": 1280, "height": 800}
WAIT_MS = 15_000
FLAGS = (
    "--no-sandbox",  # root in a container; the pages are our own
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
OUTSIDE = ("data", "blob", "about", "chrome-error")
"""Schemes of URLs that ask no host."""

# The page of a starting server loads itself anew at the end, and its log is gone: so the events are kept beside it.
REMEMBER_PROGRESS = """
const Source = window.EventSource;
window.EventSource = class extends Source {
  constructor(...where) {
    super(...where);
    this.addEventListener("message", event => {
      const said = JSON.parse(sessionStorage.getItem("progress") || "[]");
      sessionStorage.setItem("progress", JSON.stringify([...said, JSON.parse(event.data)]));
    });
  }
};
"""


class Browser:
    """One window, logged in nowhere.

    Attributes
    ----------
    outside
        What pages asked of other hosts than the Hub's. Refused; and a test fails where there is any.
    """

    def __init__(self, context: BrowserContext, base: str) -> None:
        self.outside: list[str] = []
        self.base = base.rstrip("/")
        self.context = context
        self.page: Page = context.pages[0]
        self._host = urlsplit(base).netloc
        self._pictures = 0
        context.set_default_timeout(WAIT_MS)
        context.add_init_script(REMEMBER_PROGRESS)
        context.route("**/*", self._only_the_hub)
        self.page.on("dialog", lambda dialog: dialog.accept())  # yes, delete it; yes, leave the notebook

    def picture(self, name: str, page: Page | None = None) -> Path:
        """Keep what the window shows."""
        self._pictures += 1
        path = PICTURES / f"{self._pictures:02}-{name}.png"
        (page or self.page).screenshot(path=path, full_page=True)
        return path

    def progress(self) -> list[dict[str, object]]:
        """Return what the page of a starting server was told, from the first event to the last."""
        said: list[dict[str, object]] = json.loads(self.page.evaluate("sessionStorage.getItem('progress') || '[]'"))
        return said

    def forget_progress(self) -> None:
        """Begin anew, before a server is started."""
        self.page.evaluate("sessionStorage.removeItem('progress')")

    def describe(self) -> str:
        """Return where the window is and what it says, for a test that failed; with a picture."""
        where = self.picture("failed")
        text = self.page.locator("body").inner_text()
        return f"{self.page.url}, {where.relative_to(CHECKOUT)}\n{text}\nprogress: {self.progress()}"

    def _only_the_hub(self, route: Route, request: Request) -> None:
        url = urlsplit(request.url)
        if url.scheme in OUTSIDE or url.netloc == self._host:
            route.continue_()
            return
        self.outside.append(f"{request.method} {request.url} (asked for by {self.page.url})")
        route.abort()


@contextmanager
def launched(base: str) -> Iterator[Browser]:
    """Give a browser that has never been anywhere, and can go to `base` only."""
    packages.ensure(Progress(), packages.BROWSER)
    PICTURES.mkdir(parents=True, exist_ok=True)
    # What route() does not see (websockets, Chromium's own business) finds no host either.
    only = f"--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE {urlsplit(base).hostname}"
    with sync_playwright() as playwright, TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        context = playwright.chromium.launch_persistent_context(
            profile,
            executable_path="/usr/bin/chromium",
            args=[*FLAGS, only],
            headless=True,
            viewport=WINDOW,
            service_workers="block",  # what they fetch would not be seen
        )
        try:
            yield Browser(context, base)
        finally:
            context.close()
