"""The gates of the book: ``python -m press.gates`` (or `make check`).

Each gate is a function that takes the repository and returns a list of
problems, each with its file and line. Pages are read by MyST's parser, code
by Python's. For each kind of problem a test plants one and sees it caught.
"""

from collections.abc import Callable

from press.gates import (
    chapters,
    claims,
    code,
    commands,
    equations,
    exercises,
    listings,
    margins,
    proofs,
    prose,
    references,
    safety,
    stored,
    terms,
    tools,
    trees,
    typed,
    workflows,
)
from press.gates.book import Book

GATES: dict[str, Callable[[Book], list[str]]] = {
    "mirror": trees.mirror,
    "contents": trees.contents,
    "directions": trees.directions,
    "chapters": chapters.chapters,
    "exercises": exercises.exercises,
    "listings": listings.listings,
    "colons": listings.colons,
    "shown": chapters.shown,
    "covered": chapters.covered,
    "figures": chapters.figures,
    "margins": margins.margins,
    "cells": code.cells,
    "typed": typed.typed,
    "commands": commands.commands,
    "workflows": workflows.workflows,
    "numbers": prose.numbers,
    "claims": claims.claims,
    "equations": equations.equations,
    "aloud": equations.aloud,
    "examples": claims.examples,
    "words": prose.words,
    "glyphs": prose.glyphs,
    "terms": terms.terms,
    "bibliography": references.bibliography,
    "addresses": references.addresses,
    "records": stored.sealed,
    "proofs": proofs.proofs,
    "unsafe": safety.unsafe,
    "pickled": safety.pickled,
    "silenced": safety.silenced,
    "secrets": safety.secrets,
    "ruff": tools.ruff,
    "mypy": tools.mypy,
    "codespell": tools.codespell,
}

__all__ = ["GATES", "Book"]
