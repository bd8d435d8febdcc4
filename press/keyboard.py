"""The site, walked by keyboard alone.

Chromium presses Tab until it is through a page. A stop that nobody can see,
the focus that does not go on, and a link, button or field at which the walk
does not stop are faults. The first stop leads past the navigation.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from press.browser import PATIENCE, SCREENS, chromium, served

MOST = 1500  # stops on one page
ON_ITS_WAY = 400  # milliseconds: what is smooth takes its time
SHOWN = 100  # letters of an element in a complaint

# What may have the focus and is there to be seen, each with a number of its
# own; of radio buttons that belong together one is a stop.
NUMBER = """() => {
  const can = 'a[href], svg a, button, input, select, textarea, summary, ' +
    '[tabindex]:not([tabindex^="-"])';
  let count = 0;
  for (const x of document.querySelectorAll(can)) {
    const seen = x.checkVisibility({checkVisibilityCSS: true});
    const off = x.disabled || x.type === 'hidden' || x.type === 'radio' ||
      x.getAttribute('tabindex') === '-1' || x.closest('[inert]');
    if (seen && !off) x.dataset.stop = ++count;
  }
  return count;
}"""
# The stop that has the focus: its number, how it begins, whether one sees it.
STOP = """() => {
  const x = document.activeElement;
  const seen = [x, ...x.children].some(part => {
    const box = part.getBoundingClientRect();
    return box.width > 1 && box.height > 1 && box.right > 0 &&
      box.bottom > 0 && box.left < innerWidth && box.top < innerHeight;
  });
  return [x === document.body ? 0 : Number(x.dataset.stop || -1),
          x.outerHTML.slice(0, 200), seen];
}"""
LEFT = """numbers => [...document.querySelectorAll('[data-stop]')]
  .filter(x => !numbers.includes(Number(x.dataset.stop)) &&
               x.checkVisibility({checkVisibilityCSS: true}))
  .map(x => x.outerHTML.slice(0, 200))"""


def short(html: str) -> str:
    """An element as a complaint has room for it.

    >>> short('<a  href="x">')
    '<a href="x">'
    """
    return " ".join(html.split())[:SHOWN]


def walk(page: Any, address: str) -> list[str]:
    """What is wrong for somebody who has a keyboard and no mouse."""
    page.set_default_timeout(PATIENCE)
    page.goto(address, wait_until="load")
    page.wait_for_timeout(700)  # scripts of the theme have added theirs
    page.evaluate(NUMBER)
    stops: list[int] = []
    faults: list[str] = []
    for _ in range(MOST):
        page.keyboard.press("Tab")
        number, html, seen = page.evaluate(STOP)
        if not seen:  # it may be on its way
            page.wait_for_timeout(ON_ITS_WAY)
            number, html, seen = page.evaluate(STOP)
        if not number or number in stops:
            break
        stops.append(number)
        if not seen:
            faults.append(f"has the focus, but is not seen: {short(html)}")
    else:
        faults.append(f"no end after {MOST} stops")
    if number and number in stops[-1:]:
        faults.append(f"the focus stays: {short(html)}")
    missed = page.evaluate(LEFT, stops)
    faults += [f"never has the focus: {short(html)}" for html in missed]
    return list(dict.fromkeys(faults))


def skips(page: Any, address: str) -> list[str]:
    """Whether the first stop leads to what the page is about."""
    page.goto(address, wait_until="load")
    if not page.query_selector("nav"):
        return []
    page.keyboard.press("Tab")
    link = page.evaluate("document.activeElement.getAttribute('href') || ''")
    if not link.startswith("#"):
        return ["no way past the navigation"]
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    inside = "!!document.activeElement.closest('main, [role=main], article')"
    return [] if page.evaluate(inside) else ["no way past the navigation"]


def judge(folder: Path, names: Iterable[str]) -> dict[str, list[str]]:
    """The faults of some pages of a site, on a desk and on a phone."""
    from playwright.sync_api import sync_playwright

    found = {}
    with served(folder) as address, sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=chromium(), args=["--no-sandbox"]
        )
        for screen, size in SCREENS.items():
            context = browser.new_context(viewport=size)  # type: ignore
            for name in names:
                page = context.new_page()
                faults = walk(page, address + name)
                faults += skips(page, address + name)
                if faults:
                    found[f"{name} ({screen})"] = faults
                page.close()
        browser.close()
    return found
