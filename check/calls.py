"""Calls in the book's words reach code with other words, or with fewer.

A check builds `MultiHeadAttention(8, 4, kv_heads=2)`. A class of one's own
may call its arguments otherwise, have them in another order, or lack some of
them. So each call is read by the book's signature and made by the reader's:

- a value goes to the argument of the same name, or to the one that an
  adapter's `arguments` names;
- else to the argument at the same place, if the book knows none of its name;
- a switch that is not there is left out where it has the book's default. With
  another value the check is about something that the code does not offer,
  and `NotOffered` ends it.
"""

import functools
import inspect
from collections.abc import Callable
from inspect import Parameter, Signature
from types import FunctionType
from typing import Any

from check.expect import NotOffered

OPEN = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
PLACED = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
PLAIN = (bool, int, float, str, tuple, type(None))  # of which two are compared
Function = Callable[..., Any]
Names = dict[str, str]  # the book's → the reader's


def signature(function: Function, bound: bool = False) -> Signature:
    """A function's; of a method without `self`."""
    found = inspect.signature(function)
    parameters = list(found.parameters.values())
    return found.replace(parameters=parameters[1:] if bound else parameters)


def counterparts(book: Signature, own: Signature, named: Names) -> Names:
    """The reader's argument for each of the book's that has one.

    >>> book = signature(lambda channels, heads, kv_heads=0, bias=True: 0)
    >>> own = signature(lambda channels, n_head, bias=True: 0)
    >>> counterparts(book, own, {})
    {'channels': 'channels', 'bias': 'bias', 'heads': 'n_head'}
    """
    found = {n: m for n, m in named.items() if m in own.parameters}
    found = {n: m for n, m in found.items() if n in book.parameters}
    for name in book.parameters:
        if name in own.parameters and name not in found.values():
            found.setdefault(name, name)
    places = [p.name for p in own.parameters.values() if p.kind in PLACED]
    for name, at in zip(book.parameters, places):
        known = at in book.parameters or at in found.values()
        if not known and book.parameters[name].kind in PLACED:
            found.setdefault(name, at)
    return found


def same(value: object, default: object) -> bool:
    """Whether a switch has its default."""
    if value is default:
        return True
    return isinstance(value, PLAIN) and value == default


def reworded(
    own: Function, book: Function, named: Names, bound: bool = False
) -> Function | None:
    """The reader's function for calls in the book's words, None if it is one.

    Raises NotOffered when it is called with what it does not take.
    """
    theirs, ours = signature(book, bound), signature(own, bound)
    kinds = [p.kind for s in (theirs, ours) for p in s.parameters.values()]
    if set(kinds) & {*OPEN, Parameter.POSITIONAL_ONLY}:
        return None
    found = counterparts(theirs, ours, named)
    asked = [
        name
        for name, parameter in theirs.parameters.items()
        if parameter.default is parameter.empty and name not in found
    ]
    alike = list(ours.parameters)[: len(theirs.parameters)]
    if asked or alike == list(theirs.parameters):
        return None  # Python says what is wrong, if anything is

    @functools.wraps(own)
    def call(*args: Any, **more: Any) -> Any:
        first, args = (args[:1], args[1:]) if bound else ((), args)
        try:
            given = theirs.bind(*args, **more).arguments
        except TypeError:  # in the reader's own words
            return own(*first, *args, **more)
        for name, value in given.items():
            default = theirs.parameters[name].default
            if name not in found and not same(value, default):
                raise NotOffered(name)
        mine = {found[n]: v for n, v in given.items() if n in found}
        return own(*first, **mine)

    offered = [p for n, p in theirs.parameters.items() if n in found]
    call.__signature__ = Signature(offered)  # type: ignore[attr-defined]
    return call


def methods(theirs: type, book: type) -> dict[str, tuple[Function, Function]]:
    """The methods that both classes write: the reader's and the book's."""
    found: dict[str, tuple[Function, Function]] = {}
    for name, method in vars(book).items():
        own = getattr(theirs, name, None)
        if isinstance(method, FunctionType) and isinstance(own, FunctionType):
            found[name] = own, method
    return found


def in_words(thing: Any, book: Any, named: Names) -> Any:
    """The reader's class or function, for calls in the book's words."""
    if isinstance(thing, FunctionType) and isinstance(book, FunctionType):
        return reworded(thing, book, named) or thing
    if not (isinstance(thing, type) and isinstance(book, type)):
        return thing
    parts: dict[str, Any] = {
        name: made
        for name, (own, method) in methods(thing, book).items()
        if (made := reworded(own, method, named, bound=True))
    }
    if not parts:
        return thing
    if "__init__" in parts:
        parts["__signature__"] = inspect.signature(parts["__init__"])
    try:
        made = type(thing)(thing.__name__, (thing,), dict(parts))
    except TypeError:  # a class that has no heirs
        return thing
    made.__qualname__, made.__doc__ = thing.__qualname__, thing.__doc__
    return made


def arguments(thing: Any) -> set[str]:
    """The names of all that a function, or a class's methods, can be given."""
    inside = isinstance(thing, type)
    parts = [getattr(thing, n) for n in dir(thing)] if inside else [thing]
    return {
        name
        for part in parts
        if isinstance(part, FunctionType)
        for name in inspect.signature(part).parameters
    }
