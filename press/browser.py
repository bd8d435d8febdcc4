"""A browser looks at the site: accessibility, errors, width.

Debian's Chromium, driven by playwright, loads each page on a desk and on a
phone, and shows it in light and dark. axe judges by the rules of WCAG, levels
A and AA; a message on the console, a request that fails or leaves the machine,
and a page that is wider than the phone are faults, too.
"""

import functools
import http.server
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from importlib import metadata
from multiprocessing import get_context
from pathlib import Path
from typing import Any

SCREENS = {
    "desk": {"width": 1300, "height": 900},
    "phone": {"width": 390, "height": 844},
}
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
COLORS = ("light", "dark")
# Colors fade into each other, and what is half-way has no contrast yet.
FADED = (
    "Promise.all(document.getAnimations().filter(a => a instanceof "
    "CSSTransition).map(a => a.finished.catch(() => 0))).then(() => null)"
)
PATIENCE = 120_000  # milliseconds, on a busy machine
NAMES = ("chromium", "chromium-browser", "google-chrome")


def chromium() -> str | None:
    """The path of the system's Chromium, if there is one."""
    return next((p for name in NAMES if (p := shutil.which(name))), None)


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves the site as a web server would, its page for 404 too."""

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def send_error(
        self, code: int, message: str | None = None, explain: str | None = None
    ) -> None:
        page = Path(self.directory) / "404.html"
        if code != 404 or not page.exists():
            super().send_error(code, message, explain)
            return
        content = page.read_bytes()
        self.send_response(404)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address at which the folder can be read meanwhile."""
    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


def axe_script() -> str:
    """The program of axe, as its Python package brings it."""
    package = metadata.distribution("axe-playwright-python")
    path = package.locate_file("axe_playwright_python/axe.min.js")
    return Path(str(path)).read_text(encoding="utf-8")


def look(page: Any, address: str, axe: str) -> dict[str, list[str]]:
    """The faults of one page on one screen, by color."""
    faults: list[str] = []
    base = address.split("/", 3)
    home = "/".join(base[:3])

    def failed(request: Any) -> None:
        faults.append(f"failed {request.url}")

    def answered(response: Any) -> None:
        wanted = 404 if response.url.endswith("/404-test") else 200
        if response.status >= 400 and response.status != wanted:
            faults.append(f"status {response.status} of {response.url}")
        if not response.url.startswith((home, "data:", "blob:")):
            faults.append(f"asks elsewhere: {response.url}")

    def said(message: Any) -> None:
        if message.type == "error" and "404-test" not in address:
            faults.append(f"console: {message.text}")

    page.on("requestfailed", failed)
    page.on("response", answered)
    page.set_default_timeout(PATIENCE)
    page.on("console", said)
    page.on("pageerror", lambda error: faults.append(f"script: {error}"))
    page.goto(address, wait_until="load")
    page.wait_for_timeout(700)  # the theme makes wide code focusable by then
    page.evaluate(axe)
    found = {}
    for color in COLORS:
        page.emulate_media(color_scheme=color)
        for _ in range(20):
            page.wait_for_timeout(300)
            theme = page.evaluate("document.documentElement.dataset.theme")
            if theme in (None, color):  # None: style sheets alone decide
                break
        else:
            faults.append(f"shows its {theme} form to a system in {color}")
        page.evaluate(FADED)
        faults += ask_axe(page)
        wide, shown = page.evaluate(
            "[document.documentElement.scrollWidth, innerWidth]"
        )
        if wide > shown:
            faults.append(f"{wide} pixels wide on a screen of {shown}")
        found[color] = sorted(set(faults))
        faults.clear()
    return found


def ask_axe(page: Any) -> list[str]:
    """What axe has to say: which rule, how often, and the first place."""
    found = page.evaluate(
        "rules => axe.run(document, {runOnly: rules, preload: false, "
        "resultTypes: ['violations']}).then(r => r.violations.map(v => [v.id, "
        "v.nodes.length, v.nodes[0].html.slice(0, 160)]))",
        RULES,
    )
    return [f"axe {name} ×{count}: {html}" for name, count, html in found]


Job = tuple[str, list[str]]  # a screen, some pages
AT_ONCE = 8  # pages that one browser looks at before it is closed


def looked(address: str, job: Job) -> dict[str, list[str]]:
    """The faults of some pages on one screen, in both colors."""
    from playwright.sync_api import sync_playwright

    screen, names = job
    axe = axe_script()
    found = {}
    with sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=chromium(), args=["--no-sandbox"]
        )
        form: Any = {"viewport": SCREENS[screen], "color_scheme": "light"}
        context = browser.new_context(**form)
        for name in names:
            page = context.new_page()
            for color, faults in look(page, address + name, axe).items():
                if faults:
                    found[f"{name} ({color}, {screen})"] = faults
            page.close()
        browser.close()
    return found


def judge(
    folder: Path, names: list[str], tell: Callable[[int], object]
) -> dict[str, list[str]]:
    """The faults of the pages, each in both colors on both screens.

    As many browsers as the machine has processors look at once; `tell` is
    called with the number of pages that have been looked at since.
    """
    jobs: list[Job] = [
        (screen, names[start : start + AT_ONCE])
        for screen in SCREENS
        for start in range(0, len(names), AT_ONCE)
    ]
    found: dict[str, list[str]] = {}
    start = get_context("spawn")
    with served(folder) as address, ProcessPoolExecutor(
        mp_context=start, max_workers=os.cpu_count()
    ) as pool:
        work = {pool.submit(looked, address, job): job for job in jobs}
        for done in as_completed(work):
            found |= done.result()
            tell(len(COLORS) * len(work[done][1]))
    return dict(sorted(found.items()))


def pages(folder: Path) -> list[str]:
    """All pages of a site, and one address that does not exist."""
    found = sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*.html")
    )
    return [*found, "404-test"]
