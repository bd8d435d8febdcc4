"""Other forms of `block` that are right."""

FORMS = {
    "rms by hand": """
def rms(x):
    return float((x.detach().double() ** 2).sum() / x.numel()) ** 0.5
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
}
