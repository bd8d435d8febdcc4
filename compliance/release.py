"""Rules on what is given to others: it is described, and it is known how large.

The thresholds are those of the AI Act and of the Commission's guidelines
C(2025) 7719; operations are counted as `scratchlm.training.scaling` does.
"""

from pathlib import Path

from compliance.card import CardError, read_card
from compliance.cards import OUT, render, training_operations
from compliance.rules import Finding, Findings, Site, rule
from scratchlm.text.files import FileError, read_json
from scratchlm.training.checkpoint import ERRORS, has_run

GENERAL = 1e23  # guidelines, point 17: more than this, and it writes language
SYSTEMIC = 1e25  # Article 51(2): presumed to have systemic risk
STANDINGS = ("none", "general-purpose", "systemic")
MAKE = "python -m compliance cards"


def standing(operations: float) -> str:
    """What a model is by the operations of its training alone.

    >>> standing(1e16), standing(2e23), standing(1.1e25)
    ('none', 'general-purpose', 'systemic')
    """
    return STANDINGS[(operations > GENERAL) + (operations > SYSTEMIC)]


def trained_here(run: Path) -> bool:
    """Whether a run tells of its training; one that was imported does not."""
    try:
        return bool(read_json(run / "config.json")["training"] != {})
    except (FileError, *ERRORS):
        return True  # damaged, which `compute` reports


def declared(site: Site) -> int:
    """The highest standing that a card of the site declares, as a rank."""
    ranks = [0]
    for path in site.cards:
        try:
            said = read_card(path)[0].get("standing")
        except (CardError, FileError):
            continue  # which the rule `card` reports
        ranks.append(STANDINGS.index(said) if said in STANDINGS else 0)
    return max(ranks)


@rule("runs", "AI Act, Articles 51(2) and 53", "2025-08-02")
def compute(run: Path, site: Site) -> Findings:
    """A model whose training passes a threshold is declared as such."""
    if not trained_here(run):
        return  # what was done to it elsewhere, `modifier` asks the card
    try:
        operations = training_operations(run)
    except (FileError, *ERRORS) as error:
        yield Finding(
            str(run / "config.json"),
            f"its operations cannot be counted: {error}",
            "take the file from a copy, or train again",
        )
        return
    found = standing(operations)
    if STANDINGS.index(found) > declared(site):
        yield Finding(
            str(run / "config.json"),
            f"{operations:.2e} operations make it {found}, and no card says so",
            f"meet the duties of that standing, then say standing: {found} in "
            "card.yml",
        )


@rule(
    "cards",
    "AI Act, Article 53(1)(d); California Civil Code, section 3111",
    "2025-08-02; 2026-01-01",
)
def card(path: Path, site: Site) -> Findings:
    """What is released has a complete card, and documents made from it."""
    try:
        said, problems = read_card(path)
    except (CardError, FileError) as error:
        yield Finding(str(path), str(error), f"mend it; see {MAKE} --help")
        return
    public = said.get("released") is True
    for wrong in problems:
        if public or not wrong.open or wrong.entry == "released":
            yield Finding(
                f"{path}:{wrong.line}",
                f"{wrong.entry}: {wrong.what}",
                "say it there" if wrong.open else "mend the entry",
            )
    if public and not problems:
        yield from stale(path, said)


def stale(path: Path, said: dict[str, object]) -> Findings:
    """The documents beside a card that are not what it says now."""
    try:
        texts, missing = render(said, path.parent)
    except FileError as error:
        yield Finding(str(path), str(error), "take the run from a copy")
        return
    for entry in missing:
        yield Finding(str(path), f"{entry}: not said yet", "say it there")
    for name, text in texts.items():
        place = path.parent / OUT / name
        if not place.exists() or place.read_text(encoding="utf-8") != text:
            yield Finding(str(place), f"is not what {path} says", MAKE)


@rule(
    "cards",
    "AI Act, Article 3(63); guidelines C(2025) 7719, points 60-61",
    "2025-08-02",
)
def modifier(path: Path, site: Site) -> Findings:
    """More than a third of a base model's training makes a provider of you."""
    try:
        said, _ = read_card(path)
        base, run = said["base"], path.parent / said["model"]["run"]
        known = base.get("operations")
        most = SYSTEMIC if base.get("systemic") is True else GENERAL
        limit = float(known if known is not None else most) / 3
        own = training_operations(run) if has_run(run) else 0.0
    except (CardError, FileError, *ERRORS):
        return  # no base; what is damaged, `card` and `compute` report
    small = known is not None and float(known) <= GENERAL
    if own > limit and not small and said.get("standing") in (None, "none"):
        yield Finding(
            str(path),
            f"{own:.2e} operations are more than a third of the training of "
            f"{base.get('name')}, and standing is none",
            "meet a provider's duties for the modified model, then say "
            "standing: general-purpose",
        )
