"""Other forms of `heads` that are right."""

FORMS = {
    "keys expanded": """
def repeat_kv(x, groups):
    b, k, t, d = x.shape
    return x[:, :, None].expand(b, k, groups, t, d).reshape(b, -1, t, d)
""",
    "no kernel": """
def fused_attention(q, k, v, dropout=0.0):
    groups = q.shape[1] // k.shape[1]
    weights = attention_weights(q, repeat_kv(k, groups))
    return F.dropout(weights, dropout) @ repeat_kv(v, groups)
""",
    "groups by einsum": """
def attention(self, q, k, v):
    q = q.unflatten(1, (k.shape[1], -1)) * self.head_size**-0.5
    scores = torch.einsum("bkgqd,bktd->bkgqt", q, k)
    hidden = ~causal_mask(q.shape[3], k.shape[2], q.device)
    weights = scores.masked_fill(hidden, float("-inf")).softmax(dim=-1)
    heard = torch.einsum("bkgqt,bktd->bkgqd", self.dropout(weights), v)
    return heard.flatten(1, 2)
MultiHeadAttention.attention = attention
""",
    "cut into three before the heads": """
def split(self, x, start):
    size, few = self.head_size, self.kv_heads
    q, k, v = torch.split(
        self.qkv(x), [self.heads * size, few * size, few * size], dim=-1
    )
    q, k, v = (y.unflatten(-1, (-1, size)).movedim(2, 1) for y in (q, k, v))
    both = self.normalize_and_rotate(torch.cat([q, k], dim=1), start)
    return both[:, : self.heads], both[:, self.heads :], v
MultiHeadAttention.split = split


def turn(self, qk, start):
    done = []
    parts = qk.split([self.heads, self.kv_heads], dim=1)
    for part, norm in zip(parts, [self.q_norm, self.k_norm]):
        if self.qk_norm:
            part = F.layer_norm(part, part.shape[-1:])
        if norm is not None:
            part = norm_heads(norm, part)
        turned = self.rotary and self.rotary.apply_rotary(part, start)
        done.append(part if turned is None else turned)
    return torch.cat(done, dim=1)
MultiHeadAttention.normalize_and_rotate = turn
""",
    "heads joined one by one": """
def forward(self, x, store=None):
    if store is None:
        heard = self.attention(*self.split(x, 0))
    else:
        q, *new = self.split(x, store.length)
        heard = self.attention(q, *store.append(*new))
    joined = torch.cat([heard[:, h] for h in range(self.heads)], dim=-1)
    return self.dropout(self.out(joined))
MultiHeadAttention.forward = forward
""",
}
