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
        seen = causal_mask(q.shape[-2], k.shape[-2], device=s.device)
        s = s.where(seen, -math.inf)
    e = (s - s.amax(-1, keepdim=True)).exp()
    return e / e.sum(-1, keepdim=True)
""",
    "keys one after the other": """
def scaled_dot_product_attention(q, k, v, causal=True):
    queries, keys = q.shape[-2], k.shape[-2]
    if causal:
        seen = causal_mask(queries, keys, q.device)
    else:
        seen = torch.ones(queries, keys, dtype=torch.bool, device=q.device)
    largest, total, heard = torch.full_like(q[..., :1], -math.inf), 0, 0
    for j in range(keys):
        score = (q * k[..., j : j + 1, :]).sum(-1, keepdim=True)
        score = score / math.sqrt(q.shape[-1])
        score = score.masked_fill(~seen[:, j : j + 1], -math.inf)
        new = torch.maximum(largest, score)
        old, part = torch.exp(largest - new), torch.exp(score - new)
        total = total * old + part
        heard = heard * old + part * v[..., j : j + 1, :]
        largest = new
    return heard / total
""",
    "rows filled up with zeros": """
def attention_weights(q, k, causal=True):
    many, keys = q.size(-2), k.size(-2)
    if causal and many > keys:
        raise ValueError(f"{many} queries do not fit to {keys} keys")
    scores = torch.matmul(q, k.mT) * q.size(-1) ** -0.5
    weights = torch.zeros_like(scores)
    for row in range(many):
        end = keys - many + row + 1 if causal else keys
        weights[..., row, :end] = scores[..., row, :end].softmax(-1)
    return weights
""",
    "three projections in one": """
def forward(self, x):
    layers = [self.query, self.key, self.value]
    weight = torch.cat([layer.weight for layer in layers])
    q, k, v = nn.functional.linear(x, weight).chunk(3, dim=-1)
    return attention_weights(q, k).matmul(v)
SingleHeadAttention.forward = forward
""",
}
