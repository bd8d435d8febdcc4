"""The large-print edition: tags, words for pictures, nothing lost in silence.

`make judge` brings the typesetter and the validator of its rules.
"""

import subprocess
import zipfile
from io import BytesIO
from pathlib import Path

import pikepdf
import pytest

from press.edition import edition

pytestmark = pytest.mark.judge
MATH = '<math xmlns="http://www.w3.org/1998/Math/MathML" display="inline">'
SQUARE = f"{MATH}<msup><mi>x</mi><mn>2</mn></msup></math>"
ONE = f"""<section id="one"><h1>One</h1>
<p id="place">So <span class="math">{SQUARE}</span>, see
<a href="two.xhtml#there"><span><code>there</code></span></a>.</p>
<ul><li><p>first</p><p>and more</p></li><li>second<ol><li>a</li></ol></li></ul>
<div class="highlight"><pre><span class="k">def</span> f():</pre></div>
<table><thead><tr><th>Name</th><th>Number</th></tr></thead>
<tbody><tr><td>a</td><td>1</td></tr></tbody></table>
<figure><img alt="A red line." src="../_images/a.svg"/>
<figcaption>A line.</figcaption></figure>
<svg xmlns="http://www.w3.org/2000/svg" aria-label="A blue dot."
 viewBox="0 0 9 9" xmlns:xlink="http://www.w3.org/1999/xlink">
<a xlink:href="two.xhtml"><circle cx="4" cy="4" r="2"/><text>two</text></a>
</svg></section>"""
TWO = '<section id="there"><h1>Two</h1><p><a href="one.xhtml">Back</a></p>'
TWO += "</section>"
NAV = '<nav><ol><li><a href="book/two.xhtml">Two</a></li>'
NAV += '<li><a href="book/one.xhtml">One</a></li></ol></nav>'
DRAWING = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9">'
DRAWING += '<path d="M0 0L9 9" stroke="red"/></svg>'
PACKAGE = """<package xmlns="http://www.idpf.org/2007/opf" version="3.0">
<manifest><item id="a" href="book/one.xhtml"/>
<item id="b" href="book/two.xhtml"/></manifest>
<spine><itemref idref="b"/><itemref idref="a"/></spine></package>"""


def book(folder: Path, one: str = ONE) -> Path:
    """An e-book of two pages, the second of which comes first."""
    head = '<html xmlns="http://www.w3.org/1999/xhtml"><head><title/></head>'
    files = {"content.opf": PACKAGE, "_images/a.svg": DRAWING}
    files["nav.xhtml"] = f"{head}<body>{NAV}</body></html>"
    for name, text in (("one", one), ("two", TWO)):
        inside = f'<div role="main">{text}</div>'
        files[f"book/{name}.xhtml"] = f"{head}<body>{inside}</body></html>"
    path = folder / "book.epub"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def large(folder: Path, one: str = ONE) -> Path:
    """The large-print edition of that book."""
    from press.accessible import finish

    finish(book(folder, one), folder / "large.pdf", edition())
    return folder / "large.pdf"


def printed(path: Path, *how: str) -> str:
    """The words of a PDF."""
    command = ["pdftotext", *how, str(path), "-"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout if how else " ".join(done.stdout.split())


def tags(pdf: pikepdf.Pdf) -> list[tuple[str, str]]:
    """Each tag in the order of reading, and the words it has."""
    found = []

    def walk(node: pikepdf.Object) -> None:
        if isinstance(node, pikepdf.Array):
            for child in node:
                walk(child)
        elif isinstance(node, pikepdf.Dictionary) and "/S" in node:
            found.append((str(node.S), str(node.get("/Alt", ""))))
            walk(node.get("/K", pikepdf.Array()))

    walk(pdf.Root.StructTreeRoot.K)
    return found


def test_a_validator_of_its_rules_is_content(tmp_path: Path) -> None:
    import page

    report = page.validate_pdf(large(tmp_path), profile="ua1")
    assert not [(x.rule_id, x.message) for x in report.failures]
    assert report.rules.total > 50
    with pikepdf.open(tmp_path / "large.pdf") as pdf:
        assert pdf.Root.Lang == "en"
        assert pdf.docinfo["/Title"] == edition().title


def test_the_validator_would_see_a_pdf_without_tags(tmp_path: Path) -> None:
    import page

    path = tmp_path / "bare.pdf"
    with pikepdf.open(large(tmp_path)) as pdf:
        del pdf.Root.StructTreeRoot
        pdf.save(path)
    assert not page.is_pdf_compliant(path, profile="ua1")


def test_tags_name_the_parts_and_pictures_have_words(tmp_path: Path) -> None:
    with pikepdf.open(large(tmp_path)) as pdf:
        found = tags(pdf)
        names = [name for name, _ in found]
    for name in ("/L", "/LBody", "/Table", "/TH", "/TD", "/Caption", "/P"):
        assert name in names
    # Of the book, its contents and its two pages.
    assert names.count("/H1") == 4
    words = [alt for name, alt in found if name == "/Figure"]
    assert words == ["x squared", "A red line.", "A blue dot."]


def test_links_lead_to_their_places_and_lie_there_once(tmp_path: Path) -> None:
    with pikepdf.open(large(tmp_path)) as pdf:
        links = [
            str(link.get("/Dest", ""))
            for page in pdf.pages
            for link in page.get("/Annots", [])
        ]
    contents = ["book-two", "book-one"]
    assert links == [*contents, "book-one", "book-two--there", "book-two"]


def test_a_page_is_found_on_paper(tmp_path: Path) -> None:
    words = printed(large(tmp_path))
    assert "Two, 3" in words  # in the contents
    assert "Back (page 4)" in words
    assert "there (page 3)" in words


def test_the_rest_of_a_long_line_of_code_hangs_in(tmp_path: Path) -> None:
    one = ONE.replace("def</span> f():", f"def</span> f({'a, ' * 40}b):\n  0")
    rows = printed(large(tmp_path, one), "-layout").splitlines()
    first = next(row for row in rows if "def f(" in row)
    rest = next(row for row in rows if row.endswith("b):"))
    assert len(rest) - len(rest.lstrip()) > first.index("def")


def test_the_same_book_gives_the_same_bytes(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "a longer name"
    one.mkdir()
    two.mkdir()
    assert large(one).read_bytes() == large(two).read_bytes()


def test_the_fonts_have_the_date_of_the_edition(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without HarfBuzz-Subset, fontTools cuts them down, and dates them."""
    from fontTools.ttLib import TTFont

    monkeypatch.setattr("weasyprint.pdf.fonts.harfbuzz_subset", None)
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    with pikepdf.open(large(tmp_path)) as pdf:
        files = [
            bytes(thing.FontFile2.read_bytes())
            for thing in pdf.objects
            if isinstance(thing, pikepdf.Dictionary) and "/FontFile2" in thing
        ]
    assert files
    since = 2082844800  # seconds from 1904 to 1970, as in the font's table
    for file in files:
        written = TTFont(BytesIO(file))["head"].modified
        assert written - since == edition().epoch


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("two.xhtml#there", "two.xhtml#nowhere", "nowhere"),
        ("two.xhtml#there", "three.xhtml", "three.xhtml"),
        ('alt="A red line."', 'alt=""', "a.svg"),
        ("_images/a.svg", "_images/lost.svg", "lost.svg"),
        ('aria-label="A blue dot."', "", "aria-label"),
        (SQUARE, f"{MATH}<menclose><mi>x</mi></menclose></math>", "menclose"),
    ],
)
def test_what_is_missing_stops_the_build(
    tmp_path: Path, old: str, new: str, named: str
) -> None:
    from press.accessible import TypesetError

    assert old in ONE
    with pytest.raises((TypesetError, ValueError), match=named):
        large(tmp_path, ONE.replace(old, new))
    assert not (tmp_path / "large.pdf").exists()
