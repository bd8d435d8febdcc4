"""Other forms of `block` that are right."""

FORMS = {
    "rms by hand": """
def rms(x):
    return float((x.detach().cpu().double() ** 2).sum() / x.numel()) ** 0.5
""",
    "a loop over parts": """
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
    "three cases by match": """
def forward(self, x, store=None):
    def add(norm, part, *more):
        match self.norm_order:
            case "post":
                return norm(x + part(x, *more))
            case "branch":
                return x + norm(part(x, *more))
            case _:
                return x + part(norm(x), *more)
    x = add(self.norm1, self.attention, store)
    return add(self.norm2, self.mlp)
Block.forward = forward
""",
    "a class with sublayers": """
class Block(nn.Module):
    def __init__(self, norm1, attention, norm2, mlp, norm_order="pre"):
        super().__init__()
        names = ["norm1", "attention", "norm2", "mlp"]
        for name, part in zip(names, [norm1, attention, norm2, mlp]):
            self.add_module(name, part)
        self.norm_order = norm_order

    def before(self, norm, x):
        return norm(x) if self.norm_order == "pre" else x

    def add(self, norm, x, found):
        found = norm(found) if self.norm_order == "branch" else found
        return norm(x + found) if self.norm_order == "post" else x + found

    def forward(self, x, store=None):
        found = self.attention(self.before(self.norm1, x), store=store)
        x = self.add(self.norm1, x, found)
        return self.add(self.norm2, x, self.mlp(self.before(self.norm2, x)))
""",
    "gradients from block to block": """
def depth_profile(blocks, x):
    passed, sizes = [], [rms(x)]
    for block in blocks:
        before = x.detach().requires_grad_()
        x = block(before)
        passed.append((before, x))
        sizes.append(rms(x))
    seeded = torch.Generator(x.device).manual_seed(1)
    gradient = torch.empty_like(x).normal_(generator=seeded)
    gradient = gradient / rms(gradient)
    gradients = [rms(gradient)]
    while passed:
        before, after = passed.pop()
        gradient = torch.autograd.grad(after, before, gradient)[0]
        gradients.insert(0, rms(gradient))
    return sizes, gradients
""",
}
