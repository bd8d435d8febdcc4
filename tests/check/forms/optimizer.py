"""Other forms of `optimizer` that are right."""

FORMS = {
    "the rest comes first": """
def parameter_groups(model, weight_decay):
    stays, decays = [], []
    tables = embedding_parameters(model)
    for p in filter(lambda p: p.requires_grad, model.parameters()):
        (decays if p.ndim > 1 and p not in tables else stays).append(p)
    return [
        {"params": stays, "weight_decay": 0.0},
        {"params": decays, "weight_decay": weight_decay},
    ]
""",
    "one tensor after the other": """
@torch.no_grad()
def step(self, closure=None):
    loss = None
    if closure is not None:
        with torch.enable_grad():
            loss = closure()
    for group in self.param_groups:
        settings = {k: group[k] for k in ("lr", "betas", "eps")}
        for p in group["params"]:
            if p.grad is None:
                continue
            kept, decay = self.state[p], group["weight_decay"]
            for name in ("exp_avg", "exp_avg_sq"):
                kept.setdefault(name, torch.zeros_like(p))
            kept["step"] = kept.get("step", 0) + 1
            adamw_step(p, p.grad, **kept, **settings, weight_decay=decay)
    return loss
AdamW.step = step
""",
    "corrections in one factor": """
@torch.no_grad()
def adamw_step(
    parameter, gradient, exp_avg, exp_avg_sq, step, lr,
    betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1,
):
    exp_avg.copy_(betas[0] * exp_avg + (1 - betas[0]) * gradient)
    exp_avg_sq.copy_(betas[1] * exp_avg_sq + (1 - betas[1]) * gradient**2)
    root = math.sqrt(1 - betas[1] ** step)
    move = exp_avg / (exp_avg_sq**0.5 + root * eps)
    move *= root / (1 - betas[0] ** step)
    parameter -= lr * (move + weight_decay * parameter)
""",
    "a sum of squares": """
def clip_gradients(parameters, max_norm):
    if not max_norm > 0:
        raise ValueError(f"max_norm={max_norm} is no length")
    found = [p.grad for p in parameters if p.grad is not None]
    total = torch.zeros((), device=found[0].device if found else None)
    for gradient in found:
        total = total + gradient.detach().float().pow(2).sum()
    norm = total.sqrt()
    if max_norm < norm < math.inf:
        for gradient in found:
            gradient *= max_norm / norm
    return norm
""",
    "groups by comprehension": """
def parameter_groups(model, weight_decay):
    rare = {id(p) for p in embedding_parameters(model)}
    learned = [p for p in model.parameters() if p.requires_grad]
    matrices = [p for p in learned if p.dim() > 1 and id(p) not in rare]
    taken = set(map(id, matrices))
    rest = [p for p in learned if id(p) not in taken]
    return [
        dict(params=matrices, weight_decay=weight_decay),
        dict(params=rest, weight_decay=0.0),
    ]
""",
    "tables by recursion": """
def embedding_parameters(model):
    tables = set()
    if isinstance(model, EMBEDDINGS):
        tables.update(model.parameters(recurse=False))
    for child in model.children():
        tables |= embedding_parameters(child)
    return tables
""",
}
