"""What a town of known entropy must do."""

import math

from scratchlm.text import toytown

from ..expect import close, equal, raises

FIRST = """\
It was a busy Monday, and the sun shone on the mill. A poster near the mill \
promised a magic show with burnt toast. Old Tobias borrowed Rosa Lind's \
silver hammer to make glue soup. "I'll bring it back on Saturday," he \
announced kindly.
On Saturday rain fell on the bridge, and Old Tobias brought the hammer back, \
painted green. Rosa Lind got an eel for her patience.
Who borrowed the hammer? Old Tobias."""


def check_verbs() -> None:
    """Verbs agree with their subject in number and tense."""
    for verb, forms in (
        ("be", ["was", "were", "is", "are"]),
        ("have", ["had", "had", "has", "have"]),
        ("carry", ["carried", "carried", "carries", "carry"]),
    ):
        got = [
            toytown.conjugate(verb, count, tense)
            for tense in ("past", "present")
            for count in (1, 2)
        ]
        equal(got, forms, f"past and present of {verb}, singular and plural")


def check_sums() -> None:
    """A slot of two roles is their sum, and one thing is singular."""
    loaf = toytown.make_thing("loaf/loaves")
    for n, m, wanted in ((7, 3, "four loaves"), (7, 6, "one loaf")):
        facts = {
            "n": toytown.Word({"": "n"}, n),
            "m": toytown.Word({"": "m"}, m),
            "item": loaf,
        }
        slot = toytown.parse_slot("n-m item")
        equal(toytown.inflect(slot, facts), wanted, f"{n} - {m} loaves")


def check_first_story() -> None:
    """Seed 2026 tells first of Old Tobias and the silver hammer."""
    story = next(toytown.write_stories(2026))
    equal(
        story.text,
        FIRST,
        "the first story of seed 2026",
        hint="one random number for each choice, none for anything else",
    )


def check_weights() -> None:
    """Of three alternatives the first has probability 3/6, the last 1/6."""
    equal(toytown.weight_sums(3), [3, 5, 6], "the running sums of 3, 2, 1")
    story = next(toytown.write_stories(2026))
    steps = {s.name: s.nats for s in toytown.derivations(FIRST)[0]}
    close(steps["tense"], -math.log(2 / 3), "surprise of the past tense")
    close(steps["day"], -math.log(7 / 28), "surprise of Monday, first of 7")
    close(steps["gift"], math.log(2), "surprise of the eel, first of three")
    close(
        story.log_prob,
        -sum(s.nats for s in toytown.derivations(FIRST)[0]),
        "the story's log-probability, from its choices",
        hint="add the logarithm of each choice's probability",
    )


def check_nobody_twice() -> None:
    """Who is in the story already cannot come in as somebody else."""
    pell = toytown.TOWN.words["people"][0]
    facts = {**toytown.START, "who": toytown.candidates("who", {})[0]}
    names = [w.forms[""] for w in toytown.candidates("other", facts)]
    equal(len(names), 15, "people who can still come in, of 16")
    equal(pell.forms[""] in names, False, "Mrs Pell is still among them")


def check_one_derivation() -> None:
    """A text tells each choice that made it, and no other text is told."""
    equal(len(toytown.derivations(FIRST)), 1, "derivations of a story")
    for change, text in (
        ("the wrong answer", FIRST.replace("Old Tobias.", "Rosa Lind.")),
        ("a wrong pronoun", FIRST.replace("her patience", "his patience")),
        ("something after the end", FIRST + " "),
        ("no end", FIRST[:-1]),
    ):
        equal(
            toytown.log_probability(text),
            -math.inf,
            f"log-probability of a story with {change}",
        )


def check_entropy() -> None:
    """Blank lines and end tokens are counted, and cost nothing."""
    stories = [toytown.Story("ab", -6.0), toytown.Story("abcd", -4.0)]
    close(
        toytown.entropy_per_character(stories),
        1.0,
        "nats per character: 10 nats, 2 + 2 + 4 + 2 characters",
        hint="each story is followed by two line breaks",
    )
    close(
        toytown.entropy_per_token(stories, tokens=4),
        2.5,
        "nats per token: 10 nats, 4 tokens",
    )


def check_splits() -> None:
    """Of 40 stories 36 are for training, and every 19th and 20th is not."""
    stories = [toytown.Story(str(i), -1.0) for i in range(40)]
    splits = toytown.split_stories(stories)
    equal(len(splits.train), 36, "stories to train on")
    equal([s.text for s in splits.validation], ["18", "38"], "to validate")
    equal([s.text for s in splits.test], ["19", "39"], "to test")
    raises(
        ValueError,
        lambda: toytown.split_stories(stories[:19]),
        "19 stories, with none left for the test",
    )


BUGS = {
    "the last option counts as the likeliest": (
        "math.log((k - option) / sums[-1])",
        "math.log((option + 1) / sums[-1])",
    ),
    "a person can meet himself": (
        "if id(word) not in taken]",
        "if id(word)]",
    ),
    "singular and plural verbs are exchanged": (
        "    if count != 1:\n",
        "    if count == 1:\n",
    ),
    "the blank lines are not counted": (
        "entropy_per_token(stories, len(join(stories)))",
        "entropy_per_token(stories, sum(len(s.text) for s in stories))",
    ),
    "reading does not wait for the end": (
        "            if start == len(text):\n",
        "            if start <= len(text):\n",
    ),
    "the validation stories are trained on": (
        "if i % 20 < 18]",
        "if i % 20 < 19]",
    ),
    "one loaf is a plural": (
        '.forms["" if subject.count == 1 else "many"]',
        '.forms["many"]',
    ),
}
