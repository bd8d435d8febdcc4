"""The commands `export` and `import`: models for other programs, and theirs."""

from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from cyclopts import Parameter

from scratchlm.cli.errors import UserError, users_input
from scratchlm.cli.runs import (
    TOYTOWN,
    RunFolder,
    Snapshot,
    Verify,
    read_settings,
    run_tokenizer,
)
from scratchlm.serving.export import (
    NO_LICENSE,
    ModelFileError,
    export_folder,
    export_gguf,
    import_folder,
    model_card,
    new_folder,
    write_run,
)
from scratchlm.text.characters import CharTokenizer
from scratchlm.text.files import entry, read_bytes, write_seal, write_text
from scratchlm.text.tokenizer import Tokenizer
from scratchlm.training.checkpoint import load_model
from scratchlm.training.trainer import read_log

Form = Literal["hf", "gguf"]
Numbers = Literal["float32", "float16", "bfloat16", "q8_0"]
NUMBERS = {
    "hf": ("float32", "float16", "bfloat16"),
    "gguf": ("float32", "float16", "q8_0"),
}
LICENSES = ("LICENSE", "LICENSE.txt", "LICENSE.md")


def read_license(folder: Path, own: Path | None) -> str | None:
    """The text of a license: from the file named, or from the folder."""
    if own is None:
        there = [folder / name for name in LICENSES]
        own = next((path for path in there if path.is_file()), None)
    with users_input():
        return None if own is None else read_bytes(own).decode()


def known_facts(
    run: Path, dtype: str, snapshot: int | None = None
) -> dict[str, Any]:
    """What the card of a run's model says of it, or of one of its steps."""
    data = read_settings(run)["data"]
    facts = {"corpus": data.get("corpus", "not known"), "dtype": dtype}
    if (run / "log.jsonl").exists():
        lines = [x for x in read_log(run) if snapshot in (None, x["step"])]
        losses = [line.get("validation_loss") for line in lines]
        if known := [loss for loss in losses if loss is not None]:
            facts["loss"] = f"{min(known):.4f} nats per token"
    return facts


def own_tokenizer(run: Path, verify: bool) -> Tokenizer:
    """The run's tokenizer, if it is one that others can use."""
    tokenizer = run_tokenizer(run, verify)
    if isinstance(tokenizer, CharTokenizer):
        raise UserError(
            f"{run} was trained on characters, which have no merges to "
            "export; train a run with --tokenizer bpe"
        )
    return tokenizer


def export(
    *,
    run: RunFolder = TOYTOWN,
    to: Annotated[Path, Parameter(help="the folder to write, a new one")],
    form: Annotated[
        Form, Parameter(help="hf: transformers; gguf: llama.cpp (hf)")
    ] = "hf",
    dtype: Annotated[
        Numbers,
        Parameter(help="float32 or float16; bfloat16 (hf), q8_0 (gguf)"),
    ] = "float32",
    license: Annotated[
        Path | None, Parameter(help="a file with the license to give it")
    ] = None,
    snapshot: Snapshot = None,
    verify: Verify = True,
) -> None:
    """Write a trained model for other programs.

    The folder gets the weights, their form and the tokenizer, a model card
    and a license: the one from --license, or from the run's folder. If there
    is neither, the folder says that none was chosen.

    Example:
      python -m scratchlm export --run runs/toytown --to town-hf
      python -m scratchlm export --to town-gguf --form gguf --dtype q8_0

    Book: One model, other programs: export and import
    """
    if dtype not in NUMBERS[form]:
        raise UserError(
            f"--dtype {dtype}: --form {form} has {', '.join(NUMBERS[form])}"
        )
    tokenizer = own_tokenizer(run, verify)
    data = read_settings(run)["data"]
    habits = [name for name in ("begin", "normal") if data.get(name)]
    if form == "hf" and habits:
        raise UserError(
            f"{run} was imported, and its tokenizer does more ({habits[0]}) "
            "than --form hf writes; give others the folder it came from"
        )
    model = load_model(run, snapshot, verify)
    called = run.resolve().name
    with users_input():  # a form or a pattern that others do not have
        card = model_card(model, called, known_facts(run, dtype, snapshot))
        text = read_license(run, license) or NO_LICENSE
        others = {"README.md": card, "LICENSE": text}
        if form == "hf":
            numbers = getattr(torch, dtype)
            export_folder(to, model, tokenizer, numbers, others)
        else:
            name = f"{called}-{dtype}.gguf"
            begin = data.get("begin", ())
            with new_folder(to) as half:
                export_gguf(
                    half / name, model, tokenizer, dtype, called, begin
                )
                for other, said in others.items():
                    write_text(half / other, said)
                write_seal(half, {p.name: entry(p) for p in half.iterdir()})
    size = sum(path.stat().st_size for path in to.iterdir())
    print(f"{to}: written, {size:,} bytes")
    if text == NO_LICENSE:
        print("It has no license yet: nobody else may use it. See --license")


def import_(
    folder: Annotated[Path, Parameter(help="the folder with config.json")],
    /,
    *,
    run: Annotated[Path, Parameter(help="the run's folder, a new one")],
) -> None:
    """Make a run of a published model.

    Reads the form, the weights in safetensors and the tokenizer of a GPT-2,
    Llama, Qwen2, Qwen3, OLMo 2 or a relative. Nothing is fetched, and no
    program in the folder is run.

    Example:
      python -m scratchlm import SmolLM2-135M --run runs/smol

    Next: python -m scratchlm sample --run runs/smol --prompt "Once"
    Book: One model, other programs: export and import
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder; is the path right?")
    if run.exists() and (not run.is_dir() or any(run.iterdir())):
        raise ModelFileError(f"{run} is there already: name a new folder")
    model, tokenizer, facts = import_folder(folder)
    text = read_license(folder, None)
    write_run(run, model, tokenizer, facts, {"LICENSE": text} if text else {})
    count = sum(parameter.numel() for parameter in model.parameters())
    print(f"{run}: written, {count:,} parameters")
    if facts["normal"]:
        print(f"Its texts are brought to {facts['normal']} before they are cut")
