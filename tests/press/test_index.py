"""Subjects and names apart, and each entry once."""

import shutil
from pathlib import Path

import pytest

from press import index

ENTRIES = r"""
\indexentry{entropy@\spxentry{entropy}|hyperpage}{3}
\indexentry{cross\sphinxhyphen {}entropy@\spxentry{cross\sphinxhyphen {}entropy}|hyperpage}{5}
\indexentry{cross\sphinxhyphen{}entropy@\spxentry{cross\sphinxhyphen{}entropy}|hyperpage}{9}
\indexentry{join()@\spxentry{join()}|hyperpage}{12}
\indexentry{block\_size@\spxentry{block\_size}|hyperpage}{13}
\indexentry{Batch (class)@\spxentry{Batch}\spxextra{class}|hyperpage}{14}
\indexentry{GPT.forward()@\spxentry{GPT.forward()}|hyperpage}{15}
\indexentry{KV cache@\spxentry{KV cache}|hyperpage}{16}
\indexentry{multiplication@\spxentry{multiplication}|hyperpage}{17}
\indexentry{μP@\spxentry{μP}|hyperpage}{18}
\indexentry{rate@\spxentry{rate}!in μP@\spxentry{in μP}|hyperpage}{19}
""".strip()  # noqa: E501
STYLE = 'preamble "\\\\begin{sphinxtheindex}\n"\n'


def test_names_and_subjects_are_told_apart() -> None:
    found = index.parted(ENTRIES)
    assert [line.split("{")[1].split("@")[0] for line in found["names"]] == [
        "join()",
        r"block\_size",
        "Batch (class)",
        "GPT.forward()",
    ]
    assert len(found["subjects"]) == 7
    assert len({line.split("|")[0] for line in found["subjects"]}) == 6
    assert found["subjects"][-2:] == [
        r"\indexentry{muP@\spxentry{μP}|hyperpage}{18}",
        r"\indexentry{rate@\spxentry{rate}!in muP@\spxentry{in μP}"
        "|hyperpage}{19}",
    ]


@pytest.mark.skipif(not shutil.which("makeindex"), reason="TeX is not here")
def test_makeindex_sorts_both_into_one_file(tmp_path: Path) -> None:
    (tmp_path / "book.idx").write_text(ENTRIES + "\n", encoding="utf-8")
    (tmp_path / "python.ist").write_text(STYLE)
    source, target = tmp_path / "book.idx", tmp_path / "book.ind"
    assert index.main([str(source), str(target)]) == 0
    text = target.read_text(encoding="utf-8")
    subjects, names = text.split(r"\renewcommand{\indexname}")[1:]
    assert subjects.startswith("{Index}")
    assert names.startswith("{Names in the code}")
    pages = r"\hyperpage{5}, \hyperpage{9}"  # one entry, two pages
    assert pages in " ".join(subjects.split())
    assert subjects.index("multiplication") < subjects.index("μP")
    assert subjects.index("μP") < subjects.index("rate")
    assert "join()" in names
    assert "join()" not in subjects
