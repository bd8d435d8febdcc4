"""What one output has and another lacks is found, and where it is missing."""

import zipfile
from pathlib import Path

import matplotlib.pyplot as plt
import pikepdf
import pytest
from matplotlib.backends.backend_pdf import PdfPages

from press import parity

ALT = "Two towers of blocks, the left one higher than the right one"
PAGE = f"""<article><section id="towers"><span id="tower"></span>
<h1><span class="section-number">1. </span>Towers<a href="#towers">#</a></h1>
<figure id="fig-towers"><img src="a.svg" alt="{ALT}"/><figcaption>
<p><span class="caption-number">Figure 1.1 </span>
<span class="caption-text">Two towers.</span></p></figcaption></figure>
<div class="literal-block-wrapper" id="lst-build"><div>
<span class="caption-number">Listing 1.1 </span>Build.</div></div>
<div class="math" id="equation-eq-height"><span class="eqno">(1.1)
<a href="#equation-eq-height">#</a></span>h = n</div>
<table><tr><td>1</td></tr></table>
<section id="exercises">
<h2><span class="section-number">1.1. </span>Exercises</h2>
<div class="exercise" id="ex-fall"><p>
<span class="caption-number">Exercise 1.1 </span>When does it fall?</p></div>
</section></section></article>"""
AUX = r"""\relax
\newlabel{book/a:towers}{{1}{1}{Towers}{chapter.1}{}}
\newlabel{book/a:tower}{{1}{1}{Towers}{chapter.1}{}}
\@writefile{toc}{\contentsline {chapter}{\numberline {1}Towers}{1}{chapter.1}\protected@file@percent }
\@writefile{lof}{\contentsline {figure}{\numberline {1.1}{\ignorespaces Two towers.\relax }}{1}{figure.caption.3}\protected@file@percent }
\newlabel{book/a:fig-towers}{{1.1}{1}{Two towers.\relax }{figure.caption.3}{}}
\@writefile{lol}{\contentsline {literalblock}{\numberline {1.1}{\ignorespaces Build.\relax }}{1}{literalblock.caption.4}\protected@file@percent }
\newlabel{book/a:lst-build}{{1.1}{1}{Build.\relax }{literalblock.caption.4}{}}
\newlabel{equation:book/a:eq-height}{{1.1}{1}{Towers}{equation.1.0.1}{}}
\@writefile{toc}{\contentsline {section}{\numberline {1.1}Exercises}{2}{section.1.1}\protected@file@percent }
\newlabel{book/a:exercises}{{1.1}{2}{Exercises}{section.1.1}{}}
\newlabel{book/a:ex-fall}{{1.1}{2}{Exercises}{bookexercise.1.1}{}}
"""  # noqa: E501
TEX = r"""\label{\detokenize{book/a::doc}}
\begin{tabulary}{T}1\end{tabulary}
"""
PRINTED = [
    "1 Towers\n\nFigure 1.1 Two towers.\nListing 1.1  Build.\nh = n  (1.1)",
    "1.1 Exercises\n\nExercise 1.1  When does it fall?",
]
PLACES = {
    "chapter.1": 0,
    "figure.caption.3": 0,
    "literalblock.caption.4": 0,
    "equation.1.0.1": 0,
    "section.1.1": 1,
    "bookexercise.1.1": 1,
}


def write_pdf(path: Path, places: dict[str, int], pages: list[str]) -> None:
    """A PDF of some pages, in which some places have a name."""
    with PdfPages(path) as pdf:
        for text in pages:
            figure = plt.figure(figsize=(4, 4))
            figure.text(0.1, 0.2, text)
            pdf.savefig(figure)
            plt.close(figure)
    with pikepdf.open(path, allow_overwriting_input=True) as file:
        names = pikepdf.NameTree.new(file)
        for name, page in places.items():
            target = pikepdf.Array([file.pages[page].obj, pikepdf.Name.Fit])
            names[name] = pikepdf.Dictionary(D=target)
        file.Root.Names = pikepdf.Dictionary(Dests=names.obj)
        file.save(path)


def book(folder: Path, **other: object) -> Path:
    """A build of one chapter in three outputs; `other` replaces a part."""
    parts = {"html": PAGE, "epub": PAGE, "aux": AUX, "tex": TEX}
    parts |= {key: str(other[key]) for key in parts if key in other}
    site, tex = folder / "html" / "book", folder / parity.TEX
    site.mkdir(parents=True)
    tex.mkdir(parents=True)
    (site / "a.html").write_text(parts["html"], encoding="utf-8")
    (folder / "html" / "404.html").write_text("<h1>Lost</h1>")
    with zipfile.ZipFile(folder / "book.epub", "w") as packed:
        head = '<?xml version="1.0" encoding="utf-8"?><html><body>'
        packed.writestr("book/a.xhtml", f"{head}{parts['epub']}</body></html>")
        packed.writestr("nav.xhtml", "<html><body>Contents</body></html>")
    (tex / "book.aux").write_text(parts["aux"], encoding="utf-8")
    (tex / "book.tex").write_text(parts["tex"], encoding="utf-8")
    places, pages = other.get("places", PLACES), other.get("pages", PRINTED)
    write_pdf(folder / "book.pdf", places, pages)  # type: ignore[arg-type]
    return folder


def test_one_book_in_three_outputs_has_no_difference(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build = book(tmp_path)
    assert parity.main(["--build", str(build)]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == ["html", "pdf", "epub"]
    counts = {kind: 2 if kind == "heading" else 1 for kind in parity.KINDS}
    for row, (kind, count) in zip(rows[1:7], counts.items(), strict=True):
        assert row == [kind, *[str(count)] * 3]
    assert rows[7] == ["alt", "text", "1", "-", "1"]


@pytest.mark.parametrize("where", ["html", "epub"])
@pytest.mark.parametrize("what", ["Listing", "Figure", "Exercise"])
def test_what_a_page_has_lost_is_named(
    tmp_path: Path, what: str, where: str
) -> None:
    page = PAGE.replace(f'<span class="caption-number">{what} 1.1 </span>', "")
    found = parity.complaints(book(tmp_path, **{where: page}))
    assert f"{what.lower()} 1.1 is missing in {where}" in found


@pytest.mark.parametrize(
    ("old", "new", "names"),
    [
        ("1. </span>Towers", "2. </span>Towers", ("heading 1", "heading 2")),
        ("(1.1)", "(1.2)", ("equation 1.1", "equation 1.2")),
        (">Exercise 1.1 ", ">Exercise 1.10 ", ("exercise 1.1", "exercise 1.1")),
    ],
)
def test_another_number_is_missing_on_both_sides(
    tmp_path: Path, old: str, new: str, names: tuple[str, str]
) -> None:
    found = parity.complaints(book(tmp_path, html=PAGE.replace(old, new)))
    assert found[0] == f"{names[0]} is missing in html"
    assert found[1].startswith(names[1])
    assert found[1].endswith("is missing in pdf, epub")


def test_one_number_for_two_things_is_found(tmp_path: Path) -> None:
    page = PAGE.replace('"fig-towers"', '"fig-walls"')
    found = parity.complaints(book(tmp_path, epub=page))
    said = "book/a:fig-towers in html, book/a:fig-towers in pdf"
    assert found == [f"figure 1.1 is {said}, book/a:fig-walls in epub"]


def test_a_number_twice_is_found(tmp_path: Path) -> None:
    span = '<span class="caption-number">Listing 1.1 </span>'
    found = parity.complaints(book(tmp_path, html=PAGE + span))
    assert "html: listing 1.1 is there twice" not in found  # not in the article
    page = PAGE.replace("</article>", f"{span}</article>")
    again = book(tmp_path / "again", html=page)
    assert parity.complaints(again) == ["html: listing 1.1 is there twice"]


def test_a_name_made_while_building_says_nothing(tmp_path: Path) -> None:
    page = PAGE.replace('"lst-build"', '"id4"')
    assert parity.complaints(book(tmp_path, epub=page)) == []


def test_a_table_in_one_output_alone_is_found(tmp_path: Path) -> None:
    found = parity.complaints(book(tmp_path, tex=TEX + TEX.splitlines()[1]))
    assert found == ["table 2 of book/a is missing in html, epub"]


def test_what_tex_lists_must_be_in_the_finished_pdf(tmp_path: Path) -> None:
    places = {k: v for k, v in PLACES.items() if k != "figure.caption.3"}
    found = parity.complaints(book(tmp_path, places=places))
    assert found == [
        "figure 1.1 is missing in pdf",
        "pdf: figure 1.1 is in TeX's files alone",
    ]


def test_a_link_must_lead_to_the_page_that_shows_it(tmp_path: Path) -> None:
    places = PLACES | {"bookexercise.1.1": 0}
    found = parity.complaints(book(tmp_path, places=places))
    assert found == [
        "exercise 1.1 is missing in pdf",
        "pdf: exercise 1.1 is not on page 1",
    ]


@pytest.mark.parametrize(
    ("alt", "fault"),
    [
        ("", "has no alt text"),
        ("Two tall towers", "has fewer than 4 words of alt text"),
        ("Four words are needed", ""),
    ],
)
def test_a_picture_needs_words(tmp_path: Path, alt: str, fault: str) -> None:
    page = PAGE.replace(ALT, alt)
    found = parity.complaints(book(tmp_path, html=page, epub=page))
    faults = [
        f"{name}: book/a: figure 1.1 {fault}" for name in ("html", "epub")
    ]
    assert len(found) == (2 if fault else 0)
    assert all(map(str.startswith, found, faults))


def test_a_caption_is_no_alt_text(tmp_path: Path) -> None:
    said = "Two towers of blocks"
    page = PAGE.replace(ALT, said).replace("Two towers.", f"{said}.")
    found = parity.complaints(book(tmp_path, html=page, epub=page))
    assert (
        found[0] == "html: book/a: figure 1.1 repeats its caption as alt text"
    )


def test_a_drawing_in_the_page_needs_words_too(tmp_path: Path) -> None:
    drawn = "</article>", "<svg></svg></article>"
    found = parity.complaints(book(tmp_path, html=PAGE.replace(*drawn)))
    assert found == ["html: book/a: a picture has no alt text"]
    drawn = "</article>", '<svg aria-hidden="true"></svg></article>'
    again = book(tmp_path / "again", html=PAGE.replace(*drawn))
    assert parity.complaints(again) == []


def test_both_outputs_say_the_same_of_a_picture(tmp_path: Path) -> None:
    page = PAGE.replace(ALT, "Two heaps of sand in the sun")
    found = parity.complaints(book(tmp_path, epub=page))
    assert found == ["figure 1.1 has not the same alt text in each"]


@pytest.mark.parametrize(
    ("text", "kind", "number", "there"),
    [
        ("Listing 2.1 Sums", "listing", "2.1", True),
        ("Listing 2.10 Sums", "listing", "2.1", False),
        ("Listing 2.1.3 Sums", "listing", "2.1", False),
        ("Figure 2.1.", "figure", "2.1", True),
        ("Figure 2.1.", "table", "2.1", False),
        ("x = y   (12.1)", "equation", "2.1", False),
        ("12.1 Sums", "heading", "2.1", False),
        ("2.1  Sums", "heading", "2.1", True),
    ],
)
def test_a_number_is_read_whole(
    text: str, kind: str, number: str, there: bool
) -> None:
    assert parity.shows(text, kind, number) is there


def test_what_is_not_built_is_named_with_what_builds_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parity.main(["--build", str(tmp_path)])
    assert "html is not built: make html" in capsys.readouterr().err
    build = book(tmp_path)
    (build / parity.TEX / "book.aux").unlink()
    with pytest.raises(FileNotFoundError, match=r"no book.aux: make pdf"):
        parity.complaints(build)


def test_numbers_are_in_the_order_of_reading() -> None:
    keys = [("figure", "2.10"), ("figure", "2.9"), ("heading", "10")]
    assert sorted(keys, key=parity.natural) == keys[::-1]


def test_a_table_with_a_number_is_not_counted_by_its_place() -> None:
    numbered = "\\sphinxaftertopcaption\n\\begin{tabulary}{\\linewidth}\n"
    long = "\\begin{longtable}{ll}\n\\sphinxthelongtablecaptionisattop\n"
    plain = "\\centering\n\\begin{tabulary}{\\linewidth}[t]{TT}\n"
    plain += "\\sphinxtoprule\n\\begin{longtable}{ll}\n\\sphinxtoprule\n"
    assert not parity.PARTS.search(numbered + long)
    assert len(parity.PARTS.findall(numbered + plain + long)) == 2
