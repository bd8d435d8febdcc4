"""Other forms of `toytown` that are right."""

FORMS = {
    "verbs and slots by cases": """
def conjugate(verb, count, tense):
    past, one = tense == "past", count == 1
    soft = re.sub(r"(?<![aeiou])y$", "i", verb)
    match verb:
        case "be":
            return ("were" if past else "are", "was" if past else "is")[one]
        case _ if past:
            regular = verb + "d" if verb.endswith("e") else soft + "ed"
            return TOWN.past[verb] if verb in TOWN.past else regular
        case "have" if one:
            return "has"
        case _ if one:
            long = soft != verb or re.search("(s|x|o|sh|ch)$", verb)
            return soft + "es" if long else verb + "s"
    return verb


def inflect(slot, facts):
    word, text = calculate(slot, facts), ""
    if slot.verb in TOWN.roles:
        things = facts[slot.verb].forms
        text = f"{word.forms['']} {things['many' if word.count != 1 else '']}"
    elif slot.verb:
        text = conjugate(slot.verb, word.count, facts["tense"].forms[""])
    text = text or word.forms[slot.form]
    return text.replace(text[0], text[0].upper(), 1) if slot.capital else text
""",
    "telling by recursion": """
def tell(generator):
    def go_on(text, log_prob, todo, facts):
        more, choice = advance(todo, facts)
        if choice is None:
            return Story(text + more, log_prob)
        weights = range(len(choice.options), 0, -1)
        left = generator.random() * sum(weights)
        for option, weight in enumerate(weights):
            if left < weight:
                break
            left -= weight
        log_prob += math.log(weight) - math.log(sum(weights))
        return go_on(text + more, log_prob, *choice.take(option))

    return go_on("", 0.0, parse("<story>"), START)
""",
    "reading by a generator": """
def weight_sums(k):
    return [i * (2 * k + 1 - i) // 2 for i in range(1, k + 1)]


def derivations(text):
    def read(start, todo, facts):
        more, choice = advance(todo, facts)
        end = start + len(more)
        if text[start:end] != more:
            return
        if choice is None:
            yield from [[]] if end == len(text) else []
            return
        k = len(choice.options)
        for i in range(k):
            nats = math.log(k * (k + 1) / 2) - math.log(k - i)
            for rest in read(end, *choice.take(i)):
                yield [Step(choice.name, i, end, nats), *rest]

    return list(read(0, parse("<story>"), START))
""",
    "parts by matching": """
def candidates(role, facts):
    table, free = TOWN.roles[role], []
    words = TOWN.words[table] if table in TOWN.words else facts[table].goods
    for word in words:
        if not any(word is other for other in facts.values()):
            free.append(word)
    return free


def advance(todo, facts):
    match todo:
        case ():
            return "", None
        case (Rule(name), *rest):
            return "", Choice(name, templates(name), tuple(rest), facts)
        case (Slot() as slot, *rest):
            if role := first_empty(slot, facts):
                return "", Choice(role, candidates(role, facts), todo, facts)
            text = inflect(slot, facts)
        case (text, *rest):
            pass
    more, choice = advance(tuple(rest), facts)
    return text + more, choice
""",
    "splits by steps and an exact sum": """
def split_stories(stories):
    from itertools import islice

    if len(stories) < 20:
        raise ValueError("take 20 stories or more")
    return Splits(
        train=[s for i, s in enumerate(stories) if (i + 2) % 20 > 1],
        validation=list(islice(stories, 18, None, 20)),
        test=list(islice(stories, 19, None, 20)),
    )


def entropy_per_token(stories, tokens):
    if not tokens >= 1:
        raise ValueError("no tokens, no mean")
    return math.fsum(-story.log_prob for story in stories) / tokens


def entropy_per_character(stories):
    lengths = [len(story.text) + len(SEPARATOR) for story in stories]
    return entropy_per_token(stories, sum(lengths))
""",
}
