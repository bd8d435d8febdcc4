"""Other forms of `perplexity` that are right."""

FORMS = {
    "a sum divided once": """
def evaluate(model, tokens, context, batch_size=32, stride=None,
             precision="float32"):
    losses = token_losses(
        model, tokens, context, batch_size, stride, precision
    ).tolist()
    return Evaluation(math.fsum(losses) / len(losses), len(losses))
""",
    "window by window": """
import torch

def token_losses(model, tokens, context, batch_size=32, stride=None,
                 precision="float32"):
    stride = context if stride is None else stride
    if len(tokens) < 2 or not 1 <= stride <= context:
        raise ValueError("nothing to predict, or tokens never scored")
    ids = torch.as_tensor(np.asarray(tokens).astype(np.int64))
    before, scored, found = model.training, 0, []
    model.eval()
    with torch.inference_mode():
        for begin in range(0, len(ids), stride):
            end = min(begin + context, len(ids) - 1)
            if end <= scored:
                break
            scores = model(ids[None, begin:end])[0].log_softmax(-1)
            wanted = ids[begin + 1 : end + 1]
            nats = -scores[torch.arange(len(wanted)), wanted]
            found.append(nats[scored - begin :])
            scored = end
    model.train(before)
    return torch.cat(found).cpu()
""",
    "bits by a logarithm": """
def bits_per_byte(nats_total, size):
    if not size >= 1:
        raise ValueError("a text without a byte has no bits")
    return nats_total * math.log2(math.e) / size
""",
    "places with a step": """
def by_position(losses, context):
    places = min(context, len(losses))
    return losses.new_tensor(
        [losses[place::context].double().mean() for place in range(places)]
    )
""",
    "documents in a loop": """
def by_document(losses, targets, end_id):
    rows, nats, count = [], 0.0, 0
    for loss, target in zip(losses.tolist(), np.asarray(targets).tolist()):
        nats, count = nats + loss, count + 1
        if target == end_id:
            rows.append([nats, count])
            nats, count = 0.0, 0
    if count:
        rows.append([nats, count])
    return np.array(rows)
""",
}
