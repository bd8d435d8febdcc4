"""Other forms of `trainer` that are right."""

FORMS = {
    "windows by arithmetic": """
def spans(length, context, stride):
    if length < 2 or not 1 <= stride <= context:
        raise ValueError("nothing to predict, or tokens never scored")
    last = length - 1
    count = 1 + max(0, -(-(last - context) // stride))
    for number in range(count):
        begin = number * stride
        fresh = 0 if number == 0 else begin - stride + context
        yield begin, fresh, min(begin + context, last)
""",
    "batches without groupby": """
def span_batches(cuts, batch_size):
    held = []
    for cut in cuts:
        other = held and held[0][2] - held[0][0] != cut[2] - cut[0]
        if other or len(held) == batch_size:
            yield held
            held = []
        held.append(cut)
    if held:
        yield held
""",
    "a mean by a sum of floats": """
def validation_loss(model, tokens, context, batch_size=32,
                    precision="float32"):
    losses = token_losses(
        model, tokens, context, batch_size, precision=precision
    )
    return math.fsum(losses.tolist()) / losses.numel()
""",
    "a step in small functions": """
def measured(trainer, batches):
    loss = trainer.accumulate(batches)
    norm = clip_gradients(trainer.model.parameters(), trainer.config.clip)
    return tuple(torch.stack([loss, norm]).tolist())

def moved(trainer):
    for optimizer in trainer.optimizers:
        optimizer.step()
    trainer.step += 1

def train_step(self):
    rate = self.schedule.rate(self.step)
    set_learning_rate(self.optimizers, rate)
    self.model.zero_grad()
    batches = [self.next_batch() for _ in range(self.config.accumulate)]
    loss, norm = measured(self, batches)
    if not all(map(math.isfinite, (loss, norm))):
        raise NonFiniteLoss(self.describe_failure(loss, norm))
    moved(self)
    self.tokens += sum(count_targets(targets) for _, targets in batches)
    return dict(step=self.step, train_loss=loss, learning_rate=rate,
                gradient_norm=norm, tokens=self.tokens)

Trainer.train_step = train_step
""",
    "a loop that ends by a break": """
def fit(self):
    self.begin()
    try:
        with StopRequest() as stop, self.progress_bar() as bar:
            while True:
                if self.is_done():
                    break
                self.advance(stop)
                bar.update()
    finally:
        if self.board is not None:
            self.board.close()
    return self.best

Trainer.fit = fit
""",
    "gradients zeroed after the step as well": """
def train_step(self):
    set_learning_rate(self.optimizers, self.schedule.rate(self.step))
    self.model.zero_grad()
    pairs = [self.next_batch() for _ in range(self.config.accumulate)]
    total = self.accumulate(pairs).item()
    norm = clip_gradients(self.model.parameters(), self.config.clip).item()
    if not (math.isfinite(total) and math.isfinite(norm)):
        raise NonFiniteLoss(self.describe_failure(total, norm))
    for optimizer in self.optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    self.step += 1
    self.tokens += sum(count_targets(targets) for _, targets in pairs)
    rate = self.schedule.rate(self.step - 1)
    return {"step": self.step, "train_loss": total, "learning_rate": rate,
            "gradient_norm": norm, "tokens": self.tokens}

Trainer.train_step = train_step
""",
    "a callback under a name of its own, and Ctrl-C as Interrupted": """
made, finished, fitted = Trainer.__init__, Trainer.finish_step, Trainer.fit

def __init__(self, model, train, validation, config, folder,
             on_sample=None, data=None, tensorboard=False):
    made(self, model, train, validation, config, folder, None, data,
         tensorboard)
    self.listener = on_sample

def finish_step(self):
    evaluates = self.is_due(self.config.evaluate_every)
    finished(self)
    if self.listener and evaluates:
        self.listener(self.model, self.line)

def fit(self):
    try:
        return fitted(self)
    except KeyboardInterrupt:
        raise Interrupted(self.how_to_resume()) from None

Trainer.__init__ = __init__
Trainer.finish_step = finish_step
Trainer.fit = fit
""",
    "the device as the weights tell it": """
def token_losses(model, tokens, context, batch_size=32, stride=None,
                 precision="float32"):
    place = next(model.parameters()).device
    was, found = model.training, []
    model.eval()
    try:
        for begin, fresh, end in spans(
            len(tokens), context, context if stride is None else stride
        ):
            ids = torch.tensor(
                [[int(i) for i in tokens[begin : end + 1]]], device=place
            )
            with torch.no_grad(), float32_products(precision), autocast(
                place.type, precision
            ):
                logits = model(ids[:, :-1])
            nats = -logits.float().log_softmax(-1).gather(
                -1, ids[:, 1:, None]
            )
            found.append(nats[0, fresh - begin :, 0])
    finally:
        model.train(was)
    return torch.cat(found).cpu()
""",
}
