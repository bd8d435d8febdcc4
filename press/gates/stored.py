"""The gate on records: each is sealed, made by a script, and of all topics."""

from collections.abc import Iterator

from press import records
from press.gates.book import Book


def sealed(book: Book) -> list[str]:
    """Each record is as it was recorded, to its last value."""
    problems = []
    makers = {
        name.removeprefix("records/make_").removesuffix(".py").replace("_", "-")
        for name in book.files("records")
        if name.startswith("records/make_")
    }
    found = {
        name.removeprefix("records/").removesuffix(".json"): name
        for name in book.files("records", suffix=".json")
    }
    for name, path in found.items():
        try:
            record = records.parse(book.read(path), path)
        except records.RecordError as error:
            problems.append(str(error))
            continue
        except UnicodeDecodeError:
            problems.append(f"{path} is no UTF-8")
            continue
        if name not in {*makers, "judge"}:  # which `make judge` makes
            problems.append(f"{path}: there is no script that makes it")
        if record.get("name") != name:
            problems.append(f"{path}: it is the record of {record.get('name')}")
    for name in sorted(makers - set(found)):
        problems.append(f"records/{name}.json is missing")
    return [*problems, *unknown(book)]


def unknown(book: Book) -> Iterator[str]:
    """Topics that a record of all topics does not have: a new one, mostly."""
    for name in ("mistakes", "apart"):
        path = f"records/{name}.json"
        if path not in book.files("records", suffix=".json"):
            continue  # said already
        try:
            data = records.parse(book.read(path), path)["data"]
        except (records.RecordError, UnicodeDecodeError):
            continue
        known = data if name == "mistakes" else data["topics"]
        for topic in book.roadmap.topics:
            if topic.id not in known:
                yield (
                    f"{path}: {topic.id} is missing; run python -m records "
                    f"{name}"
                )
