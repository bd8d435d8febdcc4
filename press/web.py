"""Finish the site that Sphinx wrote, so that its judges have no complaint.

Sphinx keeps its own folder, which it updates page by page; what readers get
is a finished copy, put in place when it is whole. The copy has no template,
no script of a service that the book does not use, valid HTML, an icon, a page
for addresses that do not exist, and the edition at every foot.
"""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

from press.dependencies import BUILD
from press.edition import Edition
from press.identity import identity

MODEL_PAGE = "model"  # model.html, in which the book's model runs
PLACE = "@EDITION@"  # stands in the theme's footer until here
SERVICE = re.compile(
    r"[ \t]*(?:<link[^>]*sphinx-thebe[^>]*>"
    r"|<script(?=[^>]*(?:sphinx-thebe|x-thebe-config))[^>]*>.*?</script>"
    r"|<script>(?:const THEBE_JS_URL|kernelName =).*?</script>)\n?",
    re.S,
)
TWICE = re.compile(
    r"[ \t]*<script>(?:var togglebuttonSelector)[^<]*</script>\n"
)
VIEWPORT = re.compile(r'\s*<meta name="viewport"[^>]*>')
# A style whose name is its hash; a second build adds that of its bytes.
HASHED = re.compile(r"(\.[0-9a-f]{64}\.css)\?v=[0-9a-f]+")
ROLE = re.compile(r'(<main\b[^>]*?) role="main"')
SUMMARY = '<summary><span class="toctree-toggle"'
TEMPLATE = "*webpack-macros.html"
TO_COVER = (
    'document.getElementById("cover").href = '
    'location.pathname.replace(/\\/(book|source)\\/.*|\\/[^/]*$/, "/")'
)
SHELL = """<!DOCTYPE html>
<html lang="{language}">
  <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <title>{title}</title>
    <style>
      :root {{ color-scheme: light dark; }}
      body {{ font: 1.1rem/1.6 serif; max-width: 34rem; margin: 4rem auto;
        padding: 0 1rem; }}
      @media (prefers-color-scheme: dark) {{
        body {{ background: #14181c; color: #e4e8ec; }}
        a {{ color: #8cc4ff; }}
      }}
    </style>
    <link rel="icon" href="data:,">{head}
  </head>
  <body>
    <main>
      {body}
    </main>
  </body>
</html>
"""


def shell(edition: Edition, title: str, body: str, head: str = "") -> str:
    """A small page that stands without the theme."""
    book = html.escape(edition.title)
    words = f"{body}\n      <p><small>{book}, {edition.words}</small></p>"
    title = f"{title} — {book}" if title else book
    return SHELL.format(
        language=identity().language, title=title, body=words, head=head
    )


def not_found(edition: Edition) -> str:
    """The page for an address that does not exist, at any depth.

    The site may lie in a folder of its host: all its pages are in `book` or
    `source`, or beside the cover, so the address that was asked for says
    where the cover is. Without scripts the link leads to the host's root.
    """
    body = (
        "<h1>There is no such page</h1>\n"
        "      <p>It may have moved when a chapter got a new name. "
        '<a id="cover" href="/">Begin at the cover</a>: the contents are '
        f"there, and the search.</p>\n      <script>{TO_COVER}</script>"
    )
    return shell(edition, "No such page", body)


def front(edition: Edition) -> str:
    """The site's address leads to the book's first page."""
    return shell(
        edition,
        "",
        '<h1><a href="book/index.html">Read the book</a></h1>',
        '\n    <meta http-equiv="refresh" content="0; url=book/index.html">',
    )


def finish_page(text: str, edition: Edition) -> str:
    """A page of the theme without what is wrong or not used."""
    text = SERVICE.sub("", text)
    for twice in (TWICE, VIEWPORT):
        if (found := len(twice.findall(text))) > 1:
            text = twice.sub("", text, count=found - 1)
    text = ROLE.sub(r"\1", text)
    text = HASHED.sub(r"\1", text)
    text = text.replace('role="doc-biblioentry"', 'role="listitem"')
    text = text.replace(
        SUMMARY, SUMMARY.replace("y>", 'y aria-label="Its pages">', 1)
    )
    return text.replace(PLACE, edition.words)


def drop_a_home(source: Path) -> None:
    """Take a file of MathJax out that names its author's home folder.

    Only mathematics that is written as MathML needs it, and ours is TeX.
    """
    for path in source.rglob("mml3.sef.json"):
        path.unlink()


def finish(source: Path, target: Path, edition: Edition) -> None:
    """Put the finished copy in the place of the last one."""
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    skip = shutil.ignore_patterns(
        ".buildinfo*", "_sources", TEMPLATE, "sphinx-thebe*"
    )
    shutil.copytree(source, partial, ignore=skip)
    for path in partial.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        path.write_text(finish_page(text, edition), encoding="utf-8")
    (partial / "index.html").write_text(front(edition), encoding="utf-8")
    (partial / "404.html").write_text(not_found(edition), encoding="utf-8")
    if target.is_symlink():
        target.unlink()
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)


def validator() -> Path | None:
    """The jar of vnu, if `make judge` has brought it."""
    path = BUILD / "judges/node_modules/vnu-jar/build/dist/vnu.jar"
    return path if path.exists() else None


def complaints(folder: Path, program: Path) -> list[str]:
    """What vnu, the validator of the W3C, says; `program` is its jar."""
    command = ["java", "-Xss8m", "-jar", str(program), "--errors-only"]
    command += ["--format", "json", "--skip-non-html", "--exit-zero-always"]
    done = subprocess.run(
        [*command, str(folder)], capture_output=True, text=True, check=False
    )
    return [
        f"{Path(m['url'].removeprefix('file:')).relative_to(folder)}:"
        f"{m.get('lastLine')}: {m['message']}"
        for m in json.loads(done.stderr)["messages"]
    ]
