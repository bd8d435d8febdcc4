"""Where settings come from, and which of two wins."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import pytest

from scratchlm.cli import app as cli
from scratchlm.cli import settings
from scratchlm.cli.errors import UserError
from scratchlm.cli.presets import PRESETS, WORDS, preset
from scratchlm.cli.train import BatchOptions, RunOptions, TextOptions
from scratchlm.generation.sampling import SamplingConfig
from scratchlm.model.gpt import GPT, GPTConfig, count_parameters
from scratchlm.text.files import entry, write_json, write_seal
from scratchlm.training.trainer import TrainConfig

OURS = (TextOptions, GPTConfig, TrainConfig, BatchOptions, RunOptions)
OTHER = {  # a value that is not the default, for each kind of field
    "int": "2",
    "float": "0.5",
    "int | None": "2",
    "float | None": "0.5",
}


def parsed(*words: str) -> dict[str, Any]:
    """What the function `train` would be called with, by field."""
    _, bound, _ = cli.make_app().parse_args(
        ["train", *words], exit_on_error=False, print_error=False
    )
    found: dict[str, Any] = {}
    for part in bound.arguments.values():
        if hasattr(part, "__dataclass_fields__"):
            found |= {f.name: getattr(part, f.name) for f in fields(part)}
    return found


def test_without_options_it_is_the_preset_small() -> None:
    found = parsed()
    for name, value in PRESETS["small"].items():
        assert found[name] == value, name


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_understood(name: str) -> None:
    found = parsed("--preset", name)
    for key, value in PRESETS[name].items():
        assert found[key] == value, key


def test_presets_are_what_their_words_say() -> None:
    assert PRESETS.keys() == WORDS.keys()
    with pytest.raises(UserError, match="there are: small, small-gpt2"):
        preset("huge")
    names = [field.name for field in fields(GPTConfig)]
    models = {
        name: GPTConfig(**{k: v for k, v in found.items() if k in names})
        for name, found in PRESETS.items()
    }
    small, tiny = (count_parameters(GPT(models[n])) for n in ("small", "tiny"))
    assert 5 < small / tiny < 6
    assert models["gpt2"].vocab_size == 50257
    assert models["small"].norm == "rmsnorm"
    assert models["small-gpt2"].norm == "layernorm"


def test_an_option_wins_over_the_file_over_the_preset(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(
        'preset = "small-gpt2"\nsteps = 7\nbatch-size = 5\n'
        "learning_rate = 0.5\n"
        "tied = false\nsnapshots = [0, 3]\n"
    )
    found = parsed("--config", "run.toml", "--batch-size", "6")
    assert found["batch_size"] == 6
    assert found["steps"] == 7
    assert found["learning_rate"] == 0.5
    assert found["tied"] is False
    assert found["snapshots"] == (0, 3)
    assert found["norm"] == "layernorm"
    assert found["position"] == PRESETS["small-gpt2"]["position"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.toml", "steps = 7\ncheckpoint-activations = true\n"),
        ("a.yaml", "steps: 7\ncheckpoint-activations: true\n"),
        ("a.yml", "steps: 7\ncheckpoint_activations: true\n"),
        ("a.json", '{"steps": 7, "checkpoint-activations": true}'),
    ],
)
def test_every_form_of_file(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    found = parsed("--config", name)
    assert found["steps"] == 7
    assert found["checkpoint_activations"] is True
    found = parsed("--config", name, "--no-checkpoint-activations")
    assert found["checkpoint_activations"] is False


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.ini", "steps = 7\n", ".toml, .yaml"),
        ("gone.toml", None, "gone.toml: there is no such file"),
        ("a.toml", "stepz = 7\n", "stepz"),
        ("a.toml", "steps = \n", "a.toml"),
        ("a.toml", "steps = 0\n", "steps"),
        ("a.json", "[1]", "a.json"),
        ("a.yaml", "steps: [\n", "a.yaml"),
        ("a.yaml", "\tsteps: 7\n", "a.yaml holds no settings: while"),
        ("a.yaml", "- steps: 7\n", "a.yaml"),
        ("a.yaml", "[]\n", "a.yaml"),
        ("a.yaml", "steps: 7\nsteps: 9\n", "a.yaml holds no settings: steps"),
        ("a.yaml", "7: steps\n", "7 is no name"),
        ("a.yaml", "!!python/name:os.system x\n", "a.yaml"),
        ("a.yaml", "steps: null\n", "steps"),
        ("a.json", '{"steps": 7, "steps": 9}', "steps is there twice"),
        ("a.json", "", "a.json"),
        ("a.json", "[" * 99_999, "a.json"),
        ("a.json", '{"steps": true}', "steps"),
        ("a.json", '{"steps": [1, 2]}', "steps"),
        ("a.toml", "batch-size = 7\nbatch_size = 9\n", "batch-size is there"),
        ("a.toml", "steps = 7\nsteps = 9\n", "a.toml holds no settings"),
        ("a.toml", 'corpus = "M\xfcller.txt"\n', "a.toml holds no settings"),
        ("a.toml", "[training]\nsteps = 7\n", "training"),
        ("a.toml", 'config = "b.toml"\n', "cannot name another file"),
        ("a.toml", "steps = 1.5\n", "steps 1.5: choose a whole number"),
        ("a.toml", "snapshots = [0, 1.5]\n", "snapshots 1.5: choose a whole"),
        ("a.toml", "no-bias = true\n", "for no-bias write bias, with false"),
        ("a.toml", "learning_rate = nan\n", "learning_rate"),
        ("a.toml", "rope_base = nan\n", "rope_base"),
    ],
)
def test_files_that_do_not_do(
    name: str,
    text: str | None,
    message: str,
    tmp_path: Path,
    fails: Callable[[list[str]], str],
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text, "latin-1")
    assert message in fails(["train", "--config", name])


def test_a_file_may_name_the_text_and_the_tokenizer(tmp_path: Path) -> None:
    """`corpus` and `tokenizer` are commands as well; that is no matter."""
    file = tmp_path / "my run.toml"
    file.write_bytes(b'\xef\xbb\xbfcorpus = "a.txt"\ntokenizer = "characters"')
    found = parsed("--config", "my run.toml")
    assert (found["corpus"], found["tokenizer"]) == ("a.txt", "characters")


@pytest.mark.parametrize("name", ["a.toml", "a.yaml"])
def test_an_empty_file_says_nothing(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("# nothing yet\n")
    assert parsed("--config", name) == parsed()


def test_an_empty_list_is_a_value(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("snapshots = []\n")
    assert parsed("--config", "a.toml")["snapshots"] == ()


def test_several_values_are_typed_as_the_help_shows_them() -> None:
    words = ["--snapshots", "0", "10", "--steps", "20"]
    found = parsed(*words)
    assert (found["snapshots"], found["steps"]) == ((0, 10), 20)
    assert parsed("--snapshots", "0", "--snapshots", "9")["snapshots"] == (0, 9)
    assert parsed("--no-snapshots")["snapshots"] == ()


def test_the_largest_seed_is_one() -> None:
    assert parsed("--seed", str(2**63 - 1))["seed"] == 2**63 - 1


def test_the_last_of_two_wins(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("steps = 7\n")
    (tmp_path / "b.toml").write_text("steps = 8\n")
    found = parsed("--config", "a.toml", "--config", "b.toml")
    assert found["steps"] == 8
    found = parsed("--preset", "tiny", "--preset", "small")
    assert found["channels"] == PRESETS["small"]["channels"]
    assert parsed("--steps", "3", "--steps", "4")["steps"] == 4


def test_a_run_that_is_not_resumed_is_not_looked_for(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("resume = false\n")
    assert parsed("--config", "a.toml", "--out", "new")["resume"] is False
    assert parsed("--resume=false", "--out", "new")["resume"] is False


def test_settings_of_a_run_are_found_where_it_is_by_itself(
    tmp_path: Path,
) -> None:
    """Without --out, a run is resumed where it would have been begun."""
    folder = tmp_path / "runs" / "own"
    data = {"text": {"corpus": "own.txt", "tokenizer": "characters"}}
    config = {"model": PRESETS["tiny"], "training": {}, "data": data}
    write_json(folder / "config.json", config)
    write_seal(folder, {"config.json": entry(folder / "config.json")})
    found = parsed("--resume", "--corpus", "own.txt")
    assert found["channels"] == PRESETS["tiny"]["channels"]
    for last in (["--out", "runs/own"], ["--out", "x", "--out", "runs/own"]):
        found = parsed("--resume", *last)
        assert found["corpus"] == "own.txt"
        assert found["tokenizer"] == "characters"


def test_every_field_is_an_option() -> None:
    words, wanted = [], {}
    for field in [field for kind in OURS for field in fields(kind)]:
        option = "--" + field.name.strip("_").replace("_", "-")
        kind = getattr(field.type, "__name__", str(field.type))
        if kind in OTHER:
            rope = field.name in ("rope_base", "rope_factor")
            value = "500" if rope else OTHER[kind]
            words += [option, value]
            wanted[field.name] = float(value)
        elif kind == "bool" and field.name != "resume":
            words.append(option)
            wanted[field.name] = True
    found = parsed(*words)
    assert {name: found[name] for name in wanted} == wanted
    assert len(wanted) > 30


def test_every_field_has_a_word_of_help() -> None:
    for kind in (*OURS, SamplingConfig):
        comments = settings.field_comments(kind)
        for field in fields(kind):
            if field.name not in ("from_", "shard", "verify"):  # their own
                assert comments.get(field.name), f"{kind.__name__}.{field.name}"


def test_comments_beside_fields_are_their_help() -> None:
    @dataclass
    class Example:
        """A class, with # no comment in here."""

        count: int  # how many
        name: str = "x"  # of whom
        off: bool = False  # dark
        on: bool = True  # bright
        own: int = 3

        def other(self) -> int:
            return self.count  # not this

    comments = settings.field_comments(Example)
    words = ["how many", "of whom", "dark", "bright"]
    assert list(comments.values()) == words
    settings.describe(Example, {"count": 3, "off": False, "on": True})
    helps = [field.metadata.get("help") for field in fields(Example)]
    assert helps == ["how many (3)", "of whom", "dark", "bright (on)", None]


def test_presets_are_json() -> None:
    for found in PRESETS.values():
        assert json.loads(json.dumps(found)).keys() == found.keys()


def test_groups_are_in_the_order_of_the_work() -> None:
    order = sorted(settings.GROUPS.values(), key=lambda g: g.sort_key)
    names = [group.name for group in order]
    assert names == ["Text", "Model", "Training", "Run"]
    assert asdict(TextOptions())["corpus"] == "toytown"
