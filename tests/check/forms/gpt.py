"""Other forms of `gpt` that are right."""

FORMS = {
    "loss by gather": """
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
    "a loop with stores": """
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
    "a table from small functions": """
def parameter_table(config):
    c, size = config, config.channels_per_head
    def line(reads, writes, bias):
        return writes * (reads + 1 if bias else reads)
    wide, biased = (c.heads + 2 * c.key_heads) * size, c.qkv_bias
    block = line(c.channels, wide, c.bias if biased is None else biased)
    block += line(c.heads * size, c.channels, c.bias)
    think = line(c.channels, c.inner, c.bias)
    think = 2 * think if c.mlp == "swiglu" else think
    think += line(c.inner, c.channels, c.bias)
    norm = c.channels
    norm *= 2 if c.bias and c.norm == "layernorm" else 1
    of_heads = {"rmsnorm": 2, "rmsnorm_all": c.heads + c.key_heads}
    table = c.vocab_size * c.channels
    return {
        "tokens": table,
        "positions": c.channels * c.context * (c.position == "learned"),
        "attention": block * c.layers,
        "feed-forward": think * c.layers,
        "norms": (2 * norm + of_heads.get(c.qk_norm, 0) * size) * c.layers
        + (0 if c.norm_order == "post" else norm),
        "head": table * (not c.tied),
    }
""",
    "weights by the name of a layer": """
@torch.no_grad()
def initialize(self):
    deep = 0.02 / (2 * len(self.blocks)) ** 0.5
    sizes = {"out": deep, "down": deep}
    for path, parameter in self.named_parameters():
        *_, layer, name = path.split(".")
        if name == "bias":
            parameter.fill_(0)
        elif parameter.dim() == 2:
            parameter.normal_(0, sizes.get(layer, 0.02))
GPT.initialize = initialize
""",
    "every id looked at": """
def check_ids(ids, vocab_size):
    if len(ids.shape) != 2 or 0 in ids.shape:
        raise ValueError(f"(B, T) ids are needed, not {list(ids.shape)}")
    if ids.is_cpu:
        for i in set(ids.flatten().tolist()):
            if i not in range(vocab_size):
                raise ValueError(f"token {i} of {vocab_size} does not exist")


def embed(self, ids, start):
    check_ids(ids, vocab_size=self.config.vocab_size)
    parts = [self.token(ids)]
    if self.config.position == "learned":
        parts += [self.position(ids.size(1), start)]
    return self.dropout(sum(parts))
GPT.embed = embed
""",
}
