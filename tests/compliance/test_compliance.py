"""Every rule finds what was planted for it, and nothing where all is well."""

import json
import logging
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import asdict, replace
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from compliance import cards, people
from compliance.__main__ import ORDERED, main
from compliance.card import Card, read_card
from compliance.cards import training_operations
from compliance.rules import KINDS_OF, RULES, Site, source_text
from scratchlm.cli import serve as command
from scratchlm.cli.app import main as scratchlm
from scratchlm.model.gpt import GPT, flops_per_token, gpt2_config
from scratchlm.serving import server
from scratchlm.serving.export import export_folder, write_run
from scratchlm.serving.quantize import Scheme, quantize_model, save_quantized
from scratchlm.text.corpus import prepare
from scratchlm.text.files import entry, write_json, write_seal
from scratchlm.text.tokenizer import END, Tokenizer
from scratchlm.text.toytown import write_corpus
from scratchlm.training.checkpoint import save_weights
from scratchlm.training.scaling import multiplied_weights

Patch = pytest.MonkeyPatch
CONFIG = gpt2_config(300, context=16, layers=1, heads=1, channels=8)
STEPS, BATCH = 10, 4
SEALED = ("config.json", "log.jsonl", "tokenizer.json", "model.safetensors")
FIELDS = [
    "name",
    "source",
    "obtained",
    "license",
    "purpose",
    "points",
    "types",
    "collected",
    "first_used",
    "protected",
    "personal",
    "aggregate",
    "processing",
]


def say(run: Path, corpus: str, steps: int = STEPS, **changes: Any) -> None:
    """Write a run's config.json, with other sizes for the model, and seal."""
    text = {"corpus": corpus, "characters": 1000}
    data = {"train_tokens": 900, "batch_size": BATCH, "text": text}
    model = {**asdict(CONFIG), **changes}
    settings = {"model": model, "training": {"steps": steps}, "data": data}
    write_json(run / "config.json", settings)
    write_seal(run, {name: entry(run / name) for name in SEALED})


def full_card() -> dict[str, Any]:
    """A card in which everything is said."""
    model = [
        "name",
        "version",
        "run",
        "date",
        "license",
        "purpose",
        "limits",
        "evaluation",
    ]
    return {
        "released": True,
        "standing": "none",
        "provider": {
            "name": "Ada Wren",
            "contact": "the town hall",
            "representative": "none needed",
        },
        "model": {name: f"the {name}" for name in model} | {"run": "runs/1"},
        "data": [{f: f"the {f}" for f in FIELDS} | {"kind": "synthetic"}],
        "reservations": "nothing was crawled",
        "unlawful": "the grammar has none",
    }


def write_card(site: Path, card: dict[str, Any]) -> None:
    text = yaml.safe_dump(card, sort_keys=False)
    (site / "card.yml").write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run and a corpus, as the library writes them."""
    folder = tmp_path_factory.mktemp("made")
    run = folder / "runs" / "1"
    run.mkdir(parents=True)
    stories = [story.text for story in write_corpus(60_000, seed=3)]
    Tokenizer.train(stories[:50], 300).save(run / "tokenizer.json")
    torch.manual_seed(1)
    save_weights(run / "model.safetensors", GPT(CONFIG))
    (run / "log.jsonl").write_text('{"step": 10}\n', encoding="utf-8")
    text = folder / "stories.txt"
    text.write_text("\n\n".join(stories), encoding="utf-8")
    prepare(text, folder / "data" / "stories", "CC0-1.0")
    text.unlink()
    return folder


@pytest.fixture
def site(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Path:
    """A repository in which all is well: a run, a corpus, a card, a log."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    say(tmp_path / "runs/1", str(tmp_path / "data" / "stories"))
    write_card(tmp_path, full_card())
    assert main(["cards", str(tmp_path / "card.yml")]) == 0
    capsys.readouterr()
    return tmp_path


# --- what is planted for each rule, and where it must be found --------------


def unknown_origin(site: Path, patch: Patch) -> str:
    say(site / "runs" / "1", "https://example.org/everything.txt")
    return "runs/1/config.json"


def changed_text(site: Path, patch: Patch) -> str:
    with (site / "data/stories/train.jsonl").open("a") as file:
        file.write('{"text": "One more."}\n')
    return "data/stories"


def other_license(site: Path, patch: Patch) -> str:
    path = site / "data/stories/manifest.json"
    text = path.read_text().replace("CC0-1.0", "CC-BY-NC-4.0", 1)
    path.write_text(text)
    return "data/stories: train.jsonl"


def address_left(site: Path, patch: Patch) -> str:
    path = site / "data/stories/test.jsonl"
    last = len(path.read_text().splitlines()) + 1
    with path.open("a") as file:
        file.write('{"text": "Ask mrs.pell@bakery.example for bread."}\n')
    return f"data/stories/test.jsonl:{last}"


def key_left(site: Path, patch: Patch) -> str:
    (site / "upload.sh").write_text("#!/bin/sh\nlogin hf" + "_" + "aB3" * 11)
    return "upload.sh:2"


def pickled(site: Path, patch: Patch) -> str:
    (site / "model.bin").write_bytes(b"\x80\x02}q\x00.")
    return "model.bin"


def not_a_number(site: Path, patch: Patch) -> str:
    model = GPT(CONFIG)
    with torch.no_grad():
        model.head.weight[0, 0] = float("nan")
    save_weights(site / "runs/1/model.safetensors", model)
    return "runs/1/model.safetensors"


def one_byte(site: Path, patch: Patch) -> str:
    path = site / "runs/1/model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    return "runs/1/model.safetensors"


def prompt_logged(site: Path, patch: Patch) -> str:
    encode = server.Service.encode

    def logging_encode(self: server.Service, text: str) -> list[int]:
        logging.getLogger("scratchlm").info("asked: %s", text)
        return encode(self, text)

    patch.setattr(server.Service, "encode", logging_encode)
    return "scratchlm.serving.server"


def prompt_kept(site: Path, patch: Patch) -> str:
    text = '{"step": 1}\n12:00 INFO {"prompt": "my secret"}\n'
    (site / "serve.log").write_text(text)
    return "serve.log:2"


def page_silent(site: Path, patch: Patch) -> str:
    read = Path.read_text

    def silent(self: Path, *words: Any, **named: Any) -> str:
        text = read(self, *words, **named)
        return text.replace("A program answers here, no person.", "")

    patch.setattr(Path, "read_text", silent)
    return "scratchlm.serving.server"


def no_limit(site: Path, patch: Patch) -> str:
    patch.setattr(people, "LONG", 1 << 21)
    limits = server.Limits

    def endless(body: int) -> server.Limits:
        return limits(body=1 << 30)

    patch.setattr(server, "Limits", endless)
    return "scratchlm.serving.server"


def open_door(site: Path, patch: Patch) -> str:
    def serve(*, host: str = "192.0.2.1") -> str:  # what the rule looks for
        return host

    patch.setattr(command, "serve", serve)
    assert signature(command.serve).parameters["host"].default == serve()
    return "scratchlm.serving.server: serve --host"


def mark_obeyed(site: Path, patch: Patch) -> str:
    encode = Tokenizer.encode

    def obeying(self: Tokenizer, text: str, **named: Any) -> list[int]:
        return encode(self, text, allowed_special={END})

    patch.setattr(Tokenizer, "encode", obeying)
    return "runs/1/tokenizer.json"


def too_large(site: Path, patch: Patch) -> str:
    say(site / "runs/1", "toytown", channels=1 << 14, layers=90, steps=10**12)
    return "runs/1/config.json"


def contact_gone(site: Path, patch: Patch) -> str:
    card = full_card()
    card["provider"]["contact"] = None
    write_card(site, card)
    lines = (site / "card.yml").read_text().splitlines()
    line = next(i for i, text in enumerate(lines, 1) if "contact" in text)
    return f"card.yml:{line}"


def third_passed(site: Path, patch: Patch) -> str:
    sizes = {"channels": 1 << 12, "layers": 40, "steps": 2 * 10**10}
    say(site / "runs/1", "toytown", **sizes)
    own = training_operations(site / "runs/1")
    assert 1e23 / 3 < own < 1e23
    write_card(site, full_card() | {"base": {"name": "somebody else's"}})
    return "card.yml"


PLANTED: dict[str, Callable[[Path, Patch], str]] = {
    "origin": unknown_origin,
    "manifest": changed_text,
    "license": other_license,
    "personal-data": address_left,
    "secrets": key_left,
    "pickle": pickled,
    "tensors": not_a_number,
    "seal": one_byte,
    "nothing-kept": prompt_logged,
    "no-dialogues": prompt_kept,
    "told-so": page_silent,
    "bounded": no_limit,
    "loopback": open_door,
    "marks-are-text": mark_obeyed,
    "compute": too_large,
    "card": contact_gone,
    "modifier": third_passed,
}


def report(
    capsys: pytest.CaptureFixture[str], *words: str
) -> tuple[int, list[dict[str, Any]]]:
    """The exit code of the command, and what it says of each rule."""
    code = main(["--json", *words])
    said = json.loads(capsys.readouterr().out)
    assert said["holds"] is (code == 0)
    return code, said["rules"]


def test_each_rule_has_a_planted_violation() -> None:
    assert set(PLANTED) == set(ORDERED) == set(RULES)


def test_nothing_is_found_where_all_is_well(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, rules = report(capsys, str(site))
    assert [rule["findings"] for rule in rules] == [[]] * len(PLANTED)
    assert code == 0
    assert all(rule["looked"] > 0 for rule in rules)


@pytest.mark.parametrize("name", PLANTED)
def test_what_is_planted_is_found(
    name: str,
    site: Path,
    monkeypatch: Patch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    place = PLANTED[name](site, monkeypatch)
    code, [rule] = report(capsys, str(site), "--only", name)
    assert code == 1
    found = rule["findings"][0]
    assert found["place"].removeprefix(f"{site}/") == place
    assert len(found["what"]) > 5
    assert len(found["way_out"]) > 5
    for part in ("duty", "source", "since"):
        assert rule[part]
    assert main([str(site), "--only", name]) == 1  # and to people
    said = " ".join(capsys.readouterr().out.split())
    assert f"violated, {len(rule['findings'])} found" in said
    assert found["place"] in said
    assert found["way_out"] in said


# --- what else the rules know -------------------------------------------------


def test_a_run_without_its_seal_or_tokenizer_is_seen(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (site / "runs/1/seal.json").unlink()
    (site / "runs/1/tokenizer.json").unlink()
    words = ("--only", "seal", "marks-are-text")
    code, rules = report(capsys, str(site), *words)
    assert code == 1
    assert ["not there" in r["findings"][0]["what"] for r in rules] == [
        True
    ] * 2


@pytest.mark.parametrize("corpus", ["toytown", "shakespeare"])
def test_a_text_that_the_library_knows_has_an_origin(
    corpus: str, site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    say(site / "runs/1", corpus)
    assert report(capsys, str(site), "--only", "origin")[0] == 0


def test_the_tokens_of_another_run_are_those_of_its_text(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Run 2 has the tokens of run 1, and run 1 those of shards."""
    shutil.copytree(site / "runs/1", site / "runs/2")
    say(site / "runs/2", str(site / "runs/1"))
    corpus, cut = site / "data/stories", site / "cut"
    words = ["corpus", "shards", str(corpus), "--out", str(cut)]
    assert scratchlm([*words, "--vocab-size", "300"]) == 0
    capsys.readouterr()
    say(site / "runs/1", str(cut))
    assert Path(source_text(site / "runs/2")) == corpus
    assert report(capsys, str(site), "--only", "origin")[0] == 0
    shutil.rmtree(corpus)
    code, [rule] = report(capsys, str(site), "--only", "origin")
    assert code == 1
    places = [f["place"].removeprefix(f"{site}/") for f in rule["findings"]]
    assert places == ["runs/1/config.json", "runs/2/config.json"]
    assert str(corpus) in rule["findings"][0]["what"]
    write_json(cut / "corpus.json", {})  # it does not say
    code, [rule] = report(capsys, str(site), "--only", "origin")
    assert "does not say" in rule["findings"][1]["what"]
    say(site / "runs/1", str(site / "runs/2"))  # in a circle
    assert report(capsys, str(site), "--only", "origin")[0] == 1


def test_a_run_that_does_not_say_what_it_read_is_found(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (site / "runs/1/config.json").write_text("{}")
    code, rules = report(capsys, str(site), "--only", "origin", "compute")
    assert code == 1
    assert "does not say" in rules[0]["findings"][0]["what"]
    assert "cannot be counted" in rules[1]["findings"][0]["what"]


def test_a_run_without_a_corpus_makes_none_of_this_folder(
    site: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: Patch
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("here"))
    before = Site((site,)).corpora
    tokenizer = Tokenizer.load(site / "runs/1/tokenizer.json")
    write_run(site / "runs/answers", GPT(CONFIG), tokenizer, {})
    assert Site((site,)).corpora == before != []


def test_what_is_exported_or_imported_is_judged_as_what_it_is(
    site: Path, monkeypatch: Patch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = site / "runs/1"
    tokenizer = Tokenizer.load(run / "tokenizer.json")
    model = GPT(CONFIG)
    write_run(site / "runs/again", model, tokenizer, {"corpus": "toytown"})
    export_folder(site / "town-hf", model, tokenizer)
    save_quantized(site / "town-int8", quantize_model(model, Scheme(8, 8)))
    code, rules = report(capsys, str(site))
    assert [rule["findings"] for rule in rules] == [[]] * len(PLANTED)
    assert code == 0
    looked = {rule["name"]: rule["looked"] for rule in rules}
    assert (looked["seal"], looked["compute"]) == (4, 2)
    (site / "town-hf" / "tokenizer.json").write_text("{}")
    _, [rule] = report(capsys, str(site), "--only", "seal")
    assert rule["findings"][0]["place"].endswith("town-hf/tokenizer.json")


@pytest.mark.parametrize("name", ["notes.txt", "notes.jsonl"])
def test_text_that_nobody_described_is_found(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "data" / name
    path.parent.mkdir()
    path.write_text('{"text": "Rain fell."}\n')
    code, [rule] = report(capsys, str(tmp_path), "--only", "manifest")
    assert code == 1
    assert "nobody knows" in rule["findings"][0]["what"]
    assert report(capsys, str(path), "--only", "manifest")[0] == 1


def test_a_text_beside_which_its_source_lies_is_described(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from scratchlm.text.corpus import get

    text = tmp_path / "letters.txt"
    text.write_text("Dear Ada, the river is high today.\n")
    copied = get(text, tmp_path / "data")
    words = (str(copied), "--only", "manifest", "license")
    code, [manifest, license] = report(capsys, *words)
    assert (code, manifest["findings"]) == (1, [])
    assert "'unknown' is not in the list" in license["findings"][0]["what"]
    run = tmp_path / "run"
    run.mkdir()
    (run / "log.jsonl").write_text('{"step": 1}\n')
    settings = {"data": {"corpus": str(copied)}}
    (run / "config.json").write_text(json.dumps(settings))
    words = (str(run), "--only", "origin", "personal-data")
    code, [origin, people] = report(capsys, *words)
    assert (code, origin["findings"], people["looked"]) == (0, [], 1)
    words = (str(copied), "--only", "manifest", "license")
    copied.write_text("Somebody was here.\n")
    manifest = report(capsys, *words)[1][0]
    assert "was changed" in manifest["findings"][0]["what"]


def test_an_origin_that_is_empty_is_none(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = site / "data/stories/manifest.json"
    data = json.loads(path.read_text())
    data["sources"][1]["origin"] = " "
    path.write_text(json.dumps(data))
    _, [rule] = report(capsys, str(site), "--only", "manifest")
    [found] = rule["findings"]
    assert found["what"] == "validation.jsonl: its origin is empty"


def test_a_log_may_hold_what_is_no_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "ready {\n[1]\n{1: 2}\nwords\n"
    (tmp_path / "a.log").write_text(text)
    assert report(capsys, str(tmp_path), "--only", "no-dialogues")[0] == 0
    (tmp_path / "a.log").write_text(text + 'asked {"question": "Why?"}\n')
    _, [rule] = report(capsys, str(tmp_path), "--only", "no-dialogues")
    assert rule["findings"][0]["place"].endswith("a.log:5")


def test_a_damaged_manifest_or_text_is_found(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (site / "data/stories/manifest.json").write_text('{"sources": [3]}')
    (site / "data/stories/test.jsonl").write_bytes(b'{"text": "\xff"}\n')
    words = ("--only", "manifest", "license", "personal-data")
    code, rules = report(capsys, str(site), *words)
    assert [len(rule["findings"]) for rule in rules] == [1, 0, 1]
    assert code == 1
    assert "is not UTF-8" in rules[2]["findings"][0]["what"]


def bad_zip(site: Path) -> None:
    path = site / "weights.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("page.html", "<p>")
    data = path.read_bytes()
    path.write_bytes(data.replace(b"PK\x01\x02", b"PK\x01\x07"))


def bad_manifest(site: Path, entry: str, value: Any) -> None:
    path = site / "data/stories/manifest.json"
    found = json.loads(path.read_text())
    found["sources"][0][entry] = value
    path.write_text(json.dumps(found))


@pytest.mark.parametrize(
    ("plant", "place"),
    [
        (bad_zip, ""),
        (lambda site: bad_manifest(site, "license", ["MIT"]), "stories"),
        (lambda site: bad_manifest(site, "origin", 5), "stories"),
        (lambda site: write_card(site, full_card() | {"data": 3}), "card.yml"),
        (lambda site: (site / "card.yml").write_text("[" * 3000), "card.yml"),
    ],
)
def test_one_odd_file_does_not_end_all_rules(
    plant: Callable[[Path], Any],
    place: str,
    site: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    plant(site)
    code, rules = report(capsys, str(site))
    found = [x["place"] for rule in rules for x in rule["findings"]]
    assert code == bool(place)
    assert any(place in where for where in found) == bool(place)
    assert main(["cards", str(site / "card.yml")]) in (0, 1, 2)


def test_a_mac_s_own_file_is_no_text(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (site / "data/stories/.DS_Store").write_bytes(b"\0\0\0\1Bud1")
    assert report(capsys, str(site), "--only", "manifest")[0] == 0


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [
        ("machine x.example\nlogin me\npass" + "word abc\n\na\n", "utf-8", 3),
        ("machine x.example login me pass" + "word abc\na\n", "utf-8", 1),
        ("a = 1\nT = hf" + "_" + "aB3" * 11 + "\n", "utf-16", 2),
    ],
)
def test_a_secret_may_take_three_lines_or_two_bytes_a_letter(
    text: str,
    code: str,
    line: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / ".env").write_text(text, encoding=code)
    _, [rule] = report(capsys, str(tmp_path), "--only", "secrets")
    [found] = rule["findings"]
    assert found["place"] == f"{tmp_path / '.env'}:{line}"


def test_no_proxy_is_asked_about_this_machine(
    tmp_path: Path, monkeypatch: Patch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    words = ("--only", "nothing-kept", "told-so", "bounded")
    assert report(capsys, str(tmp_path), *words)[0] == 0


def test_a_pickle_is_known_by_what_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """PyTorch's files are ZIP files; others have endings of old."""
    with zipfile.ZipFile(tmp_path / "weights", "w") as archive:
        archive.writestr("model/data.pkl", b"\x80\x02.")
    with zipfile.ZipFile(tmp_path / "book.epub", "w") as archive:
        archive.writestr("page.html", "<p>")
    (tmp_path / "old.pkl").write_bytes(b"cbuiltins\nprint\n.")
    (tmp_path / "short").write_bytes(b"\x80")
    _, [rule] = report(capsys, str(tmp_path), "--only", "pickle")
    names = [Path(found["place"]).name for found in rule["findings"]]
    assert names == ["old.pkl", "weights"]
    assert rule["looked"] == 4


def test_hidden_folders_and_environments_are_not_looked_at(
    tmp_path: Path,
) -> None:
    for name in (".git", "env", "src"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text("a")
    (tmp_path / "env" / "pyvenv.cfg").write_text("home = here")
    assert Site((tmp_path,)).files == [tmp_path / "src" / "a.txt"]
    assert set(KINDS_OF) == {rule.of for rule in RULES.values()}


def test_where_a_repository_lies_makes_no_corpus_of_it(tmp_path: Path) -> None:
    """Nor is a link that leads nowhere a file."""
    repository = tmp_path / "data" / "llm"
    (repository / "data").mkdir(parents=True)
    for name in ("notes.txt", "data/story.txt"):
        (repository / name).write_text("a")
    (repository / "gone").symlink_to(tmp_path / "nowhere")
    assert len(Site((repository,)).files) == 2
    assert Site((repository,)).corpora == [repository / "data" / "story.txt"]
    assert len(Site((tmp_path / "data",)).corpora) == 2


def test_a_model_from_elsewhere_has_a_card(tmp_path: Path) -> None:
    """What its training took is not on file here, and that is said."""
    run, tokenizer = tmp_path / "imported", Tokenizer([])
    config = replace(CONFIG, vocab_size=tokenizer.vocab_size)
    write_run(run, GPT(config), tokenizer, {})
    found = cards.facts(run)
    assert found["layers"] == config.layers
    assert not found.keys() & {"tokens", "operations"}
    told = cards.Told({}, found)
    assert told.fact("tokens").startswith("not on file")
    assert told.missing == []


def test_operations_are_those_of_the_library(site: Path) -> None:
    """And about six for each weight and token, as the law of thumb has it."""
    tokens = STEPS * BATCH * CONFIG.context
    found = training_operations(site / "runs/1")
    assert found == flops_per_token(CONFIG) * tokens
    assert found > 6 * multiplied_weights(CONFIG) * tokens


@pytest.mark.parametrize(
    ("operations", "systemic", "violated"),
    [
        (None, False, True),  # unknown: a third of 10^23
        (None, True, False),  # a third of 10^25
        (1.1e23, False, True),
        (9e23, False, False),
        (9e22, False, False),  # the base is no general-purpose model
    ],
)
def test_a_third_of_the_base_is_the_limit(
    operations: float | None,
    systemic: bool,
    violated: bool,
    site: Path,
    monkeypatch: Patch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    third_passed(site, monkeypatch)
    base = {"name": "b", "operations": operations, "systemic": systemic}
    write_card(site, full_card() | {"base": base})
    assert report(capsys, str(site), "--only", "modifier")[0] == violated
    said = {"base": base, "standing": "general-purpose"}
    write_card(site, full_card() | said)
    assert report(capsys, str(site), "--only", "modifier")[0] == 0


def test_who_declares_a_standing_may_be_as_large(
    site: Path, monkeypatch: Patch, capsys: pytest.CaptureFixture[str]
) -> None:
    too_large(site, monkeypatch)
    for standing, code in (("general-purpose", 1), ("systemic", 0)):
        write_card(site, full_card() | {"standing": standing})
        assert report(capsys, str(site), "--only", "compute")[0] == code


def test_a_server_that_fails_cannot_be_judged(
    site: Path, monkeypatch: Patch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(self: server.Service, text: str) -> list[int]:
        raise RuntimeError("no such token")

    monkeypatch.setattr(server.Service, "encode", broken)
    assert main([str(site), "--only", "nothing-kept"]) == 2
    error = capsys.readouterr().err
    assert "scratchlm.serving.server answers a prompt with 500" in error


def test_the_tiny_model_has_the_tokens_of_its_tokenizer(
    monkeypatch: Patch,
) -> None:
    """Else it may draw one that is none; nor does it use up random numbers."""
    sizes, make = [], server.Service

    def service(
        model: GPT, tokenizer: Tokenizer, *words: Any, **named: Any
    ) -> server.Service:
        sizes.append((model.config.vocab_size, tokenizer.vocab_size))
        return make(model, tokenizer, *words, **named)

    monkeypatch.setattr(server, "Service", service)
    before = torch.get_rng_state()
    with people.asked("a") as (_, answer):
        assert answer.status_code == 200
    assert torch.equal(torch.get_rng_state(), before)
    [(known, written)] = sizes
    assert known == written


# --- cards --------------------------------------------------------------------


def test_four_documents_say_what_the_card_says(site: Path) -> None:
    written = {p.name: p.read_text() for p in (site / "cards").iterdir()}
    assert len(written) == 4
    lines = [line for text in written.values() for line in text.splitlines()]
    assert all(len(line) <= 78 for line in lines)
    for number in range(1, 13):
        assert f"\n{number}. " in written["california.md"]
    texts = {name: " ".join(t.split()) for name, t in written.items()}
    assert "Ada Wren" in texts["model.md"]
    assert f"{training_operations(site / 'runs/1'):.2e}" in texts["model.md"]
    assert "900 tokens" in texts["data.md"]
    for part in ("1.1", "1.2", "1.3", "2.1", "2.6", "3.1", "3.2"):
        assert f"{part} " in texts["eu-summary.md"]
    assert "less than 1 billion tokens" in texts["eu-summary.md"]
    assert "12. Synthetic data generation: yes" in texts["california.md"]
    every = " ".join(texts.values())
    said = [s for s in FIELDS if s != "kind"]
    assert all(f"the {name}" in every for name in said)
    assert "not said yet" not in every


def test_what_a_card_leaves_open_is_named_with_its_line(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = full_card() | {"unlawful": ""}
    del card["provider"]["representative"]
    card["model"]["run"] = "runs/none"
    write_card(site, card)
    assert main(["cards", str(site / "card.yml")]) == 1
    out = capsys.readouterr().out
    assert f"{site / 'card.yml'}:3: provider.representative: not said" in out
    assert "unlawful: not said yet" in out
    assert "model.run, with a run in it: not said yet" in out
    text = " ".join((site / "cards" / "eu-summary.md").read_text().split())
    assert "**not said yet: unlawful**" in text
    card = full_card()
    card["data"].append({**card["data"][0], "name": "Letters"})
    del card["data"][1]["source"]
    write_card(site, card)
    assert main(["cards", str(site / "card.yml")]) == 1
    lines = (site / "card.yml").read_text().splitlines()
    at = lines.index("- name: Letters") + 1
    out = capsys.readouterr().out
    assert f"{site / 'card.yml'}:{at}: data.1.source: not said yet" in out


def test_a_card_of_what_is_not_released_may_be_open_but_not_wrong(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = full_card() | {"released": False, "unlawful": None}
    write_card(site, card)
    assert report(capsys, str(site), "--only", "card")[0] == 0
    write_card(site, card | {"standing": "large", "extra": 1})
    _, [rule] = report(capsys, str(site), "--only", "card")
    assert len(rule["findings"]) == 2
    for unclear in ("perhaps", 1, "true"):
        write_card(site, card | {"released": unclear})
        _, [rule] = report(capsys, str(site), "--only", "card")
        assert rule["findings"][0]["what"].startswith("released: ")
    base = {"name": "theirs", "systemic": "true"}
    write_card(site, card | {"base": base})
    assert report(capsys, str(site), "--only", "card")[0] == 1


def test_documents_older_than_their_card_are_found(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_card(site, full_card() | {"unlawful": "looked for, and removed"})
    _, [rule] = report(capsys, str(site), "--only", "card")
    [found] = rule["findings"]
    assert found["place"].endswith("cards/eu-summary.md")
    assert main(["cards", str(site / "card.yml")]) == 0
    capsys.readouterr()
    assert report(capsys, str(site), "--only", "card")[0] == 0


def test_a_released_card_needs_its_run(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (site / "runs/1/config.json").write_text('{"model": {}}')
    _, [rule] = report(capsys, str(site), "--only", "card")
    assert "does not hold what it should" in rule["findings"][0]["what"]
    card = full_card()
    card["model"]["run"] = "elsewhere"
    write_card(site, card)
    _, [rule] = report(capsys, str(site), "--only", "card")
    assert "with a run in it" in rule["findings"][0]["what"]


@pytest.mark.parametrize("text", ["a: [", "- 1", "", "x: 2026-99-99"])
def test_a_card_that_is_none_is_found_and_refused(
    text: str, site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = site / "card.yml"
    path.write_text(text)
    code, rules = report(capsys, str(site), "--only", "card", "compute")
    assert (code, len(rules[0]["findings"])) == (1, 1)
    assert main(["cards", str(path)]) == 2
    assert capsys.readouterr().err.startswith(f"error: {path} ")


def test_dates_and_numbers_are_text_to_a_card(tmp_path: Path) -> None:
    card = full_card()
    card["model"] |= {"version": 2, "date": "2026-11-20"}
    write_card(tmp_path, card)
    text = (
        (tmp_path / "card.yml")
        .read_text()
        .replace("'2026-11-20'", "2026-11-20")
    )
    (tmp_path / "card.yml").write_text(text)
    said, problems = read_card(tmp_path / "card.yml")
    assert problems == []
    model = Card.model_validate(said).model
    assert (model.version, model.date) == ("2", "2026-11-20")


# --- the command --------------------------------------------------------------


def test_the_list_names_duty_and_source(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[::3] == list(ORDERED)
    assert all(line.endswith(".") for line in lines[1::3])
    assert all("(since 20" in line for line in lines[2::3])


def test_a_rule_that_sees_nothing_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path), "--only", "seal", "pickle"]) == 0
    out = capsys.readouterr().out
    assert out.count("nothing to look at") == 2
    assert "2 rules, none violated, 2 without anything to look at" in out


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["nowhere"], "nowhere: there is no such file or folder"),
        (["--only", "everything"], "no rule everything; there are: origin"),
        (["cards", "none.yml"], "none.yml is not there"),
    ],
)
def test_what_cannot_be_looked_at_is_one_sentence(
    words: list[str],
    why: str,
    tmp_path: Path,
    monkeypatch: Patch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    error = capsys.readouterr().err
    assert why in error
    assert error.count("\n") == 1


def test_an_error_of_the_network_has_words(
    monkeypatch: Patch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(arguments: list[str]) -> int:
        raise OSError("nobody answers")

    monkeypatch.setattr("compliance.__main__.check", refuse)
    assert main([]) == 2
    assert capsys.readouterr().err == "error: nobody answers\n"


def test_a_file_that_may_not_be_read_is_named(
    tmp_path: Path, monkeypatch: Patch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(path: Path, site: Site) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    rule = ORDERED["pickle"]
    monkeypatch.setitem(
        ORDERED, "pickle", type(rule)(**vars(rule) | {"judge": refuse})
    )
    (tmp_path / "a").write_text("a")
    assert main([str(tmp_path), "--only", "pickle"]) == 2
    assert f"{tmp_path / 'a'}: Permission denied" in capsys.readouterr().err
