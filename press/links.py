"""Ask every address outside that the book names: ``python -m press.links``.

The gate `addresses` says whether an address is well formed; whether something
is there can only be asked over the network, so no build depends on it. An
address is lost where its host answers 404 or 410, or where nobody answers
twice. A host that refuses to talk to a program (403, 429 and the like) has not
said that the page is gone: such addresses are named, and nothing more.
Ends with 1 where an address is lost.
"""

import argparse
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import requests

from press.gates.book import Book
from press.gates.references import all_addresses

GONE = (404, 410)
TRIES = 2
AGENT = "Mozilla/5.0 (compatible; the link check of a book)"


def ask(address: str, seconds: float = 20.0) -> tuple[str, bool]:
    """What the host of an address says, "" for all is well; is it lost?"""
    said = ""
    for _ in range(TRIES):
        try:
            with requests.get(
                address,
                timeout=seconds,
                headers={"User-Agent": AGENT},
                stream=True,  # the head of the answer is enough
            ) as answer:
                code = answer.status_code
                return ("" if answer.ok else f"answers {code}"), code in GONE
        except requests.RequestException as error:
            said = f"does not answer ({type(error).__name__})"
    return said, True


def gather(found: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Each address once → the places that name it."""
    places: dict[str, list[str]] = {}
    for place, address in found:
        places.setdefault(address.partition("#")[0], []).append(place)
    return places


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m press.links",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--seconds", type=float, default=20.0, help="to wait for an answer"
    )
    options = parser.parse_args(arguments)
    places = gather(all_addresses(Book()))
    lost = 0
    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(partial(ask, seconds=options.seconds), places)
        for (address, named), (said, gone) in zip(places.items(), answers):
            if said:
                word = "LOST" if gone else "note"
                print(f"{word} {address} {said}: {', '.join(named)}")
            lost += gone
    print(f"{len(places)} addresses, {lost} of them lost")
    return int(lost > 0)


if __name__ == "__main__":
    sys.exit(main())
