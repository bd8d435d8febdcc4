"""Rules on text: where it is from, what it may be used for, who is in it."""

from datetime import date
from functools import lru_cache
from pathlib import Path

import yaml

from compliance.rules import (
    Finding,
    Findings,
    Site,
    described,
    rule,
    source_text,
    texts_in,
)
from scratchlm.text.corpus import (
    MANIFEST,
    PII,
    TEXTS,
    Manifest,
    Source,
    has_json_lines,
    is_address,
    parse_document,
    read_lines,
    source_of,
)
from scratchlm.text.files import file_sha256

LICENSES = Path(__file__).with_name("licenses.yml")
PREPARE = "python -m scratchlm corpus prepare"
FINDER = ".DS_Store:"  # what a Mac leaves in a folder that was opened
MADE = "toytown"  # written by the library itself, from a seed


@lru_cache
def licenses() -> dict[str, str]:
    """The licenses under which text may be learned from → what they ask."""
    return dict(yaml.safe_load(LICENSES.read_text(encoding="utf-8")))


def sources(corpus: Path) -> tuple[Source, ...]:
    """What is on file about a corpus; ValueError if that is damaged."""
    if corpus.is_dir():
        return Manifest.load(corpus / MANIFEST).sources
    found = source_of(corpus)
    return (found,) if found else ()


@rule("runs", "AI Act, Article 53(1)(d)", "2025-08-02")
def origin(run: Path, site: Site) -> Findings:
    """The text that a run has learned from is known, and on file."""
    name = source_text(run)
    path = Path(name)
    known = name == MADE or name in TEXTS
    if not name:
        yield Finding(
            f"{run / 'config.json'}",
            "it does not say which text was read",
            "train again with a text whose origin is on file",
        )
    elif not known and (is_address(name) or not described(path)):
        yield Finding(
            f"{run / 'config.json'}",
            f"it has learned from {name}, and nothing says where that is from",
            f"{PREPARE} FILE --out data/NAME --license LICENSE, then train "
            "with --corpus data/NAME",
        )


@rule("corpora", "AI Act, Article 53(1)(d)", "2025-08-02")
def manifest(corpus: Path, site: Site) -> Findings:
    """Each file of a corpus has origin, date and SHA-256 on file."""
    wrong: list[str] = []
    try:
        found = sources(corpus)
        if corpus.is_dir():
            own = {source.license for source in found}
            known = Manifest(found).problems(corpus, own)
            wrong += [what for what in known if not what.startswith(FINDER)]
        elif not found:
            wrong.append(f"{corpus.name}: nobody knows where it is from")
        elif file_sha256(corpus) != found[0].sha256:
            wrong.append(f"{corpus.name}: was changed after it came")
        for source in found:
            date.fromisoformat(source.retrieved)
            if not source.origin.strip():
                wrong.append(f"{source.file}: its origin is empty")
    except (ValueError, TypeError, AttributeError) as error:
        wrong.append(str(error))
    for what in wrong:
        yield Finding(
            str(corpus),
            what,
            f"{PREPARE} FILE --out NEW --license LICENSE writes the manifest",
        )


@rule("corpora", "Directive (EU) 2019/790, Articles 3 and 4", "2021-06-07")
def license(corpus: Path, site: Site) -> Findings:
    """A text is under a license that allows learning from it."""
    try:
        found = sources(corpus)
    except ValueError:
        return  # which the rule `manifest` reports
    for source in found:
        known = isinstance(source.license, str)
        if not known or source.license not in licenses():
            yield Finding(
                f"{corpus}: {source.file}",
                f"license {source.license!r} is not in the list",
                "read it; if it allows this, add it to "
                f"compliance/{LICENSES.name}, or leave the text out",
            )


@rule("corpora", "GDPR, Article 5(1)(c)", "2018-05-25")
def personal_data(corpus: Path, site: Site) -> Findings:
    """No address, number or account of a person is left in a text."""
    for path in texts_in(corpus):
        first: dict[str, int] = {}
        counts = dict.fromkeys(PII, 0)
        try:
            for number, line in enumerate(read_lines(path), 1):
                if has_json_lines(path) and line.strip():
                    line = parse_document(line)
                for kind, find in PII.items():
                    if many := sum(1 for _ in find(line)):
                        first.setdefault(kind, number)
                        counts[kind] += many
        except ValueError as error:
            yield Finding(str(path), str(error), "mend the file, or remove it")
        for kind, number in first.items():
            more = counts[kind] - 1
            yield Finding(
                f"{path}:{number}",
                f"personal data: {kind}" + (f", and {more} more" * (more > 0)),
                f"{PREPARE} replaces what it finds; see that you may keep it "
                "otherwise",
            )
