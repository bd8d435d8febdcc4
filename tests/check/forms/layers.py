"""Other forms of `layers` that are right."""

FORMS = {
    "the size of a row by hypot": """
def rms_norm(x, weight, eps=1e-5):
    x, dtype = x.float(), x.dtype
    size = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    size = size / math.sqrt(x.shape[-1])
    size = torch.hypot(size, torch.full_like(size, math.sqrt(eps)))
    return (x / size * weight.float()).type(dtype)
""",
    "centered and left to the other norm": """
def layer_norm(x, weight, bias=None, eps=1e-5):
    count = x.size(-1)
    centered = torch.sub(x.float(), x.float().sum(-1)[..., None] / count)
    out = rms_norm(centered, weight, eps)
    return (out if bias is None else bias + out).to(x.dtype)
""",
    "norms that inherit": """
class LayerNorm(nn.LayerNorm):
    def __init__(self, channels, bias=True, eps=1e-5):
        super().__init__(channels, eps=eps, bias=bias)


class RMSNorm(nn.RMSNorm):
    def __init__(self, channels, eps=1e-5):
        super().__init__([channels], eps)
""",
    "activations by other functions": """
def gelu(x):
    return torch.special.ndtr(x) * x


def gelu_tanh(x):
    twice = x * (1 + 0.044715 * x * x) * math.sqrt(8 / math.pi)
    return x * twice.sigmoid()


def silu(x):
    return F.logsigmoid(x).exp() * x
""",
    "layers as steps in a row": """
def swiglu_hidden(channels):
    step = 32 if channels < 1024 else 256
    return step * -(-8 * channels // (3 * step))


def forward(self, x):
    bend = {"none": gelu, "tanh": gelu_tanh}[self.approximate]
    for step in (self.up, bend, self.down, self.dropout):
        x = step(x)
    return x
GELUMLP.forward = forward


def gated(self, x):
    gates, x = self.gate(x), self.up(x)
    x = x * (gates * gates.sigmoid())
    return self.dropout(self.down(x))
SwiGLU.forward = gated
""",
}
