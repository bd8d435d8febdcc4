"""Correct code of other shapes is not refused: six topics, two forms each."""

import pytest

from check.diagnose import failures
from check.places import Site
from check.process import Job, run

# What is defined once more at the end of the module, in another way.
FORMS = {
    "attention": (
        """
def causal_mask(queries, keys, device=None):
    if queries > keys:
        raise ValueError("too many queries")
    last = torch.arange(keys - queries, keys, device=device)
    return torch.arange(keys, device=device) <= last[:, None]
""",
        """
def attention_weights(q, k, causal=True):
    s = torch.einsum("...qd,...kd->...qk", q * q.shape[-1] ** -0.5, k)
    if causal:
        s = s + torch.where(causal_mask(*s.shape[-2:]), 0.0, -math.inf)
    e = (s - s.amax(-1, keepdim=True)).exp()
    return e / e.sum(-1, keepdim=True)
""",
    ),
    "heads": (
        """
def repeat_kv(x, groups):
    b, k, t, d = x.shape
    return x[:, :, None].expand(b, k, groups, t, d).reshape(b, -1, t, d)
""",
        """
def fused_attention(q, k, v, dropout=0.0):
    groups = q.shape[1] // k.shape[1]
    return attention_weights(q, repeat_kv(k, groups)) @ repeat_kv(v, groups)
""",
    ),
    "block": (
        """
def rms(x):
    return float((x.detach().double() ** 2).sum() / x.numel()) ** 0.5
""",
        """
def forward(self, x, store=None):
    if self.norm_order == "post":
        y = self.norm1(x + self.attention(x, store))
        return self.norm2(self.mlp(y) + y)
    branch = self.norm_order == "branch"
    for norm, part in (
        (self.norm1, lambda y: self.attention(y, store)),
        (self.norm2, self.mlp),
    ):
        x = x + (norm(part(x)) if branch else part(norm(x)))
    return x
Block.forward = forward
""",
    ),
    "gpt": (
        """
def next_token_loss(logits, targets, reduction="mean"):
    logs = logits.float().log_softmax(-1)
    counts = targets != -100
    index = targets.long().where(counts, torch.zeros_like(targets).long())
    losses = -logs.gather(-1, index[..., None])[..., 0]
    losses = losses.where(counts, torch.zeros_like(losses)).flatten()
    if reduction == "none":
        return losses
    return losses.sum() / (counts.sum() if reduction == "mean" else 1)
""",
        """
def features(self, ids, stores=None):
    x = self.embed(ids, stores[0].length if stores else 0)
    again = self.checkpoint_activations and self.training and not stores
    for block, store in zip(self.blocks, stores or [None] * len(self.blocks)):
        if again:
            x = checkpoint(block, x, use_reentrant=False)
        else:
            x = block(x, store)
    return self.norm(x)
GPT.features = features
""",
    ),
    "bpe": (
        """
def merge_word(word, pair, new):
    if len(word) < 2:
        return list(word)
    if (word[0], word[1]) == tuple(pair):
        return [new, *merge_word(word[2:], pair, new)]
    return [word[0], *merge_word(word[1:], pair, new)]
""",
        """
def count_pairs(words):
    found = {}
    for word, count in words:
        for i in range(len(word) - 1):
            pair = (word[i], word[i + 1])
            found[pair] = found.get(pair, 0) + count
    return Counter(found)
""",
    ),
    "sampling": (
        """
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
        """
def keep_min_p(logits, p):
    shares = logits.softmax(-1)
    low = shares < p * shares.amax(-1, keepdim=True)
    return torch.where(low, torch.tensor(-math.inf), logits)
""",
    ),
}


@pytest.mark.parametrize(
    ("name", "form"),
    [(name, i) for name, forms in FORMS.items() for i in range(len(forms))],
)
def test_other_forms_pass(name: str, form: int, book: Site) -> None:
    topic = book.topics[name]
    text = book.path(topic).read_text(encoding="utf-8") + FORMS[name][form]
    report = run(Job(book, topic, book.sources, text=text))
    assert failures(report) == {}
