"""Other forms of `attention` that are right."""

FORMS = {
    "a mask by comparison": """
def causal_mask(queries, keys, device=None):
    if queries > keys:
        raise ValueError("too many queries")
    last = torch.arange(keys - queries, keys, device=device)
    return torch.arange(keys, device=device) <= last[:, None]
""",
    "weights by einsum": """
def attention_weights(q, k, causal=True):
    s = torch.einsum("...qd,...kd->...qk", q * q.shape[-1] ** -0.5, k)
    if causal:
        s = s + torch.where(causal_mask(*s.shape[-2:]), 0.0, -math.inf)
    e = (s - s.amax(-1, keepdim=True)).exp()
    return e / e.sum(-1, keepdim=True)
""",
}
