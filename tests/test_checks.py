"""Every check passes on the book's code, and fails on each planted bug."""

import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
import torch

from check import running as runner
from check.commands import older
from press.mutants import drawn
from press.mutations import Source
from press.records import read
from press.roadmap import load
from records import make_apart as apart
from scaffold.checks.expect import CheckFailed, close, equal, raises, true

TOPICS = sorted(topic.id for topic in load().topics)


@pytest.mark.parametrize("topic", TOPICS)
def test_the_reference_passes(topic: str) -> None:
    assert runner.run_topic(topic) == 0


@pytest.mark.parametrize("topic", TOPICS)
def test_every_planted_bug_is_caught(topic: str) -> None:
    caught = runner.catch_bugs(topic)
    assert len(caught) >= 3
    assert [bug for bug, checks in caught.items() if not checks] == []


def test_unknown_topics_are_refused_with_the_list(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert older(["atention"]) == 2
    error = capsys.readouterr().err
    assert "atention" in error
    assert "attention" in error


def test_the_checks_leave_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert older(["tokens", "files"]) == 0
    assert older(["--bugs", "files"]) == 0
    assert list(tmp_path.iterdir()) == []
    assert tempfile.gettempdir() == str(tmp_path)


def test_the_list_names_all_topics(capsys: pytest.CaptureFixture[str]) -> None:
    assert older(["--list"]) == 0
    assert capsys.readouterr().out.split() == TOPICS


def test_one_topic_runs_from_the_command_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert older(["attention"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("attention: ")
    assert "1 topic, all hold" in out
    assert older(["attention", "--bugs"]) == 0
    assert "caught by: " in capsys.readouterr().out


def test_a_bug_whose_text_is_not_there_once_is_refused() -> None:
    from scratchlm.model import attention

    with (
        pytest.raises(ValueError, match="0 times"),
        runner.planted(attention, "no such text", ""),
    ):
        pass


def test_planting_leaves_no_trace() -> None:
    from scratchlm.model import attention

    before = attention.scaled_dot_product_attention
    source = Path(str(attention.__file__)).read_text(encoding="utf-8")
    docstring = source.splitlines()[0]
    with runner.planted(attention, docstring, '"""Another.'):
        assert attention.scaled_dot_product_attention is not before
    assert attention.scaled_dot_product_attention is before


def test_failures_name_what_expected_got_and_why() -> None:
    with pytest.raises(CheckFailed) as failure:
        close([1.0, 2.5], [1.0, 2.0], "the sums", hint="count again")
    message = str(failure.value)
    for words in ("the sums", "[1]", "expected: 2", "got:      2.5"):
        assert words in message
    assert failure.value.hint == "count again"
    assert failure.value.allowed == "±1e-05"


def test_close_takes_infinities_but_not_nan() -> None:
    infinity = float("inf")
    close([infinity, 1.0], [infinity, 1.0], "equal")
    for got in ([float("nan")], [infinity]):
        with pytest.raises(CheckFailed):
            close(got, [1.0], "not equal")
    with pytest.raises(CheckFailed, match="shape"):
        close([1.0, 2.0], [1.0], "longer")
    with pytest.raises(CheckFailed, match="expected: 2"):
        close(1.0, 2.0, "one number")


def test_equal_true_and_raises_fail_where_they_should() -> None:
    equal(torch.arange(3), torch.arange(3), "same")
    for wrong in (torch.arange(2), torch.tensor([0, 1, 3])):
        with pytest.raises(CheckFailed):
            equal(wrong, torch.arange(3), "not the same")
    true(1, "one")
    with pytest.raises(CheckFailed):
        true(0, "zero")
    raises(KeyError, lambda: {}["x"], "a missing key")
    for function in (lambda: 1, lambda: [][0]):
        with pytest.raises(CheckFailed):
            raises(KeyError, function, "another error")


def test_an_empty_body_is_named_as_the_likely_cause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from scratchlm.model import attention

    name = "scaled_dot_product_attention"
    monkeypatch.setattr(attention, name, lambda *a, **k: None)
    from scaffold.checks.model import check_attention

    messages = [
        runner.run_check(check)
        for check in runner.check_functions(check_attention)
    ]
    failed = [message for message in messages if message]
    assert failed
    assert all("is its body written" in message for message in failed)


@pytest.mark.parametrize("more", ["attention", "--bugs"])
def test_the_list_stands_alone(
    more: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert older(["--list", more]) == 2
    assert "--list stands alone" in capsys.readouterr().err


def test_a_topic_named_twice_is_checked_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert older(["attention", "attention"]) == 0
    assert capsys.readouterr().out.count("attention: ") == 1


# --- correct code of another shape -------------------------------------------


def documents_in_turn(model: Any, batch: Any) -> torch.Tensor:
    """Packed features without a mask: each document through the model."""
    rows = []
    for ids, document in zip(batch.ids, batch.document):
        _, sizes = document.unique_consecutive(return_counts=True)
        parts = ids.split(sizes.tolist())
        rows.append(torch.cat([model.features(p[None])[0] for p in parts]))
    return torch.stack(rows)


def spread_out(sizes: list[int], room: int) -> list[list[int]]:
    """Best fit by a search through all rows, with sums anew each time."""
    rows: list[list[int]] = []
    for i in sorted(range(len(sizes)), key=lambda i: sizes[i], reverse=True):
        if not 0 < sizes[i] <= room:
            raise ValueError(f"{sizes[i]} in {room}")
        held = [sum(sizes[j] for j in row) + sizes[i] for row in rows]
        fitting = [row for row, total in enumerate(held) if total <= room]
        if fitting:
            rows[max(fitting, key=lambda row: held[row])].append(i)
        else:
            rows.append([i])
    return rows


def block_mask(document: torch.Tensor) -> torch.Tensor:
    """The document mask, cell by cell."""
    rows, t = document.shape
    cells = [
        bool(document[b, q] == document[b, k]) and k <= q
        for b in range(rows)
        for q in range(t)
        for k in range(t)
    ]
    return torch.tensor(cells).view(rows, t, t)


def test_packing_may_be_written_in_another_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from scratchlm.training import packing

    monkeypatch.setattr(packing, "packed_features", documents_in_turn)
    monkeypatch.setattr(packing, "best_fit", spread_out)
    monkeypatch.setattr(packing, "document_mask", block_mask)
    assert runner.run_topic("packing") == 0


def test_a_clock_may_be_imported_by_its_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from scaffold.checks.training import check_device
    from scratchlm.training import device

    def seconds(work: Any, place: Any, turns: int = 5) -> float:
        device.wait_for(place)
        start = device.perf_counter()  # type: ignore[attr-defined]
        for _ in range(turns):
            work()
            device.wait_for(place)
        return (device.perf_counter() - start) / turns  # type: ignore

    monkeypatch.setattr(device, "perf_counter", perf_counter, raising=False)
    monkeypatch.setattr(device, "device_seconds", seconds)
    check = check_device.check_the_stopwatch_waits_for_the_device
    assert runner.run_check(check) == ""


def test_a_file_may_be_renamed_by_another_call() -> None:
    from scaffold.checks.text import check_files
    from scratchlm.text import files

    old, new = "os.replace(partial, path)", "os.rename(partial, path)"
    with runner.planted(files, old, new):
        for check in runner.check_functions(check_files):
            assert runner.run_check(check) == ""


# --- mistakes that are no known ones -----------------------------------------

POST = """\
            x = self.norm1(x + self.attention(x, store))
            return self.norm2(x + self.mlp(x))
"""
BRANCH = """\
            x = x + self.norm1(self.attention(x, store))
            return x + self.norm2(self.mlp(x))
"""
DRAW = "torch.multinomial(shares[last], 1, generator=generator)"
FITS = "        at = bisect_left(free, (sizes[i], -1))\n"
FIRST = """\
        fits = [(row, at) for at, (left, row) in enumerate(free)
                if left >= sizes[i]]
        at = min(fits)[1] if fits else len(free)
"""
OTHERS = {  # topic, its text, the mistake, the check that notices it
    "the post order is that of branches": (
        "block", POST, BRANCH, "check_post_norm_by_hand"
    ),
    "the branch order is post": (
        "block", BRANCH, POST, "check_post_norm_by_hand"
    ),
    "norms of branches are exchanged": (
        "block", BRANCH, BRANCH.replace("norm1", "norm").replace("norm2",
        "norm1").replace("norm(", "norm2("), "check_post_norm_by_hand"
    ),
    "the likeliest is written": (
        "bigram", DRAW, "shares[last].argmax()", "check_writing"
    ),
    "logits are drawn by": (
        "bigram", DRAW, DRAW.replace("shares", "model.table"), "check_writing"
    ),
    "the sum of exponentials overflows": (
        "bigram", "logits.logsumexp(dim=-1)", "logits.exp().sum(-1).log()",
        "check_loss_by_hand"
    ),
    "layer_norm stays in few bits": (
        "layers", "rows = x.float()\n    centered", "rows = x\n    centered",
        "check_few_bits"
    ),
    "other errors are swallowed": (
        "distributed", "            raise\n        heard",
        "            return\n        heard", "check_a_lost_rank"
    ),
    "reciting is tried with dropout": (
        "overfitting", "    model.eval()\n", "", "check_reciting"
    ),
    "reciting leaves a model without dropout": (
        "overfitting", "model.train(was_training)", "pass", "check_reciting"
    ),
    "the first row with room is taken": (
        "packing", FITS, FIRST, "check_best_fit"
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", OTHERS)
def test_a_mistake_of_another_kind_is_noticed(mistake: str) -> None:
    topic, old, new, name = OTHERS[mistake]
    module = runner.load(topic)
    with runner.planted(runner.subject(module), old, new):
        assert runner.run_check(getattr(module, name)) != ""


# The same mistake in other words: what is planted must be what it is named.
SAME = {
    "the leftmost pair is joined first": (
        "tokenizer",
        """\
        new, at = min(
            (ranks.get(pair, 1 << 60), i) for i, pair in enumerate(pairs)
        )
""",
        """\
        places = [i for i, pair in enumerate(pairs) if pair in ranks]
        at = min(places, default=0)
        new = ranks.get((ids[at], ids[at + 1]), 1 << 60)
""",
    ),
    "the square is corrected with the other beta": (
        "optimizer",
        "scale = [math.sqrt(1 - beta2 ** state",
        "scale = [math.sqrt(1 - group['betas'][0] ** state",
    ),
    "the bias goes the wrong way": (
        "quality",
        "        bias -= rate * float(error.sum())",
        "        bias = bias + rate * float(error.sum())",
    ),
}


@pytest.mark.parametrize("bug", SAME)
def test_a_known_mistake_is_what_its_name_says(bug: str) -> None:
    topic, old, new = SAME[bug]
    module = runner.load(topic)
    ways = []
    for text in ((old, new), module.BUGS[bug]):
        with runner.planted(runner.subject(module), *text):
            checks = runner.check_functions(module)
            ways.append([runner.run_check(check) for check in checks])
    assert any(ways[0])
    assert ways[0] == ways[1]


# --- mistakes kept apart -----------------------------------------------------

NOTICED = 0.85  # the least share of them that the checks notice
RECORD = Path(__file__).parents[1] / "records" / "apart.json"


def test_mistakes_kept_apart_are_many_and_most_are_noticed() -> None:
    topics = read(RECORD)["data"]["topics"]
    assert set(topics) == set(TOPICS)
    assert all(topic["drawn"] == apart.EACH for topic in topics.values())
    assert apart.EACH * len(topics) >= 551
    assert apart.rate(topics) >= NOTICED


def test_what_is_excused_is_a_survivor_with_a_reason() -> None:
    topics = read(RECORD)["data"]["topics"].values()
    survivors = [s for topic in topics for s in topic["survivors"]]
    keys = {tuple(s[part] for part in apart.KEY) for s in survivors}
    assert set(apart.reasons()) <= keys
    assert all(why.endswith(".") for why in apart.reasons().values())


def test_a_survivor_without_a_reason_lowers_the_rate() -> None:
    one = dict.fromkeys(apart.KEY, "x")
    topics = {"t": {"noticed": 3, "survivors": [one]}}
    assert apart.missed(topics) == [one]
    assert apart.rate(topics) == 3 / 4


def test_mistakes_kept_apart_are_none_to_learn_from() -> None:
    topic = runner.HERE.topics["attention"]
    places, kept = apart.drawn(topic)
    text = (runner.HERE.sources / topic.file).read_text(encoding="utf-8")
    free = drawn(Source(topic.module, text), 25, apart.SEED)
    assert places > apart.EACH + len(free)
    assert not {m.key for m in kept} & {m.key for m in free}


@pytest.mark.judge
def test_the_checks_notice_mistakes_kept_apart() -> None:
    topics = apart.record()["topics"]
    assert apart.rate(topics) >= NOTICED
