"""Stories of a town, written by a grammar whose every choice is weighted.

The town gives us text of any size, the same bytes on every machine, and with
each story the exact logarithm of its probability. So the entropy of the text
is known, and with it the lowest loss that any model of it can reach.

The grammar is data: `toytown.yaml`, beside this file. A template is a line of
text with slots. `<weather>` is a rule: one of its templates takes its place.
`{who}` is a role: it is filled from a table when a story first names it, and
remembered. `{who.her}` is a form of what fills the role, `{who sell}` a verb
that agrees with it, `{n item}` a number of things, `{n-m}` a sum; a capital
letter makes a capital letter. In a rule that is called as `<tag who>`, the x
stands for who.

Of several alternatives the first is the likeliest: of k, number i (from 0)
has probability (k - i) / (1 + 2 + ... + k).

Left out: stories in which more than one thing happens. The idea of a small
world of text for small models follows TinyStories (Eldan and Li, 2023),
whose stories were written by a large model, with unknown probability.
"""

import math
import random
import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import yaml

SEPARATOR = "\n\n"  # never inside a story

UNITS = (
    "no", "one", "two", "three", "four", "five", "six", "seven", "eight",
    "nine", "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen",
    "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
TENS = ("", "", "twenty", "thirty")

# --- Words and their forms ---------------------------------------------------


@dataclass(frozen=True)
class Word:
    """What can fill a role: its forms ("" is the plain one), its number.

    `count` decides the verb's form: 1 is singular. For a number word it is
    the number. `goods` are what a person makes or sells.
    """

    forms: Mapping[str, str]
    count: int = 1
    goods: tuple["Word", ...] = ()


Facts = Mapping[str, Word]


def number_word(n: int) -> str:
    """A number from 0 to 39 in words; none is "no", as in "no loaves".

    >>> number_word(7), number_word(24), number_word(30)
    ('seven', 'twenty-four', 'thirty')
    """
    if n < len(UNITS):
        return UNITS[n]
    tens, ones = divmod(n, 10)
    return TENS[tens] + (f"-{UNITS[ones]}" if ones else "")


def make_thing(line: str) -> Word:
    """A thing from "loaf/loaves" or "bun"; a number from "seven".

    What is the same in both forms, like spectacles, takes a plural verb.
    """
    if line in UNITS:
        return Word({"": line}, UNITS.index(line))
    one, _, many = line.partition("/")
    if not one:
        raise ValueError(f"{line!r} is no thing")
    pair = one == many
    forms = {"": one, "many": many or one + "s"}
    forms["a"] = ("an " if one[0] in "aeiou" else "a ") + one
    forms |= {"them": "them" if pair else "it"}
    return Word(forms, 2 if pair else 1)


def make_person(entry: Mapping[str, Any], forms: Mapping[str, str]) -> Word:
    """A person from an entry of the grammar; `forms` are the pronouns."""
    name = entry["name"]
    own = {"trade": entry["trade"], "place": entry["place"]}
    goods = tuple(make_thing(line) for line in entry["goods"])
    count = 2 if entry["pronoun"] == "they" else 1
    return Word({"": name, "s": name + "'s", **own, **forms}, count, goods)


START: Facts = {"it": Word({}, 1), "they": Word({}, 2)}


# --- Templates ---------------------------------------------------------------


class Rule(NamedTuple):
    """A place where one of a rule's templates goes: `<weather>`."""

    name: str


class Slot(NamedTuple):
    """A place for a word: `{Who.she}`, `{who sell}`, `{n-m item}`.

    `subject` is a role, or a sum of two with `sign` and `second`. After a
    dot comes a `form`; after a space a role, to be counted, or a `verb`.
    """

    subject: str
    sign: str
    second: str
    form: str
    verb: str
    capital: bool


Part = str | Rule | Slot
SLOT = re.compile(r"(\w+)(?:([-+*])(\w+))?(?:\.(\w+)|[ ](\w+))?")


def parse_slot(text: str) -> Slot:
    """The slot that stands between braces."""
    found = SLOT.fullmatch(text)
    if found is None:
        raise ValueError(f"{{{text}}} is no slot of the town's grammar")
    subject, sign, second, form, verb = (part or "" for part in found.groups())
    capital = subject[0].isupper()
    return Slot(subject.lower(), sign, second, form, verb, capital)


def parse(template: str) -> tuple[Part, ...]:
    """A template's parts in order: text, slots and rules."""
    parts: list[Part] = []
    for piece in re.split(r"(\{[^}]*\}|<[^>]*>)", template):
        if piece.startswith("{"):
            parts.append(parse_slot(piece[1:-1]))
        elif piece.startswith("<"):
            parts.append(Rule(piece[1:-1]))
        elif piece:
            parts.append(piece)
    return tuple(parts)


def find_rule(rules: Mapping[str, Sequence[str]], name: str) -> list[str]:
    """The rule that `<name>` calls, and the role that it gets, or "".

    >>> find_rule({"end": ["."], "tag": [" "]}, "tag who")
    ['tag', 'who']
    """
    rule, _, role = (name, "", "") if name in rules else name.rpartition(" ")
    if rule not in rules:
        raise ValueError(f"<{name}> is no rule")
    return [rule, role]


def expand(
    rules: Mapping[str, Sequence[str]], name: str
) -> tuple[tuple[Part, ...], ...]:
    """A rule's templates; "tag who" is the rule "tag" with who for x."""
    rule, role = find_rule(rules, name)
    lines = rules[rule]
    if role:
        lines = [re.sub(r"(?<=[{ ])x(?=[ .>}])", role, line) for line in lines]
        lines = [
            re.sub(r"(?<=\{)X(?=[ .}])", role.capitalize(), line)
            for line in lines
        ]
    return tuple(parse(line) for line in lines)


# --- The grammar, read and checked -------------------------------------------


@dataclass(frozen=True)
class Grammar:
    """The words and rules of a town.

    `words` are the tables, "people" among them; `roles` tell for each role
    its table, or the role of the person from whose goods it is filled;
    `past` holds irregular verbs, `rules` the templates of each rule.
    """

    words: Mapping[str, tuple[Word, ...]]
    roles: Mapping[str, str]
    past: Mapping[str, str]
    rules: Mapping[str, Sequence[str]]

    def fillings(self, role: str) -> list[Word]:
        """All the words that can ever fill a role."""
        table = self.roles[role]
        if table in self.words:
            return list(self.words[table])
        return [w for person in self.words["people"] for w in person.goods]


def to_plain(node: yaml.Node | None) -> Any:
    """YAML as dictionaries, lists and strings; "no" stays a word."""
    if isinstance(node, yaml.MappingNode):
        data: dict[str, Any] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise ValueError(f"line {line}: a name is to be a word")
            if key.value in data:
                raise ValueError(f"line {line}: {key.value} is there twice")
            data[key.value] = to_plain(value)
        return data
    if isinstance(node, yaml.SequenceNode):
        return [to_plain(value) for value in node.value]
    return node.value if node else None


def read_words(section: Any, place: str) -> list[str]:
    """A list of different words or templates, or ValueError."""
    words = section if isinstance(section, list) else []
    if not words or not all(isinstance(word, str) for word in words):
        raise ValueError(f"{place} is to be a list of words or templates")
    for word in words:
        if words.count(word) > 1:
            raise ValueError(f"{place}: {word!r} is there twice")
    return words


def check_names(section: Any, place: str) -> None:
    """ValueError for what is no table of names, each with a text."""
    values = section.values() if isinstance(section, dict) else [None]
    if not all(isinstance(value, str) for value in values):
        raise ValueError(f"{place} is to have names and values")


SECTIONS = ["people", "tables", "roles", "pronouns", "past", "rules"]
PERSON = ["name", "pronoun", "trade", "place", "goods"]


def read_people(data: Mapping[str, Any]) -> tuple[Word, ...]:
    """The people of a town, each with goods, pronouns and a place."""
    people = []
    for name, forms in data["pronouns"].items():
        check_names(forms, f"pronouns, {name}")
    for number, entry in enumerate(data["people"], 1):
        place = f"people, number {number}"
        if not isinstance(entry, dict) or sorted(entry) != sorted(PERSON):
            raise ValueError(f"{place}, is to have {', '.join(PERSON)}")
        check_names({name: entry[name] for name in PERSON[:4]}, place)
        if entry["pronoun"] not in data["pronouns"]:
            raise ValueError(f"{place}: no pronoun {entry['pronoun']!r}")
        read_words(entry["goods"], f"{place}, goods")
        people.append(make_person(entry, data["pronouns"][entry["pronoun"]]))
    return tuple(people)


def read_grammar(path: Path) -> Grammar:
    """A grammar from YAML, checked; ValueError with file and place."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        text = path.read_text(encoding="utf-8")
        data = to_plain(yaml.compose(text, loader))
        if not isinstance(data, dict) or list(data) != SECTIONS:
            raise ValueError(f"its sections are to be {', '.join(SECTIONS)}")
        if not data["people"]:
            raise ValueError("people is to be a list")
        for section in SECTIONS[1:]:
            if not isinstance(data[section], dict):
                raise ValueError(f"{section} is to have names and values")
        check_names(data["roles"], "roles")
        check_names(data["past"], "past")
        words = {"people": read_people(data)}
        for name, lines in data["tables"].items():
            lines = read_words(lines, f"tables, {name}")
            words[name] = tuple(make_thing(line) for line in lines)
        rules = {
            name: read_words(lines, f"rules, {name}")
            for name, lines in data["rules"].items()
        }
        town = Grammar(words, data["roles"], data["past"], rules)
        check_grammar(town)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        message = " ".join(str(error).split())
        raise ValueError(f"{path}: {message}") from error
    return town


def check_grammar(town: Grammar) -> None:
    """ValueError, with the place, for a part that is wrong or never used."""
    makers = [role for role, table in town.roles.items() if table == "people"]
    for role, table in town.roles.items():
        if table not in town.words and table not in makers:
            raise ValueError(f"roles, {role}: {table} is no table, no person")
    reached: set[str] = set()
    check_rule(town, "story", [], reached)
    called = {find_rule(town.rules, name)[0] for name in reached}
    for rule in town.rules:
        if rule not in called:
            raise ValueError(f"rules, {rule}: no story ever comes here")


def check_rule(
    town: Grammar, name: str, callers: list[str], reached: set[str]
) -> None:
    """Check a rule and, each once, all rules that it calls."""
    if name in callers:
        raise ValueError(f"rules, {name}: it calls itself and may never end")
    if name in reached:
        return
    reached.add(name)
    try:
        parts = [part for line in expand(town.rules, name) for part in line]
        for part in parts:
            if isinstance(part, Slot):
                check_slot(town, part)
            elif isinstance(part, Rule):
                find_rule(town.rules, part.name)
    except ValueError as error:
        raise ValueError(f"rules, {name}: {error}") from error
    for part in parts:
        if isinstance(part, Rule):
            check_rule(town, part.name, [*callers, name], reached)


def check_slot(town: Grammar, slot: Slot) -> None:
    """ValueError for an unknown role, or for a form that a word lacks."""
    for role in (slot.subject, slot.second):
        if role and role not in town.roles and role not in START:
            raise ValueError(f"{role} is no role")
    if slot.sign and slot.form:
        raise ValueError(f"a sum has no form {slot.form!r}")
    if slot.verb or slot.sign:
        return
    words = [START[slot.subject]] if slot.subject in START else []
    for word in words or town.fillings(slot.subject):
        if slot.form not in word.forms:
            raise ValueError(f"{slot.subject} has no form {slot.form!r}")


TOWN = read_grammar(Path(__file__).with_name("toytown.yaml"))


@cache
def templates(name: str) -> tuple[tuple[Part, ...], ...]:
    """A rule's templates in this town."""
    return expand(TOWN.rules, name)


def conjugate(verb: str, count: int, tense: str) -> str:
    """The verb's form for a subject of this number, "past" or "present".

    >>> conjugate("carry", 1, "present"), conjugate("carry", 2, "past")
    ('carries', 'carried')
    >>> conjugate("be", 1, "past"), conjugate("be", 2, "past")
    ('was', 'were')
    """
    if verb == "be":
        singular, plural = ("was", "were") if tense == "past" else ("is", "are")
        return singular if count == 1 else plural
    vowel = verb[-2] in "aeiou"
    stem = verb[:-1] + "i" if verb[-1] == "y" and not vowel else verb
    if tense == "past":
        regular = verb + "d" if verb[-1] == "e" else stem + "ed"
        return TOWN.past.get(verb, regular)
    if count != 1:
        return verb
    if verb == "have":
        return "has"
    hissing = verb.endswith(("s", "sh", "ch", "x", "o"))
    return stem + ("es" if hissing or stem != verb else "s")


# --- Writing -----------------------------------------------------------------


Option = Word | tuple[Part, ...]


class Choice(NamedTuple):
    """A point where the story may go on in several ways.

    `options` are what to take: templates of a rule, or words for a role.
    `todo` is what is still to be written, `facts` what has been said.
    """

    name: str
    options: Sequence[Option]
    todo: tuple[Part, ...]
    facts: Facts

    def take(self, option: int) -> tuple[tuple[Part, ...], Facts]:
        """What is to be written, and the facts, after taking an option."""
        taken = self.options[option]
        if isinstance(taken, Word):
            return self.todo, {**self.facts, self.name: taken}
        return taken + self.todo, self.facts


def candidates(role: str, facts: Facts) -> list[Word]:
    """The words that can fill a role: no word plays two in one story."""
    table = TOWN.roles[role]
    words = TOWN.words.get(table) or facts[table].goods
    taken = {id(word) for word in facts.values()}
    return [word for word in words if id(word) not in taken]


def first_empty(slot: Slot, facts: Facts) -> str:
    """The first role that has to be filled before the slot is, or ""."""
    counted = slot.verb if slot.verb in TOWN.roles else ""
    tense = "tense" if slot.verb and not counted else ""
    for role in (slot.subject, slot.second, counted, tense):
        if role and role not in facts:
            owner = TOWN.roles[role]  # or a table, which nobody owns
            first = owner not in TOWN.words and owner not in facts
            return owner if first else role
    return ""


def calculate(slot: Slot, facts: Facts) -> Word:
    """The slot's subject: a word of the facts, or a sum of two."""
    if not slot.sign:
        return facts[slot.subject]
    a, b = facts[slot.subject].count, facts[slot.second].count
    n = {"+": a + b, "-": a - b, "*": a * b}[slot.sign]
    return Word({"": number_word(n)}, n)


def inflect(slot: Slot, facts: Facts) -> str:
    """The text of a slot whose roles are filled."""
    subject = calculate(slot, facts)
    if slot.verb in TOWN.roles:
        thing = facts[slot.verb].forms["" if subject.count == 1 else "many"]
        text = f"{subject.forms['']} {thing}"
    elif slot.verb:
        tense = facts["tense"].forms[""]
        text = conjugate(slot.verb, subject.count, tense)
    else:
        text = subject.forms[slot.form]
    return text[0].upper() + text[1:] if slot.capital else text


def advance(todo: tuple[Part, ...], facts: Facts) -> tuple[str, Choice | None]:
    """Write what is certain, up to the next choice or to the end (None)."""
    written = ""
    for place, part in enumerate(todo):
        if isinstance(part, str):
            written += part
        elif isinstance(part, Rule):
            rest = todo[place + 1 :]
            return written, Choice(part.name, templates(part.name), rest, facts)
        elif role := first_empty(part, facts):
            words = candidates(role, facts)
            return written, Choice(role, words, todo[place:], facts)
        else:
            written += inflect(part, facts)
    return written, None


@dataclass(frozen=True)
class Story:
    """A story and the logarithm of its probability, in nats."""

    text: str
    log_prob: float


def weight_sums(k: int) -> list[int]:
    """Running sums of the weights k, k - 1, ..., 1 of k alternatives.

    >>> weight_sums(3)
    [3, 5, 6]
    """
    return list(accumulate(range(k, 0, -1)))


def tell(generator: random.Random) -> Story:
    """Tell one story, with one random number for each choice.

    The lowest numbers take the first option.
    """
    text, log_prob = "", 0.0
    todo, facts = parse("<story>"), START
    while True:
        written, choice = advance(todo, facts)
        text += written
        if choice is None:
            return Story(text, log_prob)
        k = len(choice.options)
        sums = weight_sums(k)
        option = bisect_right(sums, generator.random() * sums[-1])
        log_prob += math.log((k - option) / sums[-1])
        todo, facts = choice.take(option)


def write_stories(seed: int) -> Iterator[Story]:
    """Stories without end; the same seed tells the same ones everywhere.

    Only `random.Random.random` is used, which Python promises to keep.
    """
    if seed < 0:
        raise ValueError(f"seed {seed} is negative; take one from 0 on")
    generator = random.Random(seed)
    while True:
        yield tell(generator)


def write_corpus(characters: int = 1_000_000, seed: int = 2026) -> list[Story]:
    """The first stories that together have at least this many characters.

    The blank line after each, which `join` adds, is counted.
    """
    stories: list[Story] = []
    source, total = write_stories(seed), 0
    while total < characters:
        stories.append(next(source))
        total += len(stories[-1].text) + len(SEPARATOR)
    return stories


# --- Reading -----------------------------------------------------------------


class Step(NamedTuple):
    """A choice as it was made: for what, which, where, and its surprise."""

    name: str
    option: int
    start: int
    nats: float


def derivations(text: str) -> list[list[Step]]:
    """All the ways in which the grammar can tell this very text.

    There is never more than one: of two alternatives neither ever begins with
    the other, so the text gives every choice away. Empty if the town does
    not tell such stories. The search is over prefixes of the text, and the
    end of the text has to be the end of the story.
    """
    found = []
    open_paths: list[tuple[int, tuple[Part, ...], Facts, list[Step]]] = [
        (0, parse("<story>"), START, [])
    ]
    while open_paths:
        start, todo, facts, steps = open_paths.pop()
        written, choice = advance(todo, facts)
        if not text.startswith(written, start):
            continue
        start += len(written)
        if choice is None:
            if start == len(text):
                found.append(steps)
            continue
        sums = weight_sums(len(choice.options))
        for option in range(len(sums)):
            nats = math.log(sums[-1] / (len(sums) - option))
            step = Step(choice.name, option, start, nats)
            open_paths.append((start, *choice.take(option), [*steps, step]))
    return found


def log_probability(text: str) -> float:
    """The logarithm of the probability that the town tells this text.

    In nats; minus infinity for a text that it never tells.
    """
    total = sum(
        math.exp(-sum(step.nats for step in steps))
        for steps in derivations(text)
    )
    return math.log(total) if total else -math.inf


# --- A corpus ----------------------------------------------------------------


@dataclass(frozen=True)
class Splits:
    """Stories to learn from, to choose by, and to be judged by once."""

    train: list[Story]
    validation: list[Story]
    test: list[Story]


def split_stories(stories: Sequence[Story]) -> Splits:
    """18 stories of every 20 to train, one to validate and one to test.

    By place, not by lot: a story stays on its side when the corpus grows.
    """
    if len(stories) < 20:
        raise ValueError(
            f"{len(stories)} stories are too few to split; take 20 or more, "
            "that is about 10,000 characters"
        )
    places = range(len(stories))
    return Splits(
        [stories[i] for i in places if i % 20 < 18],
        [stories[i] for i in places if i % 20 == 18],
        [stories[i] for i in places if i % 20 == 19],
    )


def join(stories: Sequence[Story]) -> str:
    """The texts one after another, a blank line after each."""
    return "".join(story.text + SEPARATOR for story in stories)


def begins_story(text: str) -> bool:
    """Whether the town tells a story that begins with this text.

    >>> begins_story("It is Monday, and rain falls on the river. Mrs Pell")
    True
    >>> begins_story("Mrs Pell")  # no story begins without its scene
    False
    """
    open_paths = [(0, parse("<story>"), START)]
    while open_paths:
        start, todo, facts = open_paths.pop()
        written, choice = advance(todo, facts)
        rest = text[start:]
        if written.startswith(rest):
            return True
        if choice is None or not rest.startswith(written):
            continue
        start += len(written)
        for option in range(len(choice.options)):
            open_paths.append((start, *choice.take(option)))
    return False


def entropy_per_character(stories: Sequence[Story]) -> float:
    """Nats for each character of `join(stories)`, blank lines counted.

    The mean surprise of these very stories. Over many stories it approaches
    the entropy of the grammar; over these it is what no model can beat except
    by luck.
    """
    return entropy_per_token(stories, len(join(stories)))


def entropy_per_token(stories: Sequence[Story], tokens: int) -> float:
    """Nats per token, where `tokens` counts one end token for each story.

    A story is never the beginning of another, so after its last character
    the end is certain: an end token is counted and costs nothing.
    """
    if tokens < 1:
        raise ValueError(f"{tokens} tokens are none to take a mean over")
    return -sum(story.log_prob for story in stories) / tokens
