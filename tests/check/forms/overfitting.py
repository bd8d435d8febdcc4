"""Other forms of `overfitting` that are right."""

FORMS = {
    "numbers dropped by their places": """
def drop(x, share, generator=None):
    if share < 0 or share >= 1 or share != share:
        raise ValueError(f"{share} is no share that leaves something")
    flat = x.flatten() / (1 - share)
    chance = torch.rand(flat.shape, generator=generator, device=x.device)
    gone = (chance < share).nonzero()[:, 0]
    return flat.index_fill(0, gone, 0.0).view(x.shape)
""",
    "patience that is counted down": """
def stop_early(losses, patience):
    best, lowest, left = 0, losses[0], patience
    for now in range(1, len(losses)):
        if losses[now] < lowest:
            best, lowest, left = now, losses[now], patience
            continue
        left -= 1
        if left <= 0:
            return best, now
    return best, len(losses) - 1
""",
    "reciting piece by piece": """
@torch.no_grad()
def recited(model, tokens, prompt, length):
    size, right, pieces = prompt + length, 0, len(tokens) // (prompt + length)
    mode = model.training
    model.train(False)
    for number in range(pieces):
        piece = np.asarray(tokens[number * size : (number + 1) * size])
        ids = torch.from_numpy(piece.astype(np.int64))[None]
        said = model(ids)[0].argmax(-1)
        right += bool((said[prompt - 1 : -1] == ids[0, prompt:]).all())
    model.train(mode)
    return right / pieces
""",
    "a list of rows in the place of three": """
def watch(model, text, other, config, folder, batch_size=16):
    rows = []

    def note(model, line):
        seen = validation_loss(model, text, model.config.context)
        rows.append((line["step"], seen, line["validation_loss"]))

    batches = BatchCursor(text, model.config.context, batch_size, seed=1)
    run = Trainer(model, batches, other, config, folder, on_sample=note)
    run.fit()
    return Curves(*map(tuple, zip(*rows)))
""",
    "curves that are looked through": """
def best(curves):
    found = 0
    for place, loss in enumerate(curves.unseen):
        if loss < curves.unseen[found]:
            found = place
    return found

Curves.best = property(best)
""",
}
