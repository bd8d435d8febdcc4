"""What norms and feed-forward layers must do."""

import torch

from scratchlm.model import layers

from ..expect import close, equal, true


def check_layer_norm_by_hand() -> None:
    """1, 2, 3, 4 have mean 2.5 and variance 1.25."""
    x = torch.tensor([[1.0, 2.0, 3.0, 4.0], [10.0, 20.0, 30.0, 40.0]])
    row = [-1.341641, -0.447214, 0.447214, 1.341641]
    hint = "the mean over the channels, dim=-1, and the variance over C"
    close(
        layers.layer_norm(x, torch.ones(4)),
        [row, row],
        "two rows of four, the second ten times the first",
        tol=2e-5,
        hint=hint,
    )
    module = layers.LayerNorm(4)
    close(module(x), [row, row], "the same by the module", tol=2e-5, hint=hint)


def check_stretch_and_shift() -> None:
    """Weight and bias act after the norm, each on its channel."""
    x = torch.tensor([[-1.0, 1.0]])  # mean 0, variance 1
    weight, bias = torch.tensor([2.0, 3.0]), torch.tensor([10.0, 20.0])
    got = layers.layer_norm(x, weight, bias)
    close(got, [[8.0, 23.0]], "-1, 1 with weights 2, 3", tol=1e-4)
    close(
        layers.rms_norm(x, weight),
        [[-2.0, 3.0]],
        "the same by rms_norm",
        tol=1e-4,
        hint="multiply by the weight",
    )
    norms = (
        layers.LayerNorm(2),
        layers.LayerNorm(2, bias=False),
        layers.RMSNorm(2),
    )
    equal(
        [len(list(norm.parameters())) for norm in norms],
        [2, 1, 1],
        "learned tensors of a norm with bias, without, and of RMSNorm",
    )


def check_rms_norm_by_hand() -> None:
    """3 and 4 have the root mean square √12.5."""
    for name, got in (
        ("rms_norm", layers.rms_norm(torch.tensor([3.0, 4.0]), torch.ones(2))),
        ("RMSNorm", layers.RMSNorm(2)(torch.tensor([3.0, 4.0]))),
    ):
        close(
            got,
            [0.848528, 1.131371],
            f"{name} of 3, 4",
            hint="the mean of the squares, not their sum; nothing centered",
        )


def check_tiny_rows() -> None:
    """A row of ±0.001 stays small: ε stands under the root."""
    x = torch.tensor([-0.001, 0.001])
    # 0.001 / √(0.000001 + 0.00001) = 0.301511
    for name, norm in (("layer", layers.layer_norm), ("rms", layers.rms_norm)):
        close(
            norm(x, torch.ones(2)),
            [-0.301511, 0.301511],
            f"{name}_norm of ±0.001",
            hint="add eps to the mean square, before the root",
        )
    close(
        layers.layer_norm(torch.zeros(3), torch.ones(3)),
        [0.0, 0.0, 0.0],
        "a row of zeros",
        hint="without eps this is 0 / 0",
    )


def check_few_bits() -> None:
    """Numbers whose squares overflow are normalized all the same."""
    x = torch.tensor([300.0, 400.0], dtype=torch.float16)
    for name, got in (
        ("rms_norm", layers.rms_norm(x, torch.ones(2, dtype=x.dtype))),
        ("RMSNorm", layers.RMSNorm(2).to(x.dtype)(x)),
    ):
        equal(got.dtype, torch.float16, f"the type that {name} gives back")
        close(
            got.float(),
            [0.848528, 1.131371],
            f"{name} of 300, 400 in float16",
            tol=1e-3,
            hint="square and sum in float32, then go back",
        )
    wide = torch.tensor([-300.0, 300.0], dtype=torch.float16)
    close(
        layers.layer_norm(wide, torch.ones(2, dtype=wide.dtype)).float(),
        [-1.0, 1.0],
        "layer_norm of -300, 300 in float16",
        tol=1e-3,
        hint="square and sum in float32, then go back",
    )


def check_activations() -> None:
    """gelu(1) is 0.841345, its approximation 0.841192, silu(1) 0.731059."""
    x = torch.tensor([-1.0, 0.0, 1.0])
    for name, values in (
        ("gelu", [-0.158655, 0.0, 0.841345]),
        ("gelu_tanh", [-0.158808, 0.0, 0.841192]),
        ("silu", [-0.268941, 0.0, 0.731059]),
    ):
        close(getattr(layers, name)(x), values, f"{name} of -1, 0, 1", 2e-6)
        far = torch.tensor([-200.0, 200.0], requires_grad=True)
        getattr(layers, name)(far).sum().backward()
        close(far.grad, [0.0, 1.0], f"slopes of {name} at -200 and 200")


def check_gelu_mlp_by_hand() -> None:
    """Two channels that pass through four hidden ones."""
    for tanh, one in ((False, 0.841345), (True, 0.841192)):
        mlp = layers.GELUMLP(2, hidden=4, bias=False, tanh=tanh)
        first = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
        mlp.up.weight.data = first
        mlp.down.weight.data = first.T.clone()
        # gelu(x) - gelu(-x) = x: what passes comes out as it was.
        x = torch.tensor([[1.0, -3.0]])
        close(mlp(x), x, "a layer that should pass numbers unchanged")
        mlp.down.weight.data = torch.eye(2, 4)
        close(
            mlp(x),
            [[one, one - 1]],
            f"gelu(1) and gelu(-1) through the layer, tanh={tanh}",
            tol=5e-6,
            hint="the activation stands between the two matrices",
        )
    equal(layers.GELUMLP(8).up.out_features, 32, "the usual hidden size")
    usual = layers.GELUMLP(2, hidden=1, bias=False)
    for layer in (usual.up, usual.down):
        layer.weight.data = torch.ones_like(layer.weight.data)
    close(
        usual(torch.tensor([[1.0, 0.0]])),
        [[0.841345, 0.841345]],
        "gelu(1) of a layer that was told nothing",
        tol=5e-6,
        hint="the exact function, unless the approximation is asked for",
    )


def check_swiglu_by_hand() -> None:
    """One hidden channel: silu(gate) times up."""
    mlp = layers.SwiGLU(2, hidden=1)
    mlp.gate.weight.data = torch.tensor([[1.0, 0.0]])
    mlp.up.weight.data = torch.tensor([[0.0, 1.0]])
    mlp.down.weight.data = torch.tensor([[1.0], [0.0]])
    x = torch.tensor([[1.0, 5.0], [5.0, 1.0]])
    # silu(1) × 5 and silu(5) × 1
    close(
        mlp(x),
        [[3.655293, 0.0], [4.966536, 0.0]],
        "gate 1, up 5; and gate 5, up 1",
        hint="silu is for the gate, and only for it",
    )
    sizes = [layers.swiglu_hidden(c) for c in (128, 768, 4096)]
    equal(sizes, [352, 2048, 11008], "hidden sizes for 128, 768, 4096 channels")


def check_dropout() -> None:
    """Dropout drops while training, and then only."""
    x = torch.ones(1, 50, 8)
    for name, make in (
        ("GELUMLP", layers.GELUMLP),
        ("SwiGLU", layers.SwiGLU),
    ):
        mlp = make(8, bias=True, dropout=0.5).eval()
        equal(mlp(x), mlp(x), f"{name} twice in evaluation")
        zeros = (mlp.train()(x) == 0).float().mean()
        true(
            0.2 < zeros < 0.8,
            f"about half of what {name} says is dropped in training",
        )


def check_types_come_back() -> None:
    """What goes in as float32 or in few bits comes out in the same type."""
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        x = torch.ones(2, 3, 4, dtype=dtype)
        for name, norm in (
            ("layer_norm", layers.layer_norm),
            ("rms_norm", layers.rms_norm),
        ):
            got = norm(x, torch.ones(4))
            equal(
                (got.dtype, tuple(got.shape)),
                (dtype, (2, 3, 4)),
                f"type and shape that {name} gives back",
                hint="end with .to(x.dtype)",
            )
        for name in ("gelu", "gelu_tanh", "silu"):
            equal(getattr(layers, name)(x).dtype, dtype, f"type of {name}")


def check_usual_sizes() -> None:
    """A bias where GPT-2 has one, none where Llama has none."""
    for name, layer, wanted in (
        ("GELUMLP(4)", layers.GELUMLP(4), [(4,), (4, 16), (16,), (16, 4)]),
        ("without bias", layers.GELUMLP(4, bias=False), [(4, 16), (16, 4)]),
        ("SwiGLU(4)", layers.SwiGLU(4), [(4, 32), (32, 4), (32, 4)]),
        (
            "SwiGLU with bias",
            layers.SwiGLU(4, hidden=6, bias=True),
            [(4,), (4, 6), (6,), (6,), (6, 4), (6, 4)],
        ),
    ):
        shapes = sorted(tuple(p.shape) for p in layer.parameters())
        equal(shapes, wanted, f"shapes of the parameters of {name}")
    equal(
        [layers.swiglu_hidden(c) for c in (32, 992, 1024)],
        [96, 2656, 2816],
        "hidden sizes for 32, 992 and 1,024 channels",
        hint="rounded up to a multiple of 256 from 1,024 channels on",
    )


def check_dropout_keeps_the_mean() -> None:
    """What a dropout of 3/4 leaves becomes four times as large."""
    x = torch.linspace(-1, 1, 800).view(1, 100, 8)
    for name, mlp in (
        ("GELUMLP", layers.GELUMLP(8, dropout=0.75)),
        ("SwiGLU", layers.SwiGLU(8, dropout=0.75)),
    ):
        whole = mlp.eval()(x)
        left = mlp.train()(x)
        kept = left != 0
        close(left[kept], 4 * whole[kept], f"what {name} leaves", tol=1e-4)


def check_eps_of_the_modules() -> None:
    """The modules have the ε that they are given, and 0.00001 else."""
    x = torch.tensor([-0.001, 0.001])
    for make in (layers.LayerNorm, layers.RMSNorm):
        name = make.__name__
        close(make(2)(x), [-0.301511, 0.301511], f"{name} of ±0.001")
        far = make(2, eps=1.0)(x)
        close(far, [-0.001, 0.001], f"{name} of ±0.001 with eps=1", 1e-7)


BUGS = {
    "the variance divides by C - 1": (
        "variance = centered.square().mean(dim=-1, keepdim=True)",
        "variance = rows.var(dim=-1, keepdim=True)",
    ),
    "the mean goes over the tokens": (
        "centered = rows - rows.mean(dim=-1, keepdim=True)",
        "centered = rows - rows.mean(dim=0, keepdim=True)",
    ),
    "eps stands outside the root": (
        "torch.sqrt(variance + eps)",
        "(torch.sqrt(variance) + eps)",
    ),
    "the squares are summed, not averaged": (
        "square = rows.square().mean(dim=-1, keepdim=True)",
        "square = rows.square().sum(dim=-1, keepdim=True)",
    ),
    "rms_norm stays in few bits": (
        "rows = x.float()\n    square",
        "rows = x\n    square",
    ),
    "RMSNorm is a LayerNorm": (
        "return F.rms_norm(x, self.weight.shape, self.weight, self.eps)",
        "return F.layer_norm(x, self.weight.shape, self.weight)",
    ),
    "gate and up are swapped": (
        "F.silu(self.gate(x)) * self.up(x)",
        "self.gate(x) * F.silu(self.up(x))",
    ),
    "ReLU stands for GELU": (
        "F.gelu(self.up(x), approximate=self.approximate)",
        "F.relu(self.up(x))",
    ),
    "nothing bends": (
        "F.gelu(self.up(x), approximate=self.approximate)",
        "self.up(x)",
    ),
    "layer_norm comes back in float32": (
        "        out = out + bias\n    return out.to(x.dtype)",
        "        out = out + bias\n    return out",
    ),
    "layer_norm comes back in 64 bits": (
        "        out = out + bias\n    return out.to(x.dtype)",
        "        out = out + bias\n    return out.double()",
    ),
    "a GELUMLP has no bias": (
        "        bias: bool = True,\n        dropout",
        "        bias: bool = False,\n        dropout",
    ),
    "dropout makes what is left no larger": (
        "return self.dropout(self.down(x))\n\n\ndef",
        "return self.dropout(self.down(x)) * (1 - self.training * "
        "self.dropout.p)\n\n\ndef",
    ),
    "RMSNorm has an eps of its own": (
        "return F.rms_norm(x, self.weight.shape, self.weight, self.eps)",
        "return F.rms_norm(x, self.weight.shape, self.weight)",
    ),
    "1,024 channels are rounded as few": (
        "channels >= 1024",
        "channels > 1024",
    ),
}
