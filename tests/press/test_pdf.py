"""The finished PDF: what it says of itself, its files, its bytes."""

import json
import time
from datetime import datetime, timezone
from io import BytesIO
from pathlib import Path

import pikepdf
import pytest

from press.edition import Edition
from press.extensions.attachments import token
from press.identity import identity
from press.pdf import edition_tex, finish, timeless

EDITION = Edition(
    title="A Book",
    author="The authors",
    version="1.2.3",
    commit="0123456789",
    changed=True,
    date=datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc),
)
NAME = "tests/text/test_toytown.py"


def write(folder: Path) -> Path:
    """A PDF as TeX leaves it: dated, a file under a token, no metadata."""
    folder.mkdir(parents=True, exist_ok=True)
    pdf = pikepdf.new()
    pdf.add_blank_page()
    short = token(NAME)
    spec = pikepdf.AttachedFileSpec(pdf, b"import this\n", filename=short)
    spec.obj.EF.F.Params = pikepdf.Dictionary(
        ModDate=pikepdf.String(f"D:{time.time():.0f}")
    )
    pdf.attachments[short] = spec
    pdf.docinfo["/CreationDate"] = f"D:{time.time_ns()}"
    pdf.save(folder / "book.pdf")
    names = folder / "attachments" / "names.json"
    names.parent.mkdir(exist_ok=True)
    names.write_text(json.dumps({short: NAME}))
    return folder / "book.pdf"


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    target = tmp_path / "finished.pdf"
    finish(write(tmp_path / "one"), target, EDITION)
    return target


def test_it_says_title_author_language_licence_version_commit(
    finished: Path,
) -> None:
    with pikepdf.open(finished) as pdf:
        data = pdf.open_metadata()
        assert data["dc:title"] == "A Book"
        assert data["dc:creator"] == list(identity().authors)
        said = identity()
        assert set(data["dc:language"]) == {said.language}
        assert said.license["rights"] in data["dc:rights"]
        assert data["xmpRights:WebStatement"] == said.license["url"]
        words = "version 1.2.3, commit 0123456789 with changes"
        assert data["xmpMM:VersionID"] == words
        assert str(pdf.docinfo["/Subject"]) == words
        assert str(pdf.Root.Lang) == said.language


def test_attachments_have_their_own_names(finished: Path) -> None:
    with pikepdf.open(finished) as pdf:
        (spec,) = pdf.attachments.values()
        assert spec.filename == "test_toytown.py"
        assert spec.description == NAME
        assert spec.get_file().read_bytes() == b"import this\n"
        assert str(spec.obj.EF.F.Params.ModDate) == "D:20260102030405Z"


def test_folder_and_hour_leave_no_trace(tmp_path: Path, finished: Path) -> None:
    other = tmp_path / "other.pdf"
    finish(write(tmp_path / "a" / "longer" / "folder"), other, EDITION)
    assert other.read_bytes() == finished.read_bytes()


def test_a_failure_leaves_the_last_good_file(
    tmp_path: Path, finished: Path
) -> None:
    before = finished.read_bytes()
    broken = tmp_path / "broken.pdf"
    broken.write_bytes(b"%PDF-1.5 and no more")
    with pytest.raises(pikepdf.PdfError):
        finish(broken, finished, EDITION)
    assert finished.read_bytes() == before
    assert not list(tmp_path.glob(".*"))


def test_a_drawing_loses_its_time() -> None:
    def drawn(hour: int) -> bytes:
        pdf = pikepdf.new()
        pdf.add_blank_page()
        pdf.docinfo["/CreationDate"] = f"D:2026010{hour}"
        out = BytesIO()
        pdf.save(out)
        return out.getvalue()

    assert timeless(drawn(1)) == timeless(drawn(2))


def test_tokens_survive_tex() -> None:
    names = {token(f"tests/a/test_{i}.py") for i in range(500)}
    assert len(names) == 500
    assert all(name.removesuffix(".py").isalnum() for name in names)
    assert "commit 0123456789" in edition_tex(EDITION, identity())
