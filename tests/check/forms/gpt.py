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
}
