"""The finished EPUB: what its judge says, what it says of itself."""

import shutil
import zipfile
from datetime import datetime, timezone
from pathlib import Path

import pytest
from lxml import etree

from press import epub
from press.edition import Edition
from press.identity import identity

EDITION = Edition(
    title="A Book & <i>",
    author="The authors",
    version="1.2.3",
    commit="0123456789",
    changed=False,
    date=datetime(2026, 1, 2, 3, 4, 6, tzinfo=timezone.utc),
)
HEAD = '<?xml version="1.0" encoding="utf-8"?>\n'
PAGE = """<!DOCTYPE html>
<html xmlns="http://www.w3.org/1999/xhtml"
      xmlns:epub="http://www.idpf.org/2007/ops">
  <head>
    <meta charset="utf-8" />
    <meta name="viewport" content="a=1" /><meta name="viewport" content="b=2" />
    <title>A page</title>
    <link rel="stylesheet" type="text/css" href="../_static/a.css" />
    <link rel="stylesheet" type="text/css" href="../_static/lost.css" />
  </head>
  <body>
    <h1>A page</h1>
    <p>So <span class="math notranslate">\\(\\softmax(x) &lt; \\R\\)</span>.</p>
    <pre>r"\\[(.+?)\\]"</pre>
    <div class="math notranslate"><span class="eqno">(1)</span>\\[\\frac{1}{N}
    \\sum_i x_i\\]</div>
    <svg xmlns="http://www.w3.org/2000/svg"><path id="space"/></svg>
    <img alt="A line." src="../_images/a.svg" />
    <ul><li id="x" role="doc-biblioentry">Someone</li></ul>
    <script>kernelName = 'python3'</script>
  </body>
</html>
""".replace('xhtml"\n      xmlns', 'xhtml" xmlns')
DRAWING = (
    HEAD + '<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN"\n'
    '  "http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd">\n'
    '<svg xmlns="http://www.w3.org/2000/svg"><path id="a"/></svg>\n'
)
CONTAINER = (
    HEAD + '<container version="1.0" '
    'xmlns="urn:oasis:names:tc:opendocument:xmlns:container">'
    '<rootfiles><rootfile full-path="content.opf" '
    'media-type="application/oebps-package+xml"/></rootfiles></container>'
)
NCX = HEAD + (
    '<ncx version="2005-1" xmlns="http://www.daisy.org/z3986/2005/ncx/">'
    '<head><meta name="dtb:uid" content="unknown"/></head>'
    "<docTitle><text>A Book</text></docTitle>"
    '<navMap><navPoint id="n1" playOrder="1"><navLabel><text>A page</text>'
    '</navLabel><content src="book/page.xhtml"/></navPoint></navMap></ncx>'
)
NAV = """<!DOCTYPE html>
<html xmlns="http://www.w3.org/1999/xhtml"
      xmlns:epub="http://www.idpf.org/2007/ops" lang="en" xml:lang="en">
  <head><title>Contents</title></head>
  <body><nav epub:type="toc"><h1>Contents</h1><ol>
  <li><a href="book/page.xhtml">A page</a></li></ol></nav></body>
</html>
"""
OPF = (
    HEAD
    + """
<package xmlns="http://www.idpf.org/2007/opf" version="3.0" xml:lang="en"
 unique-identifier="unknown">
  <metadata xmlns:dc="http://purl.org/dc/elements/1.1/">
    <dc:language>en</dc:language><dc:title>A Book</dc:title>
    <dc:description>unknown</dc:description>
    <dc:contributor>unknown</dc:contributor><dc:rights>1970</dc:rights>
    <dc:identifier id="unknown">unknown</dc:identifier>
    <meta property="dcterms:modified">1970-01-01T00:00:00Z</meta>
  </metadata>
  <manifest>
    <item id="ncx" href="toc.ncx" media-type="application/x-dtbncx+xml" />
    <item id="nav" href="nav.xhtml" media-type="application/xhtml+xml"
     properties="nav"/>
    <item id="a" href="book/page.xhtml" media-type="application/xhtml+xml" />
    <item id="b" href="_images/a.svg" media-type="image/svg+xml" />
    <item id="c" href="_static/a.css" media-type="text/css" />
  </manifest>
  <spine toc="ncx"><itemref idref="a" /></spine>
</package>
"""
)


def write(path: Path) -> Path:
    """An EPUB with each fault that Sphinx leaves in one."""
    files = {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": CONTAINER,
        "content.opf": OPF,
        "toc.ncx": NCX,
        "nav.xhtml": NAV,
        "book/page.xhtml": PAGE,
        "_images/a.svg": DRAWING,
        "_static/a.css": "p { color: black; }\n",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)  # with the time of now
    return path


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    target = tmp_path / "finished.epub"
    epub.finish(write(tmp_path / "raw.epub"), target, EDITION)
    return target


def read(path: Path, name: str) -> str:
    with zipfile.ZipFile(path) as archive:
        return archive.read(name).decode()


@pytest.mark.skipif(not shutil.which("java"), reason="epubcheck needs Java")
def test_its_judge_has_no_complaint(finished: Path) -> None:
    assert epub.complaints(finished) == []


@pytest.mark.judge
@pytest.mark.skipif(not shutil.which("java"), reason="epubcheck needs Java")
def test_its_judge_complains_of_each_fault(tmp_path: Path) -> None:
    found = "\n".join(epub.complaints(write(tmp_path / "raw.epub")))
    for kind in ("OPF-014", "RSC-007", "RSC-017"):
        assert kind in found


def test_formulas_are_mathml_and_macros_are_spelled_out(finished: Path) -> None:
    page = read(finished, "book/page.xhtml")
    assert page.count("<math") == 2
    assert "softmax" in page
    assert "ℝ" in page or "&#x0211D;" in page
    assert "\\(" not in page
    assert 'r"\\[(.+?)\\]"' in page  # code is no formula
    assert "<script" not in page
    assert "lost.css" not in page
    assert "a.css" in page
    assert 'lang="en"' in page


def test_a_place_in_a_line_that_is_none_stops_the_build() -> None:
    """An environment that the converter does not know leaves its marks."""
    lines = "\\begin{aligned} a &= b \\\\ c &= d \\end{aligned}"
    page = f'<div class="math">\\[{lines}\\]</div>'
    with pytest.raises(ValueError, match="cannot be written as MathML"):
        epub.finish_page(page, "book/page.xhtml", set(), "foot")
    page = page.replace("aligned", "split")
    assert "<mtr>" in epub.finish_page(page, "book/page.xhtml", set(), "foot")


def test_a_formula_that_cannot_be_written_stops_the_build() -> None:
    page = '<span class="math notranslate">\\(\\nonsense{x}\\)</span>'
    with pytest.raises(ValueError, match="nonsense"):
        epub.finish_page(page, "book/page.xhtml", set(), "")


def test_it_says_what_it_is_and_for_whom(finished: Path) -> None:
    root = etree.fromstring(read(finished, "content.opf").encode())
    names = {"dc": epub.DC, "opf": epub.OPF}

    def text(name: str) -> list[str]:
        return [x.text for x in root.findall(f".//dc:{name}", names)]

    assert text("title") == ["A Book & <i>"]
    assert text("contributor") == []
    assert identity().license["rights"] in text("rights")[0]
    assert text("language") == [identity().language]
    assert text("identifier")[0].startswith("urn:uuid:")
    assert len(text("description")[0]) > 50
    assert "commit 0123456789" in text("source")[0]
    known = {
        meta.get("property") for meta in root.findall(".//opf:meta", names)
    }
    assert set(epub.ACCESS) <= known
    assert root.get("unique-identifier") == "edition"
    page = root.find(".//opf:item[@id='a']", names)
    assert page.get("properties") == "mathml svg"
    words = "version 1.2.3, commit 0123456789"
    assert words in read(finished, "book/page.xhtml")


def test_the_hour_leaves_no_trace(tmp_path: Path, finished: Path) -> None:
    again = tmp_path / "again.epub"
    epub.finish(write(tmp_path / "later.epub"), again, EDITION)
    assert again.read_bytes() == finished.read_bytes()
    with zipfile.ZipFile(again) as archive:
        first = archive.infolist()[0]
        assert first.filename == "mimetype"
        assert first.compress_type == zipfile.ZIP_STORED


def test_another_commit_is_another_edition() -> None:
    from dataclasses import replace

    other = replace(EDITION, commit="abcdef0123")
    assert epub.identifier(other) != epub.identifier(EDITION)


def test_letters_that_became_part_of_a_number_stop_the_build() -> None:
    page = PAGE.replace("\\frac{1}{N}", "\\sqrt{2cm}")
    with pytest.raises(ValueError, match="is no number: part them"):
        epub.finish_page(page, "book/page.xhtml", set(), "")
