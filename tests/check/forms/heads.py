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
    return attention_weights(q, repeat_kv(k, groups)) @ repeat_kv(v, groups)
""",
}
