"""Other forms of `sampling` that are right."""

FORMS = {
    "top p one by one": """
def keep_top_p(logits, p):
    if p >= 1:
        return logits
    shares = logits.softmax(-1)
    order = shares.argsort(dim=-1, descending=True, stable=True)
    v = logits.shape[-1]
    out = torch.full_like(logits, -math.inf).view(-1, v)
    for into, row, ids in zip(out, logits.reshape(-1, v), order.view(-1, v)):
        before = 0.0
        for i in ids.tolist():
            if before < max(p, TINY):
                into[i] = row[i]
            before += float(row.softmax(-1)[i])
    return out.view(logits.shape)
""",
    "min p by shares": """
def keep_min_p(logits, p):
    shares = logits.softmax(-1)
    low = shares < p * shares.amax(-1, keepdim=True)
    return torch.where(low, logits.new_tensor(-math.inf), logits)
""",
    "top k by the order of all": """
def keep_top_k(logits, k):
    order = logits.argsort(dim=-1, descending=True)
    rank = order.argsort(dim=-1)
    return logits.masked_fill(rank >= k, -math.inf)
""",
    "a row at a time, token by token": """
def penalize(logits, seen, penalty):
    v, t = logits.shape[-1], seen.shape[-1]
    out = logits.clone().view(-1, v)
    for row, ids in zip(out, seen.reshape(-1, t).tolist()):
        for i in set(ids):
            score = row[i]
            score = score / penalty if score > 0 else score * penalty
            row[i] = torch.nan_to_num(score)
    return out.view(logits.shape)
""",
    "drawing by running sums": """
def sample(logits, config, generator=None, seen=None):
    if config.temperature == 0:
        return adjust(logits, config, seen).argmax(-1)
    p = probabilities(logits, config, seen)
    shape = (*p.shape[:-1], 1)
    u = torch.rand(shape, generator=generator, device=p.device)
    sums = p.cumsum(-1)
    at = torch.searchsorted(sums, u * sums[..., -1:], right=True)
    last = (p > 0).long().cumsum(-1).argmax(-1, keepdim=True)
    return torch.minimum(at, last)[..., 0]
""",
}
