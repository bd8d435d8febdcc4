"""What Toytown could say: for examples that the book's model should know."""

from scratchlm.text.toytown import START, advance, parse


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
