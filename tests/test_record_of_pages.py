"""The record of the pages: a page is run to its end, and its use is taken."""

from pathlib import Path

import pytest
from nbclient.exceptions import CellExecutionError

from press.roadmap import load
from records import make_pages

PAGE = """---
file_format: mystnb
kernelspec: {{name: python3, display_name: Python 3}}
---
# A page

```{{code-cell}}
:tags: [remove-cell]
held = bytearray({size})
```

```{{code-cell}}
assert len(held) == {wanted}
```
"""
LARGE = 300 << 20  # bytes; more than a kernel has by itself


def test_a_page_is_run_and_its_peak_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text(PAGE.format(size=LARGE, wanted=LARGE), encoding="utf-8")
    used = make_pages.execute(path)
    assert used["cells"] == 2
    assert used["seconds"] > 0
    assert used["bytes"] > LARGE


def test_a_page_that_fails_is_no_measurement(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text(PAGE.format(size=1, wanted=2), encoding="utf-8")
    with pytest.raises(CellExecutionError):
        make_pages.execute(path)
    with pytest.raises(RuntimeError, match=r"page\.md does not run"):
        make_pages.measure(str(path))


def test_a_replay_runs_the_quickest_page(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = load().topics[:2]
    asked: list[str] = []

    def measure(name: str) -> dict[str, float]:
        asked.append(name)
        return {"seconds": 50.0, "bytes": size}

    monkeypatch.setattr(make_pages, "measure", measure)
    pages = {
        first.id: {"seconds": 9.0, "bytes": 4000},
        second.id: {"seconds": 2.0, "bytes": 1000},
    }
    size = 1100
    make_pages.replay({"pages": pages})
    assert asked == [second.files["chapter"]]
    size = 9000
    with pytest.raises(AssertionError):
        make_pages.replay({"pages": pages})
    with pytest.raises(AssertionError):
        make_pages.replay({"pages": {"nowhere": pages[first.id]}})
