"""Each equation of the model, in its naive form, against the line it names.

The statement is cut out of the sources and run by itself, with the names that
it uses; what it makes is compared with loops over numbers.
"""

import ast
import importlib
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from press.equations import Line, table
from scratchlm.model.gpt import gpt2_config
from scratchlm.model.heads import MultiHeadAttention
from scratchlm.model.positions import ALiBi

TABLE = table()
exp = math.exp


RAN: list[Line] = []  # by the test that runs now


def run(line: Line, **names: Any) -> Any:
    """What the line returns or assigns, when the names have these values."""
    RAN.append(line)
    parts = line.symbol.split(".")
    module = importlib.import_module(".".join(parts[:3]))
    scope = {**vars(module), **names}
    statement = line.statement()
    if isinstance(statement, ast.Return):
        assert statement.value is not None
        code = compile(ast.Expression(statement.value), "<line>", "eval")
        return eval(code, scope)
    exec(compile(ast.Module([statement], []), "<line>", "exec"), scope)
    if isinstance(statement, ast.Assign):
        return scope[ast.unparse(statement.targets[0])]
    return scope


def drawn(*shape: int, seed: int = 0) -> Tensor:
    """Normal numbers in double precision."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.double)


def close(got: Any, wanted: Any, tolerance: float = 1e-9) -> None:
    a = torch.as_tensor(got, dtype=torch.double)
    b = torch.as_tensor(wanted, dtype=torch.double)
    torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance)


def shares(z: Tensor) -> list[float]:
    """The softmax of a row, as it is written."""
    return [exp(a) / sum(exp(b) for b in z.tolist()) for a in z.tolist()]


def dot(a: Tensor, b: Tensor) -> float:
    return sum(x * y for x, y in zip(a.tolist(), b.tolist(), strict=True))


def turned(x: Tensor, position: int, base: float = 10000.0) -> Tensor:
    """A vector, each pair (i, i + D/2) turned by a matrix of 2 × 2."""
    out, half = torch.zeros_like(x), len(x) // 2
    for i in range(half):
        angle = position * base ** (-2 * i / len(x))
        matrix = torch.tensor(
            [
                [math.cos(angle), -math.sin(angle)],
                [math.sin(angle), math.cos(angle)],
            ],
            dtype=torch.double,
        )
        out[[i, i + half]] = matrix @ x[[i, i + half]]
    return out


def angles(length: int, channels: int) -> Tensor:
    rows = [
        [t * 10000 ** (-2 * i / channels) for i in range(channels // 2)]
        for t in range(length)
    ]
    return torch.tensor(rows, dtype=torch.double)


# --- counting and the bigram ------------------------------------------------


def smoothing(line: Line) -> None:
    model = SimpleNamespace(vocab_size=5)
    got = run(line, count=3, total=10, k=0.1, self=model)
    chances = [
        run(line, count=c, total=10, k=0.1, self=model) for c in range(5)
    ]
    close(got, (3 + 0.1) / (10 + 0.1 * 5))
    close(sum(chances), 1)  # 0 + 1 + 2 + 3 + 4 = 10


def softmax_row(line: Line) -> None:
    z = drawn(4, 6)
    close(run(line, self=SimpleNamespace(table=z)), [shares(row) for row in z])


def bigram_loss(line: Line) -> None:
    z, y = drawn(3, 5), [4, 0, 2]
    chosen = torch.stack([z[i, j] for i, j in enumerate(y)])
    losses = [-math.log(shares(row)[j]) for row, j in zip(z, y, strict=True)]
    close(run(line, logits=z, chosen=chosen), sum(losses) / 3)


def believed_less_true(line: Line) -> None:
    z, y, step = drawn(2, 4), torch.tensor([1, 3]), 1e-6
    slope = torch.tensor([shares(row) for row in z], dtype=torch.double)
    got = run(line, slope=slope, targets=y)["slope"]
    for i, j in ((0, 0), (0, 1), (1, 3)):
        losses = []
        for sign in (1, -1):
            moved = z[i].clone()
            moved[j] += sign * step
            losses.append(-math.log(shares(moved)[int(y[i])]))
        close(got[i, j], (losses[0] - losses[1]) / (2 * step), 1e-6)


def counts_are_the_limit(line: Line) -> None:
    ids, targets = [0, 1, 0, 2, 0, 1], [1, 0, 1, 0, 2, 2]
    z = drawn(3, 3)
    rows = [[p - (b == y) for b, p in enumerate(shares(z[a]))]
            for a, y in zip(ids, targets, strict=True)]  # fmt: skip
    slope = torch.tensor(rows, dtype=torch.double)
    got = run(line, table=z, ids=torch.tensor(ids), slope=slope)
    pairs = list(zip(ids, targets, strict=True))
    wanted = [
        [ids.count(a) * shares(z[a])[b] - pairs.count((a, b)) for b in range(3)]
        for a in range(3)
    ]
    close(got, wanted)


# --- embeddings -------------------------------------------------------------


def waves(line: Line) -> None:
    if "frequencies" in line.symbol:
        pair = torch.arange(4, dtype=torch.double)
        got = run(line, pair=pair, channels=8, base=10000.0)
        close(got, [10000 ** (-2 * i / 8) for i in range(4)])
        return
    got = run(line, angles=angles(5, 8)).flatten(1)
    for t in range(5):
        for i in range(4):
            theta = 10000 ** (-2 * i / 8)
            close(got[t, 2 * i], math.sin(t * theta))
            close(got[t, 2 * i + 1], math.cos(t * theta))


def waves_product(line: Line) -> None:
    p = run(line, angles=angles(40, 8)).flatten(1)
    for m, n in ((3, 5), (23, 25), (7, 7), (0, 39)):
        wanted = sum(
            math.cos((m - n) * 10000 ** (-2 * i / 8)) for i in range(4)
        )
        close(dot(p[m], p[n]), wanted)


def rotation(line: Line, x: Tensor, position: int) -> Tensor:
    angle = angles(position + 1, len(x))[position]
    a, b = x.chunk(2)
    return run(line, a=a, b=b, cos=angle.cos(), sin=angle.sin())


def rope(line: Line) -> None:
    q, k = drawn(2, 8)
    for m, n in ((5, 2), (25, 22), (9, 0)):
        score = dot(rotation(line, q, m), rotation(line, k, n))
        close(score, dot(turned(q, m), turned(k, n)))
        close(score, dot(q, turned(k, n - m)))


def turn(line: Line) -> None:
    x = drawn(6)
    for position in (0, 1, 17):
        close(rotation(line, x, position), turned(x, position))


# --- attention --------------------------------------------------------------


def attention(line: Line) -> None:
    q, k, v = drawn(3, 5, 4)
    weights = [
        shares(
            torch.tensor([dot(q[t], k[s]) / math.sqrt(4) for s in range(t + 1)])
        )
        for t in range(5)
    ]
    if "return scores" in line.code:
        scores = torch.full((5, 5), -math.inf, dtype=torch.double)
        for t in range(5):
            for s in range(t + 1):
                scores[t, s] = dot(q[t], k[s]) / math.sqrt(4)
        wanted = [row + [0.0] * (5 - len(row)) for row in weights]
        close(run(line, scores=scores), wanted, 1e-6)
        return
    wanted = [
        [sum(w * v[s, d].item() for s, w in enumerate(row)) for d in range(4)]
        for row in weights
    ]
    close(run(line, q=q, k=k, v=v, causal=True), wanted, 1e-6)


def variance(line: Line) -> None:
    for size in (4, 64):
        q, k = drawn(2000, size), drawn(2000, size, seed=1)
        scores = torch.tensor([dot(a, b) for a, b in zip(q, k, strict=True)])
        assert scores.var().item() == pytest.approx(size, rel=0.15)
        scaled = run(line, scores=scores, q=q)
        assert scaled.var().item() == pytest.approx(1, rel=0.15)


def heads(line: Line) -> None:
    torch.manual_seed(0)
    layer = MultiHeadAttention(6, 3, bias=False).double()
    x = drawn(1, 4, 6)
    matrices = layer.qkv.weight.view(9, 2, 6)  # q of head 0, 1, 2, then k, v
    if "split" in line.symbol:
        got = run(line, self=layer, x=x, b=1, t=4)
        for h in range(9):
            close(got[0, :, h], x[0] @ matrices[h].T)
        return
    found = [
        drawn(4, 2, seed=h) for h in range(3)
    ]  # what three heads have attended to
    got = run(line, self=layer, attended=torch.cat(found, dim=1))
    outs = layer.out.weight.T.split(2)
    close(got, sum(a @ w for a, w in zip(found, outs, strict=True)))


def cache(line: Line) -> None:
    config = gpt2_config(layers=3, heads=4, channels=32)
    got = run(
        line,
        config=config,
        batch_size=1,
        numbers=4 * 8 * 10,
        bytes_per_number=2,
    )
    stored = 0
    for _layer in range(3):
        for _key_or_value in range(2):
            stored += torch.zeros(4, 10, 8, dtype=torch.half).nbytes
    assert got == stored


def alibi(line: Line) -> None:
    slopes = [2 ** (-8 * h / 4) for h in (1, 2, 3, 4)]
    if "slopes" in line.symbol:
        close(run(line, heads=4), slopes)
        return
    layer, time = ALiBi(4), torch.arange(6)
    got = run(
        line,
        # `super()` finds its class by a cell that a line alone has not
        super=lambda: super(ALiBi, layer),
        length=6,
        device=torch.device("cpu"),
        slopes=torch.tensor(slopes).view(4, 1, 1),
        distance=time[:, None] - time,
    )
    for h, slope in enumerate(slopes):
        for t in range(6):
            for s in range(6):
                close(got[h, t, s], -slope * (t - s) if s <= t else -math.inf)


# --- blocks of attention ----------------------------------------------------


def flash_online(line: Line) -> None:
    scores, read = drawn(6).tolist(), 3
    largest = max(scores[:read])
    total = sum(exp(s - largest) for s in scores[:read])
    for score in scores[read:]:
        now = max(largest, score)
        total = run(line, total=total, largest=largest, now=now, score=score)
        largest = now
    close(total, sum(exp(s - max(scores)) for s in scores))


def flash_mixed(line: Line) -> None:
    scores, v = drawn(1, 6), drawn(6, 2)
    largest, now = scores[:, :4].amax(), scores.amax()
    first = scores[:, :4].sub(largest).exp()
    last = scores[:, 4:].sub(now).exp()
    wanted = sum(exp(s - now.item()) * row for s, row in zip(scores[0], v))
    total = sum(exp(s - now.item()) for s in scores[0].tolist())
    if "return" in line.code:
        got = run(line, mixed=wanted, total=total)
        weights = shares(scores[0])
        close(got, sum(w * row for w, row in zip(weights, v, strict=True)))
        return
    got = run(
        line,
        mixed=first @ v[:4],
        shrink=(largest - now).exp(),
        weights=last,
        v=v,
        part=slice(4, 6),
    )
    close(got[0], wanted)


# --- layers and the block ---------------------------------------------------


def layer_norm(line: Line) -> None:
    x, w = drawn(5), drawn(5, seed=1)
    mean = sum(x.tolist()) / 5
    variance = sum((a - mean) ** 2 for a in x.tolist()) / 5
    got = run(
        line,
        centered=x - mean,
        variance=torch.tensor(variance, dtype=torch.double),
        eps=1e-5,
        weight=w,
    )
    wanted = [
        (a - mean) / math.sqrt(variance + 1e-5) * b
        for a, b in zip(x.tolist(), w.tolist(), strict=True)
    ]
    close(got, wanted)


def rms_norm(line: Line) -> None:
    x, w = drawn(5), drawn(5, seed=1)
    square = sum(a * a for a in x.tolist()) / 5
    got = run(
        line,
        rows=x,
        square=torch.tensor(square, dtype=torch.double),
        eps=1e-5,
        weight=w,
    )
    wanted = [
        a / math.sqrt(square + 1e-5) * b
        for a, b in zip(x.tolist(), w.tolist(), strict=True)
    ]
    close(got, wanted)


def gelu(line: Line) -> None:
    x = torch.tensor([-2.0, -0.5, 0.0, 1.0, 3.0], dtype=torch.double)
    step = 1e-3
    for value, got in zip(x.tolist(), run(line, x=x).tolist(), strict=True):
        grid = torch.arange(-9, value, step, dtype=torch.double) + step / 2
        below = (-grid.square() / 2).exp().sum() * step / math.sqrt(2 * math.pi)
        close(got, value * below.item(), 1e-5)


def swiglu(line: Line) -> None:
    gate, up, x = nn.Linear(3, 4), nn.Linear(3, 4), drawn(2, 3)
    layer = SimpleNamespace(gate=gate.double(), up=up.double())
    got = run(line, self=layer, x=x)
    a, b = gate(x).tolist(), up(x).tolist()
    wanted = [
        [a[i][j] / (1 + exp(-a[i][j])) * b[i][j] for j in range(4)]
        for i in range(2)
    ]
    close(got, wanted)


PARTS = SimpleNamespace(  # of a block: easy to compute by hand
    norm1=lambda x: x / 2,
    norm2=lambda x: x / 3,
    attention=lambda x, store: x**2,
    mlp=lambda x: x**3,
)


def block(line: Line) -> None:
    if "attention" in line.code:
        close(run(line, self=PARTS, x=8.0, store=None), 8 + 4**2)
    else:
        close(run(line, self=PARTS, x=6.0), 6 + 2**3)


def branch(line: Line) -> None:
    if "attention" in line.code:
        close(run(line, self=PARTS, x=8.0, store=None), 8 + 8**2 / 2)
    else:
        close(run(line, self=PARTS, x=6.0), 6 + 6**3 / 3)


# --- a mixture of experts ---------------------------------------------------


def experts_mix(line: Line) -> None:
    w, outs = drawn(3, 4), drawn(3, 4, 2, seed=1)
    got = run(line, weights=w, outs=outs, rows=drawn(3, 2))
    for token in range(3):
        wanted = sum(w[token, e] * outs[token, e] for e in range(4))
        close(got[token], wanted)


def experts_balance(line: Line) -> None:
    f, p = [0.5, 0.25, 0.25], [0.2, 0.5, 0.3]
    got = run(
        line,
        load=lambda routing: torch.tensor(f, dtype=torch.double),
        routing=None,
        mean_share=torch.tensor(p, dtype=torch.double),
    )
    close(got, 3 * sum(a * b for a, b in zip(f, p, strict=True)))


# --- windows ----------------------------------------------------------------


def window_reach(line: Line) -> None:
    close(run(line, layers=3, window=4), 10)


def window_base(line: Line) -> None:
    b, d, s = 50.0, 8, 3.0
    waves = [b ** (-2 * i / d) for i in range(4)]
    got = run(
        line,
        frequencies=torch.tensor(waves, dtype=torch.double),
        factor=torch.tensor(s, dtype=torch.double),
        last=3,
    )
    close(got, [waves[i] * s ** (-i / (d / 2 - 1)) for i in range(4)], 1e-6)
    other = b * s ** (d / (d - 2))
    close(got, [other ** (-2 * i / d) for i in range(4)], 1e-6)


NAIVE: dict[str, Callable[[Line], None]] = {
    "eq-ngram-smoothing": smoothing,
    "eq-softmax-row": softmax_row,
    "eq-bigram-loss": bigram_loss,
    "eq-p-minus-onehot": believed_less_true,
    "eq-counts-are-the-limit": counts_are_the_limit,
    "eq-waves": waves,
    "eq-waves-product": waves_product,
    "eq-rope": rope,
    "eq-turn": turn,
    "eq-attention": attention,
    "eq-variance": variance,
    "eq-heads": heads,
    "eq-cache": cache,
    "eq-flash-online": flash_online,
    "eq-flash-mixed": flash_mixed,
    "eq-positions-alibi": alibi,
    "eq-layers-norm": layer_norm,
    "eq-layers-rms": rms_norm,
    "eq-layers-gelu": gelu,
    "eq-layers-swiglu": swiglu,
    "eq-block": block,
    "eq-published-branch": branch,
    "eq-experts-mix": experts_mix,
    "eq-experts-balance": experts_balance,
    "eq-window-reach": window_reach,
    "eq-window-base": window_base,
}


@pytest.mark.parametrize(
    ("label", "at"),
    [(label, at) for label, lines in TABLE.items() for at in range(len(lines))],
)
def test_the_line_computes_the_equation(label: str, at: int) -> None:
    RAN.clear()
    NAIVE[label](TABLE[label][at])
    assert RAN, "the line was compared with nothing"
    assert all(line is TABLE[label][at] for line in RAN)


def test_a_wrong_line_is_noticed() -> None:
    """The comparison can fail: here with the lines of other equations."""
    rms, layer = TABLE["eq-layers-rms"][0], TABLE["eq-layers-norm"][0]
    wrong = Line(rms.equation, "computes", layer.symbol, layer.code)
    with pytest.raises(NameError):
        NAIVE["eq-layers-rms"](wrong)
    line = TABLE["eq-flash-online"][0]
    later = Line(line.equation, "computes", line.symbol, "largest = now")
    with pytest.raises(AssertionError):
        NAIVE["eq-flash-online"](later)
