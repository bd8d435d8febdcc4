"""Packing: rows, masks and positions, each document as if it stood alone."""

import math
import random
from dataclasses import replace
from fractions import Fraction
from itertools import islice
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention.flex_attention import (
    create_block_mask,
    flex_attention,
)

from scratchlm.model.gpt import GPT, gpt2_config, llama_config
from scratchlm.model.published import from_published, read_form
from scratchlm.model.window import use_window
from scratchlm.training.memory import IGNORED, count_targets
from scratchlm.training.packing import (
    Packed,
    Part,
    best_fit,
    cut_anywhere,
    document_mask,
    first_fit,
    join_documents,
    keep_whole,
    lay_out,
    packed_batches,
    packed_features,
    packed_loss,
    padding_share,
    predict_next,
    restart,
)

DOCUMENT = torch.tensor([[0, 0, 1, 1, 1, -1, -1], [0, 0, 0, 0, 0, 0, 0]])


def small(size: int = 40, context: int = 48, rotary: bool = False) -> GPT:
    """A random model, small enough to be compared many times."""
    torch.manual_seed(0)
    if rotary:
        return GPT(llama_config(size, context, 2, 4, 16, kv_heads=2)).eval()
    return GPT(gpt2_config(size, context, 2, 2, 16)).eval()


def some_parts(count: int, size: int = 40, longest: int = 11) -> list[Part]:
    """Random documents of different lengths; a third is to be said."""
    generator = torch.Generator().manual_seed(1)
    made = []
    for _ in range(count):
        length = int(torch.randint(3, longest, (1,), generator=generator))
        ids = torch.randint(size, (length,), generator=generator).tolist()
        targets = [i if n % 3 == 0 else IGNORED for n, i in enumerate(ids)]
        made.append((ids, targets))
    return made


# --- rows --------------------------------------------------------------------


def fewest(sizes: list[int], room: int) -> int:
    """The smallest number of rows there is, by trying all."""

    def tried(left: list[int], free: list[int], best: int) -> int:
        if len(free) >= best:
            return best
        if not left:
            return len(free)
        size, rest = left[0], left[1:]
        for i in {f: i for i, f in enumerate(free) if f >= size}.values():
            filled = [f - size * (i == j) for j, f in enumerate(free)]
            best = tried(rest, filled, best)
        return tried(rest, [*free, room - size], best)

    return tried(sorted(sizes, reverse=True), [], len(sizes) + 1)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 12), max_size=9))
def test_rows_are_full_and_never_too_full(sizes: list[int]) -> None:
    best = fewest(sizes, 12)
    for pack in (first_fit, best_fit):
        rows = pack(sizes, 12)
        assert sorted(i for row in rows for i in row) == list(range(len(sizes)))
        assert all(0 < sum(sizes[i] for i in row) <= 12 for row in rows)
        assert best <= len(rows) <= math.floor(1.7 * best)
    bound = Fraction(11, 9) * best + Fraction(6, 9)
    decreasing = first_fit(sorted(sizes, reverse=True), 12)
    assert max(len(decreasing), len(best_fit(sizes, 12))) <= bound


def test_first_fit_can_be_unlucky() -> None:
    """Small things first, and the large ones find no row to share."""
    sizes = [6] * 14 + [15] * 14 + [22] * 14  # one of each fills a row
    assert len(first_fit(sizes, 43)) == 2 + 7 + 14
    assert len(best_fit(sizes, 43)) == 14


def test_best_fit_looks_for_the_fullest_row() -> None:
    # By the emptiest row it would take three.
    assert best_fit([7, 6, 3, 2, 2], 10) == [[0, 2], [1, 3, 4]]
    assert best_fit([], 8) == first_fit([], 8) == []
    assert best_fit([8, 1], 8) == [[0], [1]]
    for pack in (first_fit, best_fit):
        for bad in (9, 0):
            with pytest.raises(ValueError, match="does not fit"):
                pack([bad], 8)


def test_best_fit_equals_a_search_through_all_rows() -> None:
    sizes = [random.Random(3).randint(1, 40) for _ in range(200)]
    rows: list[list[int]] = []
    for i in sorted(range(200), key=lambda i: -sizes[i]):
        room = [64 - sum(sizes[j] for j in row) for row in rows]
        fitting = [(left, r) for r, left in enumerate(room) if left >= sizes[i]]
        if fitting:
            rows[min(fitting)[1]].append(i)
        else:
            rows.append([i])
    assert best_fit(sizes, 64) == rows


def test_padding_is_counted() -> None:
    assert padding_share([[0, 1], [2]], [5, 3, 4], 8) == 0.25
    assert padding_share([[0]], [8], 8) == 0


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=9), st.integers(1, 9))
def test_cut_rows_hold_everything_in_order(
    sizes: list[int], length: int
) -> None:
    parts = [(list(range(n)), list(range(1, n + 1))) for n in sizes]
    rows = cut_anywhere(parts, length)
    for side in (0, 1):
        flat = [x for row in rows for part in row for x in part[side]]
        assert flat == [x for part in parts for x in part[side]]
    filled = [sum(len(ids) for ids, _ in row) for row in rows]
    assert set(filled[:-1]) <= {length}
    assert 0 < filled[-1] <= length


def test_the_open_row_is_the_ordinary_stream() -> None:
    """With an end token on both sides, targets are the row shifted by one."""
    end = 9
    texts = [[end, 1, 2, end], [end, 3, end], [end, 4, 5, 6, end]]
    batch = lay_out(cut_anywhere([predict_next(t) for t in texts], 3), 3)
    assert batch.ids.flatten().tolist() == [9, 1, 2, 9, 3, 9, 4, 5, 6]
    stream = [*batch.ids.flatten().tolist(), end]
    assert batch.targets.flatten().tolist() == stream[1:]
    assert (join_documents(batch).document == 0).all()


def test_what_has_no_next_token_is_refused() -> None:
    assert predict_next((1, 2)) == ([1], [2])
    for short in ([], [3]):
        with pytest.raises(ValueError, match="nothing to predict"):
            predict_next(short)


def test_rows_without_room_are_refused() -> None:
    with pytest.raises(ValueError, match="rows of 0"):
        cut_anywhere([([1, 2], [2, 3])], 0)


def test_rows_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"part 1 of row 0 has 3 tokens"):
        lay_out([[([1, 2], [2, 3]), ([1, 2, 3], [2, 3, 4])]], 4)
    with pytest.raises(ValueError, match="2 tokens and 1 targets"):
        lay_out([[([1, 2], [2])]], 4)


def test_attention_of_another_kind_is_refused() -> None:
    model = GPT(llama_config(11, 16, layers=1, heads=2, channels=8))
    batch = lay_out([[([1, 2, 3], [2, 3, 4])]], 4)
    packed_loss(model, batch)
    with pytest.raises(ValueError, match="plain attention"):
        packed_loss(use_window(model, 2), batch)


def test_batches_go_through_all_and_shuffle() -> None:
    parts = some_parts(60)
    batches = list(islice(packed_batches(parts, 32, 4, seed=1), 12))
    again = list(islice(packed_batches(parts, 32, 4, seed=1), 12))
    assert all(torch.equal(a.ids, b.ids) for a, b in zip(batches, again))
    assert not torch.equal(batches[0].ids, batches[1].ids)
    rows = len(first_fit([len(ids) for ids, _ in parts], 32))
    first = batches[: rows // 4 - 1]  # surely of the first epoch
    seen = [
        batch.ids[row][batch.document[row] == number].tolist()
        for batch in first
        for row in range(4)
        for number in range(int(batch.document[row].max()) + 1)
    ]
    assert len(seen) > 20
    assert all(seen.count(ids) <= 1 for ids, _ in parts)
    with pytest.raises(ValueError, match="too few for a batch of 90"):
        next(packed_batches(parts, 32, 90, seed=1))


def test_batches_are_arranged_as_asked() -> None:
    parts = some_parts(60)
    whole = next(packed_batches(parts, 16, 4, seed=1))
    cut = next(packed_batches(parts, 16, 4, 1, cut_anywhere))
    assert (whole.document < 0).any()
    assert (cut.document >= 0).all()
    assert keep_whole(parts[:2], 32) == [parts[:2]]


# --- masks and positions -----------------------------------------------------


def test_masks_and_positions_by_hand() -> None:
    assert restart(DOCUMENT).tolist() == [
        [0, 1, 0, 1, 2, 0, 1], [0, 1, 2, 3, 4, 5, 6]
    ]  # fmt: skip
    mask = document_mask(DOCUMENT)
    assert mask.diagonal(dim1=1, dim2=2).all()
    assert mask[0, 3].tolist() == [False, False, True, True, *[False] * 3]
    assert torch.equal(mask[1], torch.ones(7, 7, dtype=torch.bool).tril())


@given(st.lists(st.integers(1, 6), min_size=1, max_size=6))
def test_masks_have_a_block_for_each_document(sizes: list[int]) -> None:
    numbers = [n for n, k in enumerate(sizes) for _ in range(k)]
    document = torch.tensor([numbers])
    blocks = [torch.ones(k, k, dtype=torch.bool).tril() for k in sizes]
    assert torch.equal(document_mask(document)[0], torch.block_diag(*blocks))
    places = [place for k in sizes for place in range(k)]
    assert restart(document)[0].tolist() == places


@pytest.mark.filterwarnings("ignore:flex_attention called without")
def test_flex_attention_sees_the_same() -> None:
    """The mask as torch's own function of four numbers, not compiled."""
    document = torch.tensor([[0] * 5 + [1] * 7 + [-1] * 4, [0] * 9 + [1] * 7])

    def mask(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return (document[b, q] == document[b, k]) & (q >= k)

    blocks = create_block_mask(mask, 2, None, 16, 16, device="cpu")
    q, k, v = torch.randn(
        (3, 2, 2, 16, 8), generator=torch.Generator().manual_seed(0)
    )
    wanted = flex_attention(q, k, v, block_mask=blocks)
    got = F.scaled_dot_product_attention(
        q, k, v, attn_mask=document_mask(document)[:, None]
    )
    torch.testing.assert_close(got, wanted)


# --- each as if alone --------------------------------------------------------


@pytest.mark.parametrize("rotary", [False, True])
def test_packed_is_as_if_alone(rotary: bool) -> None:
    model = small(rotary=rotary)
    parts = some_parts(6)
    batch = lay_out([parts[:3], parts[3:]], 32)
    assert batch.ids.shape == (2, 32)
    with torch.no_grad():
        packed = packed_features(model, batch)
        for row, part in enumerate((parts[:3], parts[3:])):
            for number, (ids, _) in enumerate(part):
                here = packed[row][batch.document[row] == number]
                alone = model.features(torch.tensor([ids]))[0]
                torch.testing.assert_close(here, alone, atol=1e-5, rtol=1e-4)
    # A neighbor that changes changes nothing.
    changed = batch.ids.clone()
    changed[batch.document == 1] = 0
    with torch.no_grad():
        other = packed_features(model, replace(batch, ids=changed))
    here = (batch.document == 0) | (batch.document == 2)
    torch.testing.assert_close(other[here], packed[here])


@pytest.mark.parametrize("rotary", [False, True])
def test_gradients_are_those_of_the_documents_alone(rotary: bool) -> None:
    model, parts = small(rotary=rotary), some_parts(5)
    total = sum(count_targets(torch.tensor(said)) for _, said in parts)
    packed_loss(model, lay_out([parts[:3], parts[3:]], 32)).backward()
    packed = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    for ids, said in parts:
        logits = model(torch.tensor([ids]))[0]
        nats = F.cross_entropy(logits, torch.tensor(said), reduction="sum")
        (nats / total).backward()
    alone = [p.grad for p in model.parameters() if p.grad is not None]
    assert len(packed) == len(alone) > 10
    for got, wanted in zip(packed, alone, strict=True):
        torch.testing.assert_close(got, wanted, atol=1e-6, rtol=1e-4)


def test_an_open_row_is_the_model_as_it_is() -> None:
    for rotary in (False, True):
        model = small(rotary=rotary)
        batch = join_documents(lay_out([some_parts(4)], 40))
        with torch.no_grad():
            got = packed_features(model, batch)
            wanted = model.features(batch.ids)
        torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-4)


def run_on(document: Tensor) -> Tensor:
    """Positions that count from the beginning of the row."""
    return torch.arange(document.shape[1]).expand_as(document)


def test_learned_positions_have_to_restart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, batch = small(), lay_out([some_parts(4)], 40)
    with torch.no_grad():
        wanted = packed_features(model, batch)
        monkeypatch.setattr("scratchlm.training.packing.restart", run_on)
        got = packed_features(model, batch)
    first = batch.document == 0
    torch.testing.assert_close(got[first], wanted[first])
    later = batch.document > 0
    assert (got - wanted)[later].abs().amax(dim=-1).min() > 1e-3


def theirs(rotary: bool) -> tuple[transformers.PreTrainedModel, GPT]:
    """A model of the library and ours with its weights."""
    torch.manual_seed(0)
    config: transformers.PreTrainedConfig
    if rotary:
        config = transformers.LlamaConfig(
            vocab_size=40, hidden_size=16, intermediate_size=24,
            num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=48,
        )  # fmt: skip
    else:
        config = transformers.GPT2Config(
            vocab_size=40, n_positions=48, n_embd=16, n_layer=2, n_head=2
        )
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    for parameter in model.parameters():
        parameter.data.add_(0.3 * torch.randn(parameter.shape))
    form = read_form(model.config.to_dict())
    ours = GPT(form)
    state = dict(model.state_dict())
    if model.config.tie_word_embeddings:
        del state["lm_head.weight"]
    ours.load_state_dict(from_published(state, form))
    return model, ours.eval()


def gap_to(model: Any, ours: GPT, batch: Packed, **given: Any) -> float:
    """How far the library's logits are from ours, where a token stands."""
    with torch.no_grad():
        wanted = ours.head(packed_features(ours, batch))
        got = model(batch.ids, **given).logits
    said = batch.document >= 0
    assert wanted[said].std() > 0.3  # there is something to compare
    return float((got - wanted)[said].abs().max())


@pytest.mark.parametrize("rotary", [False, True])
def test_the_library_agrees_by_mask_and_by_positions(rotary: bool) -> None:
    model, ours = theirs(rotary)
    parts = some_parts(7)
    batch = lay_out([parts[:4], parts[4:]], 40)
    places = restart(batch.document)
    mask = torch.zeros(2, 1, 40, 40)
    mask.masked_fill_(~document_mask(batch.document)[:, None], -torch.inf)
    four = {"attention_mask": mask, "position_ids": places}
    assert gap_to(model, ours, batch, **four) < 1e-4
    # From positions that begin anew it makes the mask by itself,
    given: dict[str, Any] = {"position_ids": places, "use_cache": False}
    assert gap_to(model, ours, batch, **given) < 1e-4
    # but not with a mask of ones beside them, and not with a cache.
    ones = torch.ones(2, 40, dtype=torch.long)
    assert gap_to(model, ours, batch, **given, attention_mask=ones) > 0.1
    assert gap_to(model, ours, batch, position_ids=places) > 0.1
    # With rotary positions the mask alone is enough.
    alone = gap_to(model, ours, batch, attention_mask=mask)
    assert (alone < 1e-4) == rotary


def test_the_loss_is_that_of_the_documents_one_by_one() -> None:
    model = small(context=64)
    parts = some_parts(6)
    nats, count = 0.0, 0
    for ids, said in parts:
        logits = model(torch.tensor([ids]))[0]
        targets = torch.tensor(said)
        nats += F.cross_entropy(logits, targets, reduction="sum").item()
        count += count_targets(targets)
    for rows in ([parts], [parts[:3], parts[3:]], [[part] for part in parts]):
        got = packed_loss(model, lay_out(rows, 64))
        assert got.item() == pytest.approx(nats / count, abs=1e-5)


def test_what_packing_does_not_know_is_refused() -> None:
    batch = lay_out([some_parts(1)], 16)
    for model in (
        GPT(gpt2_config(40, 16, 1, 2, 16, dropout=0.1)),
        GPT(replace(small().config, norm_order="post")),
        GPT(replace(small().config, norm_order="branch")),
    ):
        with pytest.raises(ValueError, match="pre-norm"):
            packed_features(model, batch)
    with pytest.raises(ValueError, match="looks back on 8"):
        packed_features(small(context=8), batch)
    with pytest.raises(ValueError, match="not in a vocabulary of 7"):
        packed_features(small(size=7), batch)
