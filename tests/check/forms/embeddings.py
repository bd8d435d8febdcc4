"""Other forms of `embeddings` that are right."""

FORMS = {
    "rows by number": """
def rows(self, ids: Tensor) -> Tensor:
    flat = torch.index_select(self.weight, 0, ids.reshape(-1).long())
    return flat.view(*ids.shape, self.weight.shape[1])


def places(self, length: int, start: int = 0) -> Tensor:
    end = start + length
    if not 0 <= start <= end <= len(self.weight):
        raise ValueError(f"positions {start} to {end} do not fit")
    return self.weight.narrow(0, start, length)


def halves_from_pairs(head_size):
    order = [*range(0, head_size, 2), *range(1, head_size, 2)]
    return torch.tensor(order, dtype=torch.int64)


TokenEmbedding.forward = rows
LearnedPositions.forward = places
""",
    "waves one number at a time": """
def wave_frequencies(channels, base=10000.0):
    if channels % 2 != 0:
        raise ValueError(f"{channels} channels do not make pairs")
    if not (base >= 1 and math.isfinite(base)):
        raise ValueError(f"a base of {base} makes no waves")
    waves = [base ** (-i / channels) for i in range(0, channels, 2)]
    return torch.tensor(waves, dtype=torch.float32)


def sinusoidal_positions(context, channels):
    wave_frequencies(channels)  # refuses an odd number
    rows = [
        [
            turn(t / 10000 ** (i / channels))
            for i in range(0, channels, 2)
            for turn in (math.sin, math.cos)
        ]
        for t in range(context)
    ]
    return torch.tensor(rows, dtype=torch.float32).view(context, channels)
""",
    "turning by complex numbers": """
def apply_rotary(self, x, start=0):
    length = x.shape[-2]
    check_positions(start, length, self.context)
    if x.device != self.cos.device:
        self.to_empty(device=x.device)
    turn = torch.complex(self.cos, self.sin)[start:][:length]
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    z = torch.complex(*wide.chunk(2, dim=-1)) * turn
    return torch.cat((z.real, z.imag), dim=-1).to(x.dtype)


Rotary.apply_rotary = apply_rotary
""",
    "halves exchanged, one of them negated": """
def apply_rotary(self, x: Tensor, start: int = 0) -> Tensor:
    end = start + x.shape[-2]
    if start < 0 or end > self.context:
        raise ValueError(f"{end} positions, a context of {self.context}")
    if self.cos.device != x.device:
        self.to_empty(device=x.device)
    cos = self.cos[start:end].repeat(1, 2)
    sin = self.sin[start:end].repeat(1, 2)
    half = x.shape[-1] // 2
    other = torch.cat([-x[..., half:], x[..., :half]], dim=-1)
    return (x * cos + other * sin).type_as(x)


Rotary.apply_rotary = apply_rotary
""",
    "tables by polar coordinates": """
def rotary_tables(
    head_size, context, base=10000.0, factor=1.0, original=8192
):
    waves = wave_frequencies(head_size, base)
    if factor != 1.0:
        waves = slow_down(waves, factor, original)
    angles = torch.arange(context, dtype=torch.float32)[:, None] * waves
    turns = torch.view_as_real(torch.polar(torch.ones_like(angles), angles))
    return turns[..., 0].contiguous(), turns[..., 1].contiguous()


def follow(self, fn, recurse=True):
    nn.Module._apply(self, fn, recurse)
    device = self.cos.device
    for name, table in zip(["cos", "sin"], self.tables()):
        self.register_buffer(name, table.to(device), persistent=False)
    return self


Rotary._apply = follow
""",
}
