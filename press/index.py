"""The two indexes of the printed book: subjects, and names in the code.

    python -m press.index book.idx book.ind     (latexmk calls this)

makeindex sorts one index; Sphinx writes one file of entries for both kinds.
Entries that differ in how a hyphen was written are the same entry. makeindex
knows no letters but those of ASCII: others are sorted by their names, so that
μP stands between *mu* and *multiplication*.
"""

import re
import subprocess
import sys
import unicodedata
from pathlib import Path

HYPHEN = re.compile(r"\\sphinxhyphen\s*\{\s*\}")
KEY = re.compile(r"(?<=[{!])[^{}!@|]*(?=@)")  # by which an entry is sorted
STYLE = "python.ist"  # Sphinx writes it beside the chapters
NAME = re.compile(r"\(\)|\\_|\(class\)|\w\.\w")
TITLES = {"subjects": "Index", "names": "Names in the code"}


def is_name(entry: str) -> bool:
    r"""Whether an entry is that of a definition, not of a subject.

    >>> is_name(r"\indexentry{join()@\spxentry{join()}|hyperpage}{12}")
    True
    >>> is_name(r"\indexentry{KV cache@\spxentry{KV cache}|hyperpage}{3}")
    False
    """
    words = entry.removeprefix(r"\indexentry{").rpartition("|")[0]
    return bool(NAME.search(words))


def spelled(word: str) -> str:
    """The word in ASCII: letters of other scripts by name, no accents.

    >>> spelled("μP"), spelled("Rényi"), spelled("Bradley–Terry")
    ('muP', 'Renyi', 'BradleyTerry')
    """
    out = ""
    for c in unicodedata.normalize("NFKD", word):
        _, letter, name = unicodedata.name(c, "").partition(" LETTER ")
        out += c if c.isascii() else name.lower() if letter else ""
    return out


def parted(entries: str) -> dict[str, list[str]]:
    """The entries of each index, hyphens written in one way."""
    found: dict[str, list[str]] = {"subjects": [], "names": []}
    for line in entries.splitlines():
        line = HYPHEN.sub(r"\\sphinxhyphen{}", line)
        line = KEY.sub(lambda match: spelled(match[0]), line)
        found["names" if is_name(line) else "subjects"].append(line)
    return found


def main(arguments: list[str] | None = None) -> int:
    """Sort both indexes into one file; makeindex's exit code."""
    source, target = map(Path, arguments or sys.argv[1:3])
    both = ""
    for kind, lines in parted(source.read_text(encoding="utf-8")).items():
        if not lines:
            continue
        entries = source.with_suffix(f".{kind}.idx")
        entries.write_text("\n".join(lines) + "\n", encoding="utf-8")
        sorted_ = entries.with_suffix(".ind")
        command = ["makeindex", "-q", "-s", STYLE, "-t"]
        command += [f"{entries.stem}.ilg", "-o", sorted_.name, entries.name]
        done = subprocess.run(command, cwd=source.parent.resolve())
        if done.returncode:
            return done.returncode
        both += f"\\renewcommand{{\\indexname}}{{{TITLES[kind]}}}\n"
        both += sorted_.read_text(encoding="utf-8")
    target.write_text(both, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
