"""What classifying must do."""

from functools import partial

import torch

from scratchlm.model.gpt import GPT, gpt2_config
from scratchlm.text.toytown import TOWN
from scratchlm.tuning import classify

from ..expect import close, equal, raises, true
from ..inputs import settled

ROWS = [[3, 1, 4, 1, 5], [9, 2], [6, 5, 3, 5], [8], [9, 7, 9]]
SCENE = "It was Monday, and rain fell on the river. "
LABELS = torch.tensor([0, 2, 1, 2, 0])


def mixer() -> GPT:
    """A model in which every token depends on all before it."""
    return settled(GPT(gpt2_config(12, 8, 2, 2, 8)).eval(), 0.5)


def head() -> torch.Tensor:
    """Three classes that read eight channels."""
    return torch.sin(torch.arange(24.0)).view(3, 8)


def alone() -> torch.Tensor:
    """The features of each text's last token, text by text."""
    with torch.no_grad():
        return torch.stack(
            [mixer().features(torch.tensor([row]))[0, -1] for row in ROWS]
        )


def check_last() -> None:
    """A text's features are those of its own last token."""
    close(
        classify.last_features(mixer(), ROWS, batch_size=3),
        alone(),
        "the features of five texts of different lengths",
        tol=1e-4,
        hint="take the last real token, at length - 1; what stands in the "
        "last column is padding",
    )


def check_logits() -> None:
    """The scores of all classes are the head's, for the last token."""
    close(
        classify.class_logits(classify.with_head(mixer(), head()), ROWS),
        alone() @ head().T,
        "the scores of three classes",
        tol=1e-4,
    )


def check_head() -> None:
    """A new head leaves the model that it came from alone."""
    model = mixer()
    changed = classify.with_head(model, torch.zeros(3, 8))
    with torch.no_grad():
        for parameter in changed.parameters():
            parameter.add_(1.0)
    equal(tuple(model.head.weight.shape), (12, 8), "the old head's shape")
    close(
        model(torch.tensor(ROWS[:1])),
        mixer()(torch.tensor(ROWS[:1])),
        "the logits of the old model after the new one has changed",
        tol=1e-6,
        hint="copy the model: the two must share no weight",
    )
    equal(
        tuple(changed.token.weight.shape),
        (12, 8),
        "the token table's shape",
        hint="the new head must not be tied to the tokens",
    )


def check_loss() -> None:
    """The loss is the surprise at each class, weighted by class."""
    model = classify.with_head(mixer(), head())
    batch = next(classify.labeled_batches(ROWS, LABELS, 5, seed=0))
    logits = alone() @ head().T
    nats = -logits.log_softmax(dim=1)[torch.arange(5), LABELS]
    hint = "pick the last real token of each row, then the logarithm"
    close(
        classify.class_loss(model, batch), nats.mean(), "the loss", 1e-4, hint
    )
    weights = torch.tensor([1.0, 2.0, 5.0])
    each = weights[LABELS]
    close(
        classify.class_loss(model, batch, weights),
        (each * nats).sum() / each.sum(),
        "the loss with a weight for each class",
        1e-4,
        "divide by the sum of the weights, not by the number of texts",
    )


def check_frozen() -> None:
    """With one block that learns, everything below it stays."""
    model = classify.train_last(classify.with_head(mixer(), head()), 1)
    learns = {n.split(".")[0] for n, p in model.named_parameters()
              if p.requires_grad and not n.startswith("blocks.1.")}  # fmt: skip
    equal(
        sorted(learns),
        ["head", "norm"],
        "what learns beside the last block",
        hint="the head and the last norm; no embedding, no earlier block",
    )
    whole = classify.train_last(model, 2)
    true(
        all(p.requires_grad for p in whole.parameters()),
        "with all blocks, everything learns, embeddings included",
    )


def check_counts() -> None:
    """Counts are of texts, for columns of the training texts alone."""
    rows = [[1, 1, 2, 3], [2, 3], [2, 2]]
    columns = classify.choose_grams(rows, longest=2, least=2)
    equal(
        sorted(columns),
        [(2,), (2, 3), (3,)],
        "the runs that stand in two texts",
        hint="a run that stands twice in one text stands in one text",
    )
    equal(
        classify.count_grams([[2, 2, 7, 2, 3]], columns).tolist(),
        [[3.0, 1.0, 1.0, 1.0]],
        "the counts of a new text, and the 1 at the end",
        hint="how often, not whether; unknown tokens have no column",
    )
    equal(
        dict(classify.grams([5, 5], 3)),
        {(5,): 2, (5, 5): 1},
        "the runs of a text that is shorter than the longest run",
    )


def check_fit() -> None:
    """The fitted head is where the slope of the loss is zero."""
    x = torch.sin(torch.arange(40.0) ** 2).view(10, 4)
    labels = torch.tensor([0, 1, 2, 0, 1, 2, 0, 0, 0, 1])
    weights = torch.tensor([1.0, 2.0, 4.0])
    for each in (torch.ones(3), weights):
        given = None if each.sum() == 3 else each
        found = classify.fit_softmax(x, labels, 3, 0.05, given).double()
        share = (each[labels] / each[labels].sum()).double()
        said = (x.double() @ found.T).softmax(dim=1)
        off = (said - torch.eye(3)[labels]) * share[:, None]
        close(
            off.T @ x.double() + 2 * 0.05 * found,
            torch.zeros(3, 4),
            "the slope of loss and penalty at the fitted head",
            tol=1e-5,
            hint="weighted mean surprise plus penalty times the squares; "
            "iterate until it is at rest",
        )


def check_balance() -> None:
    """Balanced weights give each class the same sum."""
    labels = torch.tensor([0, 0, 0, 0, 0, 0, 1, 1, 2])
    close(
        classify.balanced_weights(labels, 3),
        [0.5, 1.5, 3.0],
        "weights for classes of 6, 2 and 1 texts",
        hint="texts by (classes times texts of the class)",
    )


def check_claims() -> None:
    """In every four claims each word is as often true as false."""
    people = [p for p in TOWN.words["people"] if p.count == 1][:5]
    samples = classify.claims(3, 12, people)
    for start in range(0, 12, 4):
        four = samples[start : start + 4]
        words = [sorted(" ".join(s.text for s in four if s.label == y).split())
                 for y in (0, 1)]  # fmt: skip
        equal(words[0], words[1], "the words of false claims and of true ones")
    trades = {p.forms[""]: p.forms["trade"] for p in people}
    for text, label, group in samples:
        said = text.rpartition("the ")[2].rstrip(",")
        equal(bool(label), trades[group] == said, f"whether {text!r} is true")


def check_chances() -> None:
    """The grammar's own chances are weighed, and sum to 1."""
    prior = [k / 21 for k in range(6, 0, -1)]
    for text in ("", "It was M"):
        close(classify.plot_chances(text), prior, f"the plots after {text!r}")
    begins = [7 / 10, 7 / 10, 4 / 6, 5 / 6, 5 / 6, 2 / 6]  # with a person
    news = 2 / 3 * 1 / 21  # that begins with one, before the plot is chosen
    both = [p * (news + b / 3) for p, b in zip(prior, begins, strict=True)]
    close(
        classify.plot_chances(SCENE + "Mrs Pell "),
        [x / sum(both) for x in both],
        "the plots of a story in which Mrs Pell comes first",
        hint="multiply the weights of all choices on the way; the first of "
        "k alternatives weighs k, the last one 1",
    )
    text = SCENE + "Nobody knew "
    close(
        classify.plot_chances(text),
        [1.0, 0, 0, 0, 0, 0],
        f"the plots after {text!r}",
        hint="follow every path that agrees with the text",
    )
    raises(
        ValueError,
        lambda: classify.plot_chances("The moon"),
        "a beginning that no story has",
    )


def check_table() -> None:
    """A row is what it was, a column what it was taken for."""
    table = classify.confusion(
        torch.tensor([0, 0, 0, 1]), torch.tensor([0, 0, 1, 1]), 2
    )
    equal(
        table,
        torch.tensor([[2, 1], [0, 1]]),
        "the table of four texts",
        hint="rows are classes, columns are guesses",
    )
    close(
        classify.recalls(table), [2 / 3, 1.0], "the share found of each class"
    )


def check_temperature() -> None:
    """Logits that were doubled need twice the temperature."""
    logits = torch.sin(torch.arange(60.0)).view(20, 3)
    labels = torch.arange(20) % 3
    labels[:12] = logits[:12].argmax(dim=1)
    once = classify.fit_temperature(logits, labels)
    close(
        classify.fit_temperature(2 * logits, labels) / once,
        2.0,
        "the temperature of doubled logits by that of the plain ones",
        tol=1e-2,
        hint="divide the logits; minimize the surprise at the classes",
    )


def check_threshold() -> None:
    """A dear miss lowers the threshold, a dear alarm raises it."""
    chances = torch.tensor([0.1, 0.3, 0.4, 0.6, 0.9])
    happened = torch.tensor([False, True, False, False, True])
    for miss, alarm, wanted in ((5, 1, 0.2), (1, 5, 0.75)):
        close(
            classify.choose_threshold(chances, happened, miss, alarm),
            wanted,
            f"the threshold where a miss costs {miss} and an alarm {alarm}",
            hint="count what each threshold would cost, and take the least",
        )


def check_surprise() -> None:
    """Surprise is the sum over a text's last tokens alone."""
    rows, tails = [[3, 1, 4, 1], [5, 9, 2]], [2, 1]
    wanted = []
    for row, tail in zip(rows, tails, strict=True):
        with torch.no_grad():
            logs = mixer()(torch.tensor([row]))[0].log_softmax(dim=-1)
        places = range(len(row) - tail, len(row))
        wanted.append(-sum(logs[i - 1, row[i]].item() for i in places))
    close(
        classify.surprises(mixer(), rows, tails),
        wanted,
        "the nats of the last two tokens, and of the last one",
        tol=1e-4,
        hint="a sum of surprises, with the sign that makes them positive",
    )


def check_groups_of_chances() -> None:
    """What was said, what came, how many: from unlikely to sure."""
    chances = torch.tensor([0.1, 0.3, 0.35, 1.0])
    happened = torch.tensor([0, 1, 0, 1])
    got = classify.reliability(chances, happened, bins=4)
    wanted = [[0.1, 0.0, 1], [0.325, 0.5, 2], [1.0, 1.0, 1]]
    close([list(row) for row in got], wanted, "three of four groups")
    kinds = [[type(part) for part in row] for row in got]
    equal(kinds, [[float, float, int]] * 3, "plain numbers")
    chances, happened = torch.tensor([0.7, 0.8]), torch.tensor([0, 1])
    got = classify.reliability(chances, happened, bins=4)
    wanted = [[0.7, 0.0, 1], [0.8, 1.0, 1]]
    close([list(row) for row in got], wanted, "the two upper groups of four")
    got = classify.reliability(torch.tensor([1.0]), torch.tensor([1]), bins=1)
    close([list(row) for row in got], [[1.0, 1.0, 1]], "a single group")


def check_first_words() -> None:
    """As many whole words as fit, and the plot of the story as class."""
    long = classify.first_words(seed=7, count=6, letters=90)
    short = classify.first_words(seed=7, count=6, letters=40)
    equal(len(short), 6, "beginnings of six stories")
    for one, two in zip(short, long, strict=True):
        equal(one.label, two.label, "the class of one story")
        true(len(one.text) <= 40, "a beginning has 40 letters at most")
        true(two.text.startswith(one.text + " "), "it ends with a word")
        following = two.text[len(one.text) + 1 :].split(" ")[0]
        room = len(one.text) + 1 + len(following)
        true(room > 40, "one more word would not fit")
    best = classify.plot_chances(long[0].text)
    true(best[long[0].label] > 0, "the class is one that the text allows")


def check_people_are_split_in_thirds() -> None:
    """Three folds keep back everybody once; couples are in none."""
    single = [word for word in TOWN.words["people"] if word.count == 1]
    seen = []
    for fold in range(3):
        learned, kept = classify.split_people(fold)
        equal(len(learned) + len(kept), len(single), "people in both parts")
        true(all(person not in kept for person in learned), "parts are apart")
        seen += kept
    equal(len(seen), len(single), "people kept back in one of three folds")
    true(all(person in seen for person in single), "nobody is forgotten")
    for fold in (3, -1):
        raises(ValueError, partial(classify.split_people, fold), "a fold")


def check_batches_of_an_epoch() -> None:
    """Two batches of two from five texts, each with its own class."""
    batches = classify.labeled_batches(ROWS, LABELS, 2, seed=0)
    seen = []
    for _ in range(2):
        batch = next(batches)
        for ids, length, label in zip(*batch, strict=True):
            row = ids[: int(length)].tolist()
            equal(int(label), int(LABELS[ROWS.index(row)]), f"class of {row}")
            seen.append(row)
    equal(len({tuple(row) for row in seen}), 4, "texts of one epoch")
    for size in (0, 6):
        raises(
            ValueError,
            partial(next, classify.labeled_batches(ROWS, LABELS, size, 0)),
            f"batches of {size} from five texts",
        )
    model = mixer().train()
    classify.last_features(model, ROWS)
    true(model.training, "the model is in training mode again")


BUGS = {
    "the last column is picked": (
        "return x[rows, lengths.to(x.device) - 1]",
        "return x[rows, -1]",
    ),
    "the token behind the last is picked": (
        "return x[rows, lengths.to(x.device) - 1]",
        "return x[rows, lengths.to(x.device).clamp(max=x.shape[1] - 1)]",
    ),
    "the first token is picked": (
        "return x[rows, lengths.to(x.device) - 1]",
        "return x[rows, 0]",
    ),
    "the model is not copied": (
        "copy = deepcopy(model)",
        "copy = model",
    ),
    "nothing is frozen": (
        "model.requires_grad_(blocks == layers)",
        "model.requires_grad_(True)",
    ),
    "the first blocks learn": (
        "*model.blocks[layers - blocks :]",
        "*model.blocks[:blocks]",
    ),
    "whether, not how often": (
        "counts[row, columns[gram]] = times",
        "counts[row, columns[gram]] = 1",
    ),
    "columns for runs that stand twice in one text": (
        "texts = Counter(gram for row in rows for gram in grams(row, longest))",
        "texts = sum((grams(row, longest) for row in rows), Counter())",
    ),
    "no penalty": (
        "total = surprise + penalty * head.square().sum()",
        "total = surprise + 0 * head.square().sum()",
    ),
    "one step is thought to be enough": (
        "max_iter=500,",
        "max_iter=1,",
    ),
    "class weights are forgotten in the loss": (
        "return F.cross_entropy(model.head(features), batch.labels, weights)",
        "return F.cross_entropy(model.head(features), batch.labels)",
    ),
    "weights are the wrong way round": (
        "return len(labels) / (classes * counts)",
        "return classes * counts / len(labels)",
    ),
    "false claims take any trade": (
        "for other in pair:",
        "for other in (person, people[0]):",
    ),
    "all paths are equally likely": (
        "share = chances * (len(sums) - i) / sums[-1]",
        "share = chances / len(sums)",
    ),
    "plots are thought to be equally likely": (
        "prior = np.arange(k, 0, -1) / sum(range(k + 1))"
        "  # before it is chosen",
        "prior = np.ones(k) / k",
    ),
    "the table lies on its side": (
        "both = labels * classes + guesses",
        "both = guesses * classes + labels",
    ),
    "logits are multiplied by the temperature": (
        "return F.cross_entropy(scores / math.exp(log_t), labels).item()",
        "return F.cross_entropy(scores * math.exp(log_t), labels).item()",
    ),
    "misses and alarms are exchanged": (
        "(miss * missed + alarm * alarms).argmin()",
        "(alarm * missed + miss * alarms).argmin()",
    ),
    "surprise by token": (
        "return torch.stack([-logs.sum() for logs in found])",
        "return torch.stack([-logs.mean() for logs in found])",
    ),
    "groups have the sum of their chances": (
        "said = chances[here].mean().item()",
        "said = chances[here].sum().item()",
    ),
    "a beginning ends within a word": (
        'text = story.text[: letters + 1].rpartition(" ")[0]',
        "text = story.text[:letters]",
    ),
    "some people are in both parts": (
        "return [person for person in people if person not in kept], kept",
        "return people, kept",
    ),
    "classes stay while texts are shuffled": (
        "yield LabeledBatch(ids, lengths, labels[some])",
        "yield LabeledBatch(ids, lengths, labels[: len(some)])",
    ),
    "features leave the model in evaluation": (
        "    with torch.no_grad(), evaluating(model):",
        "    model.eval()\n    with torch.no_grad():",
    ),
}
