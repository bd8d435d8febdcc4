"""Other forms of `sampling` that are right."""

FORMS = {
    "top p one by one": """
def keep_top_p(logits, p):
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
    "min p": """
def keep_min_p(logits, p):
    shares = logits.softmax(-1)
    low = shares < p * shares.amax(-1, keepdim=True)
    return torch.where(low, torch.tensor(-math.inf), logits)
""",
}
