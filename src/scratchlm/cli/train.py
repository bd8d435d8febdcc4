"""The command `train`: from a text to a trained model, in one folder."""

import contextlib
import json
import math
import os
import shlex
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import torch
from cyclopts import Parameter

from scratchlm.cli import estimate
from scratchlm.cli.corpus import DATA, PARTS, holds_shards, mirror
from scratchlm.cli.errors import UserError, users_input
from scratchlm.cli.plot import print_plot, save_plot
from scratchlm.cli.presets import PRESETS, WORDS
from scratchlm.cli.progress import TimeLimit, share_of_peak, show_progress
from scratchlm.cli.runs import (
    OURS,
    Opened,
    alone,
    asked,
    check_device,
    check_files,
    check_folder,
    devices,
    folder_of,
    kind_of,
    open_run,
    opening,
    ranks,
    read_settings,
    run_tokenizer,
)
from scratchlm.cli.settings import describe, options
from scratchlm.model.gpt import GPT, GPTConfig, flops_per_token
from scratchlm.text import corpus
from scratchlm.text.files import PARTIAL, read_json, replacing
from scratchlm.text.prepare import (
    AnyTokenizer,
    Material,
    MaterialError,
    file_material,
    load_tokenizer,
    toytown_material,
    train_tokenizer,
    write_material,
)
from scratchlm.text.shards import Manifest, join_shards
from scratchlm.text.tokens import BatchCursor, open_tokens
from scratchlm.training.checkpoint import (
    blaming,
    checkpoint_folder,
    has_run,
)
from scratchlm.training.device import prefetched, tokens_per_second
from scratchlm.training.precision import supported
from scratchlm.training.trainer import (
    Interrupted,
    LogRecord,
    TrainConfig,
    Trainer,
    entropy_floor,
    read_log,
    read_train_config,
    same_rates,
    settle,
    tensorboard_writer,
)

KINDS = ("bpe", "characters")
BYTES = 257  # the tokens that a tokenizer has before it has learned
OTHER_RATES = (
    "its learning rates would have been others from the first step; "
    "with --schedule stable more steps change the end alone"
)
BRANCH = Parameter(
    name="--from",
    help="go on with this run in the new folder --out, with different --steps",
)
SHARD = Parameter(
    help="under torchrun, for a model that no single card holds: each process "
    "keeps a slice of weights, gradients and moments, and borrows the others "
    "block by block; more travels, and the files are the same",
)
VERIFY = Parameter(
    negative="--no-verify",
    help="whether files of a run must be as they were sealed (on)",
)


@dataclass(frozen=True)
class TextOptions:
    """What to learn from."""

    corpus: str = "toytown"  # toytown, shakespeare, a URL, file, folder, run
    characters: int = 5_000_000  # how much of Toytown to write
    corpus_seed: int = 2026  # which of its stories
    tokenizer: str = "bpe"  # bpe, characters, or a tokenizer's file

    def __post_init__(self) -> None:
        """Refuse what no text can have."""
        if not self.corpus.strip():
            raise ValueError("corpus is empty; leave it out for Toytown")
        if self.characters < 1:
            raise ValueError("characters must be 1 or more")
        if self.corpus_seed < 0:
            raise ValueError("corpus_seed must be 0 or more")


@dataclass(frozen=True)
class BatchOptions:
    """What a step sees, and which random numbers are drawn."""

    batch_size: int = 32  # windows in a batch
    seed: int = 1  # of weights, batches and dropout

    def __post_init__(self) -> None:
        """Refuse what no batch can be."""
        if self.batch_size < 1:
            raise ValueError("batch_size must be 1 or more")
        if not 0 <= self.seed < 2**63:
            raise ValueError("seed must be 0 or more, and below 2^63")


@dataclass(frozen=True)
class RunOptions:
    """Where, how long, and what to see of it: no settings of the run."""

    out: Path | None = None  # folder for all of it (runs/, and the text's name)
    resume: bool = False  # go on with the run in --out
    from_: Annotated[Path | None, BRANCH] = None
    max_minutes: float | None = None  # fewer steps, to end in time
    max_usd: float | None = None  # the same, to end before it costs more
    usd_per_hour: float | None = None  # what an hour of the machine costs
    device: str = "auto"  # auto, cpu, cuda or mps
    shard: Annotated[bool, SHARD] = False
    sample_every: int = 5  # evaluations from sample to sample, 0: none
    tensorboard: bool = False  # write its log as well
    verify: Annotated[bool, VERIFY] = True
    dry_run: bool = False  # say what it would take, and write nothing

    def __post_init__(self) -> None:
        """Refuse what no run can have."""
        for name in ("max_minutes", "max_usd", "usd_per_hour"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} must be above 0, and finite")
        if self.max_usd is not None and self.usd_per_hour is None:
            raise ValueError("max_usd needs usd_per_hour, the machine's price")
        if self.out == Path():
            raise ValueError("--out needs a folder that is the run's own")
        if self.sample_every < 0:
            raise ValueError("sample_every must be 0 or more; 0 is none")
        if self.resume and self.from_:
            raise ValueError("--resume and --from exclude each other")
        if self.dry_run and (self.resume or self.from_):
            raise ValueError("--dry-run is for a new run, not --resume, --from")

    @property
    def limit(self) -> tuple[float, str] | None:
        """The minutes that are allowed, in time or money, and in words."""
        limits = []
        if self.max_minutes is not None:
            limits.append((self.max_minutes, f"{self.max_minutes:g} minutes"))
        if self.max_usd is not None and self.usd_per_hour is not None:
            minutes = 60 * self.max_usd / self.usd_per_hour
            limits.append((minutes, f"{self.max_usd:g} dollars"))
        return min(limits, default=None)


@dataclass(frozen=True)
class Job:
    """Everything that a run was asked for."""

    text: TextOptions
    model: GPTConfig
    training: TrainConfig
    batch: BatchOptions
    run: RunOptions

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the numbers, by name, as JSON keeps it."""
        parts = (self.text, self.model, self.training, self.batch)
        together = {k: v for part in parts for k, v in asdict(part).items()}
        kept: dict[str, Any] = json.loads(json.dumps(together))
        return kept

    @property
    def folder(self) -> Path:
        """Where the run lives: as told, or under the name of its text."""
        return self.run.out or folder_of(self.text.corpus)


# --- text --------------------------------------------------------------------


def read_material(text: TextOptions) -> Material:
    """The text that --corpus names."""
    if text.corpus == "toytown":
        with users_input():  # too few for the three parts
            return toytown_material(text.characters, text.corpus_seed)
    path = Path(text.corpus)
    with users_input():
        if corpus.is_address(text.corpus) or not path.exists():
            path = corpus.get(text.corpus, DATA, mirror=mirror())
        if path.is_dir() and not (path / "train.jsonl").exists():
            return folder_material(path)
        return file_material(path, text.corpus)


def folder_material(path: Path) -> Material:
    """Nine tenths of a folder's texts to learn from, one to be judged by."""
    texts = list(corpus.read_documents(path))
    cut = int(0.9 * len(texts))
    if cut == 0 or not "".join(texts[cut:]).strip():
        raise MaterialError(
            f"{path} holds {len(texts)} texts; it takes two or more"
        )
    return Material(texts[:cut], texts[cut:], True, {"corpus": str(path)})


def make_tokenizer(job: Job, material: Material) -> AnyTokenizer:
    """The tokenizer in a file, or one learned from the text."""
    kind, texts = job.text.tokenizer, iter(material.train)
    if kind == "characters":  # a letter may be in only one part
        texts = chain(texts, material.validation)
    with users_input():
        if kind not in KINDS:
            return load_tokenizer(Path(kind))
        return train_tokenizer(kind, texts, job.model.vocab_size)


def encoded(text: str) -> Path | None:
    """The run or the shards that --corpus names, which bring their tokens."""
    if text == "toytown" or corpus.is_address(text):
        return None
    path = Path(text)
    return path if has_run(path) or holds_shards(path) else None


def write_text(job: Job) -> dict[str, Any]:
    """Write tokenizer and tokens into the run's folder; return the facts."""
    source = encoded(job.text.corpus)
    if source and has_run(source):
        facts, tokenizer = take_text(job)
    elif source:
        facts, tokenizer = take_shards(job)
    else:
        material = read_material(job.text)
        tokenizer = make_tokenizer(job, material)
        with users_input():
            facts = write_material(material, tokenizer, job.folder)
    return {
        "tokenizer": job.text.tokenizer,
        **facts,
        "fingerprint": tokenizer.fingerprint,
        "batch_size": job.batch.batch_size,
        "seed": job.batch.seed,
        "text": asdict(job.text),
    }


def take_text(job: Job) -> tuple[dict[str, Any], AnyTokenizer]:
    """Tokenizer and tokens of another run, so that runs can be compared."""
    source, kind = Path(job.text.corpus), job.text.tokenizer
    tokenizer = run_tokenizer(source, job.run.verify)
    data = read_settings(source)["data"]
    if kind not in (KINDS[0], data.get("tokenizer", KINDS[0])):
        raise UserError(
            f"--tokenizer {kind}: the run {source} brings its tokenizer with "
            "its tokens; leave it out, or name the text with --corpus"
        )
    names = ("train.tokens", "validation.tokens")
    if job.run.verify:
        check_files(source, *names)
    for name in ("tokenizer.json", *names):
        with replacing(job.folder / name) as partial:
            shutil.copyfile(source / name, partial)
    ours = ("fingerprint", "batch_size", "seed", "text")
    facts = {k: v for k, v in data.items() if k not in (*ours, "resolved")}
    return facts, tokenizer


def take_shards(job: Job) -> tuple[dict[str, Any], AnyTokenizer]:
    """Tokenizer and tokens that `corpus shards` wrote, as files of the run."""
    source, facts = Path(job.text.corpus), {"corpus": job.text.corpus}
    if job.text.tokenizer != KINDS[0]:
        raise UserError(
            f"--tokenizer {job.text.tokenizer}: the shards in {source} bring "
            "theirs; leave it out, or name the text with --corpus"
        )
    tokenizer = load_tokenizer(source / "tokenizer.json")
    tokenizer.save(job.folder / "tokenizer.json")
    counts = {
        f"{part}_tokens": join_shards(
            source / part, job.folder / f"{part}.tokens"
        )
        for part in PARTS
    }
    judged = Manifest.read(source / "validation").shards.values()
    size = sum(shard.bytes for shard in judged)
    return {**facts, **counts, "validation_bytes": size}, tokenizer


@contextlib.contextmanager
def all_or_nothing(folder: Path) -> Iterator[None]:
    """Remove what was written, unless it became a run.

    A folder that was there before stays, with everything that is not ours.
    """
    there = {path.name for path in folder.iterdir()}
    try:
        yield
    except BaseException:
        if not has_run(folder):
            for path in folder.iterdir():
                ours = path.name in OURS or path.name.endswith(PARTIAL)
                if ours and path.name not in there:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
        raise


# --- one process among several -----------------------------------------------


def rows(batch_size: int) -> int:
    """The windows of a batch that fall to one process, at most.

    Refuses a batch that leaves a process without work.
    """
    if batch_size < ranks():
        raise UserError(
            f"--batch-size {batch_size} is too small for {ranks()} processes: "
            "each takes a window or more"
        )
    return math.ceil(batch_size / ranks())


def part(train: BatchCursor) -> BatchCursor:
    """A cursor whose batches are as large as what one process takes."""
    size = rows(train.batch_size)
    return BatchCursor(train.tokens, train.context, size, train.seed)


def check_shard(job: Job) -> None:
    """Refuse --shard if a model cannot be divided."""
    if not job.run.shard:
        return
    if job.training.optimizer == "muon":
        raise UserError(
            "--shard with --optimizer muon: Muon makes each update from a "
            "whole matrix, and no process would hold one; choose adamw or "
            "fused_adamw, or train without --shard"
        )
    if ranks() == 1 and not job.run.dry_run:
        raise UserError(
            "--shard divides a model among processes, and this is the only "
            "one; start several: torchrun --standalone --nproc-per-node 2 "
            "-m scratchlm train --shard, with the other options after it"
        )


def shards(job: Job) -> int:
    """Among how many processes the model is divided."""
    return ranks() if job.run.shard else 1


def trainer_class(job: Job) -> type[Trainer]:
    """The trainer of one process, or of one among several."""
    if ranks() == 1:
        return Trainer
    from scratchlm.training import distributed  # takes a second

    if job.run.shard:
        return distributed.ShardTrainer
    return distributed.RankTrainer


def rank_device(wanted: str) -> str:
    """The device of this process: a graphics card of its own, or the CPU."""
    if wanted == "mps":
        raise UserError("--device mps serves one process; choose cpu or cuda")
    if wanted == "auto":
        wanted = "cuda" if "cuda" in devices() else "cpu"
    if wanted == "cuda":
        wanted = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    return check_device(wanted)


def ahead(cursor: BatchCursor, device: str) -> Any:
    """The cursor of one process, which fetches ahead on a graphics card.

    Each of several processes sends its own share of a batch, and no more.
    """
    if ranks() == 1:
        return prefetched(cursor, torch.device(device))
    from scratchlm.training.distributed import share  # takes a second

    own = partial(share, rank=int(os.environ["RANK"]), ranks=ranks())
    return prefetched(cursor, torch.device(device), own)


def follower(job: Job) -> Any:
    """The trainer of a process that takes part in what rank 0 has begun."""
    opened = open_run(job.folder, job.run.verify)
    return trainer_class(job).resume(
        job.folder,
        ahead(opened.train, job.run.device),
        opened.validation,
        device=job.run.device,
        verify=job.run.verify,
    )


def train_together(job: Job, start: float) -> None:
    """Train under `torchrun`: rank 0 leads, the others take part."""
    from scratchlm.training import distributed

    rows(job.batch.batch_size)  # refused before anybody waits
    run = replace(job.run, device=rank_device(job.run.device))
    job = replace(job, run=run)
    try:
        with distributed.joined(run.device) as rank:
            if rank == 0:
                with distributed.leading():
                    train_alone(job, start)
            else:
                distributed.assist(lambda: follower(job))
    except distributed.RankLost as error:
        raise UserError(str(error)) from error


# --- a run -------------------------------------------------------------------


def check(job: Job) -> None:
    """Refuse what cannot work, before any text is read."""
    if has_run(job.folder):
        raise UserError(
            f"{job.folder} holds another run; go on with it (train --resume "
            f"--out {job.folder}), branch it (train --from {job.folder} "
            "--out NEW), or name another folder with --out"
        )
    check_folder(job.folder)
    kind = job.text.tokenizer
    if kind not in KINDS and not Path(kind).is_file():
        raise UserError(
            f"tokenizer {kind!r} is no file here; choose "
            f"{', '.join(KINDS)}, or a file that `tokenizer train` wrote"
        )
    if any(step < 0 for step in job.training.snapshots):
        raise UserError("--snapshots are steps, 0 or more")
    if kind == "bpe" and job.model.vocab_size < BYTES:
        raise UserError(
            f"--vocab-size {job.model.vocab_size}: byte pairs begin with the "
            f"256 bytes and the end token, so {BYTES} is the least"
        )
    if job.text.corpus == "toytown" and job.model.context > job.text.characters:
        raise UserError(
            f"--context {job.model.context}: the text has only "
            f"{job.text.characters} characters; write more with --characters"
        )


def check_precision(job: Job, device: str) -> None:
    """Refuse numbers in which a device cannot train."""
    precision, known = job.training.precision, supported(kind_of(device))
    if precision not in ("auto", *known):
        raise UserError(
            f"--precision {precision}: {device} cannot train in it; choose "
            f"auto or {' or '.join(known)}"
        )


def make_model(job: Job, vocab_size: int, device: str) -> GPT:
    """The model, with its first weights, on its device."""
    torch.manual_seed(job.batch.seed)
    return GPT(replace(job.model, vocab_size=vocab_size)).to(device)


def device_for(job: Job) -> str:
    """The device to train on: the one named, or the fastest here."""

    def trial(device: str) -> float:
        known = ("auto", *supported(device))
        if job.training.precision not in known:
            return math.inf
        size = job.batch.batch_size
        need = estimate.peak_memory(job.model, job.training, size)
        if need > estimate.machine_memory(device):
            return math.inf
        model = make_model(job, job.model.vocab_size, device)
        batches = estimate.exercise(job.model.context, size)
        training = settle(job.training, model, size)
        return estimate.measure(model, batches, training).step

    if job.run.device != "auto":
        return check_device(job.run.device)
    return estimate.choose_device("auto", trial)


def within(job: Job, speed: estimate.Speed, judge: float, start: float) -> Job:
    """The job with as many steps as fit into --max-minutes, --max-usd."""
    if job.run.limit is None:
        return job
    minutes, words = job.run.limit
    left = minutes - (time.monotonic() - start) / 60
    every = job.training.evaluate_every
    steps = estimate.steps_in(left, every, speed, judge)
    if steps < 1:
        raise UserError(
            f"{words}: a step takes {speed.step:.1f} s and preparing the "
            "text took the rest; allow more with --max-minutes or --max-usd, "
            "or choose a smaller model or text"
        )
    steps = min(steps, job.training.steps)
    return replace(job, training=replace(job.training, steps=steps))


def kept(training: TrainConfig) -> TrainConfig:
    """Snapshots of the steps that the run reaches, and of its last, if any."""
    if not training.snapshots:
        return training
    reached = [s for s in training.snapshots if s < training.steps]
    return replace(training, snapshots=(*reached, training.steps))


def stand_in(job: Job, vocab_size: int, device: str) -> GPT:
    """A model to be timed: one layer of it, if it is to be divided."""
    if job.run.shard:
        job = replace(job, model=replace(job.model, layers=1))
    return make_model(job, vocab_size, device)


def dry_run(job: Job) -> None:
    """Say what the run would take; no text is read, nothing is written."""
    if ranks() > 1:
        raise UserError("--dry-run is for one process; leave torchrun out")
    check(job)
    device = later_device(job) if job.run.shard else device_for(job)
    check_precision(job, device)
    shape, loop, batch = job.model, job.training, job.batch.batch_size
    named, source = job.text.tokenizer, encoded(job.text.corpus)
    if source or named not in KINDS:
        file = source / "tokenizer.json" if source else Path(named)
        known = load_tokenizer(file)
        shape = replace(shape, vocab_size=known.vocab_size)
        job = replace(job, model=shape)
    if job.run.shard:
        memory = estimate.on_each(shape, loop, batch, (2, 4, 8))
    else:
        memory = estimate.check_memory(shape, loop, batch, device)
    model = stand_in(job, shape.vocab_size, device)
    training = settle(loop, model, batch)
    batches, start = estimate.exercise(shape.context, batch), time.monotonic()
    speed = estimate.measure(model, batches, training)
    speed = speed.of(model.config, shape, 1)
    job = within(replace(job, training=training), speed, 0.0, start)
    facts = {"batch_size": batch}
    print(estimate.describe_run(shape, job.training, facts, speed))
    wanted = job.run.device
    for line in estimate.slow_choices(model, loop, batch, shape, 1, wanted):
        print(f"slow     {line}")
    print(f"memory   {memory}")
    print(f"nothing is written; the run would go to {job.folder}")


def cursors(job: Job, tokenizer: AnyTokenizer) -> tuple[BatchCursor, Any]:
    """The batches to learn from, and the tokens to be judged by."""
    mark = tokenizer.fingerprint
    train = open_tokens(job.folder / "train.tokens", mark).tokens
    valid = open_tokens(job.folder / "validation.tokens", mark).tokens
    batch = job.batch
    with users_input():  # a text that is shorter than one batch
        cursor = BatchCursor(
            train, job.model.context, batch.batch_size, batch.seed
        )
    if len(valid) < 2:
        raise UserError(
            f"{job.text.corpus} leaves {len(valid)} tokens to be judged by, "
            "and it takes two to predict one; give more text"
        )
    return cursor, valid


def announce(memory: str, slow: list[str], facts: dict[str, Any]) -> None:
    """Print what a run needs, what makes it slow, and what bounds it."""
    print(f"memory   {memory}")
    for line in slow:
        print(f"slow     {line}")
    if (floor := entropy_floor(facts)) is not None:
        print(f"floor    {floor:.4f} nats per token: only luck is better")
    sys.stdout.flush()


def new_trainer(job: Job, start: float) -> Trainer:
    """The trainer of a new run, with its text, tokenizer, tokens and model."""
    asked_for, loop = job.settings, job.training
    device, batch = device_for(job), rows(job.batch.batch_size)
    check_precision(job, device)
    parts = shards(job)
    estimate.check_memory(job.model, loop, batch, device, parts)
    facts = write_text(job)
    tokenizer = load_tokenizer(job.folder / "tokenizer.json")
    shape = replace(job.model, vocab_size=tokenizer.vocab_size)
    memory = estimate.check_memory(shape, loop, batch, device, parts)
    cursor, validation = cursors(job, tokenizer)
    timed = stand_in(job, tokenizer.vocab_size, device)
    training = settle(loop, timed, batch)
    job = replace(job, training=training)
    speed = estimate.measure(timed, part(cursor), training)
    wanted = job.run.device
    slow = estimate.slow_choices(timed, loop, batch, shape, parts, wanted)
    model = timed
    if job.run.shard:  # in main memory; the trainer divides it
        model = make_model(job, tokenizer.vocab_size, "cpu")
        speed = speed.of(timed.config, model.config, parts)
    judge = speed.evaluation(len(validation), job.model.context)
    training = kept(within(job, speed, judge, start).training)
    print(estimate.describe_run(model.config, training, facts, speed))
    announce(memory, slow, facts)
    now = asdict(model.config) | asdict(training)
    facts["resolved"] = resolved(asked_for, now)
    return trainer_class(job)(
        model,
        ahead(cursor, device),
        validation,
        training,
        job.folder,
        show_progress(tokenizer, job.run.sample_every, device),
        facts,
        job.run.tensorboard,
    )


def resolved(wanted: dict[str, Any], got: dict[str, Any]) -> dict[str, Any]:
    """What was found out since it was asked: name → both values."""
    return {
        name: [wanted[name], value]
        for name, value in json.loads(json.dumps(got)).items()
        if wanted[name] != value
    }


def changed(job: Job, run: Path) -> list[str]:
    """The settings asked for that differ from those of a run, by name."""
    before, now = asked(run, job.run.verify), job.settings
    return [name for name in before if before[name] != now.get(name)]


def refuse(names: list[str], why: str) -> None:
    """Refuse settings that a run can no longer change."""
    if names:
        options = ", ".join("--" + name.replace("_", "-") for name in names)
        raise UserError(f"{options} cannot change when a run {why}")


def later_device(job: Job, run: Path | None = None) -> str:
    """The device that is named, the run's own, or the fastest."""
    device, found = job.run.device, devices()
    if device == "auto" and run is not None:
        path = checkpoint_folder(run, job.run.verify) / "state.json"
        with blaming(path):
            device = read_json(path)["random"]["device"][0]
        device = device if device in found else "auto"
    return check_device(found[-1] if device == "auto" else device)


def later_memory(
    opened: Opened, training: TrainConfig, device: str, parts: int
) -> str:
    """How much memory a run that goes on needs, in words."""
    if training.precision not in supported(kind_of(device)):
        raise UserError(
            f"{device} cannot train in {training.precision}, as this run "
            "does; name another --device, or branch it: train --from RUN "
            "--out NEW --precision float32"
        )
    size = rows(opened.train.batch_size)
    return estimate.check_memory(opened.model, training, size, device, parts)


def resumed_trainer(job: Job) -> Trainer:
    """The trainer of a run that goes on; other settings are refused."""
    run, device = job.run, later_device(job, job.folder)
    refuse(
        changed(job, job.folder),
        "is resumed; leave it out, or branch the run: "
        f"train --from {job.folder} --out NEW",
    )
    opened = open_run(job.folder, run.verify)
    training = read_train_config(job.folder, run.verify)
    memory = later_memory(opened, training, device, shards(job))
    trainer = trainer_class(job).resume(
        job.folder,
        ahead(opened.train, device),
        opened.validation,
        show_progress(opened.tokenizer, run.sample_every, device),
        run.tensorboard,
        device,
        run.verify,
    )
    print(f"resuming {job.folder} after step {trainer.step}")
    print(f"memory   {memory}", flush=True)
    return trainer


def branched_trainer(job: Job, source: Path) -> Trainer:
    """The trainer of a new run that begins where another one is."""
    run, device = job.run, later_device(job, source)
    if run.out is None:
        raise UserError(f"--from {source} needs a new folder: add --out NEW")
    fixed = asdict(job.model) | asdict(job.text) | asdict(job.batch)
    names = changed(job, source)
    refuse([n for n in names if n in fixed], "is branched; train a new one")
    opened = open_run(source, run.verify)
    old = read_train_config(source, run.verify)
    names += ["steps", "snapshots"]  # fewer may have fit
    config = replace(old, **{n: getattr(job.training, n) for n in names})
    config = kept(config)
    memory = later_memory(opened, config, device, shards(job))
    with users_input():  # no more steps, another optimizer
        trainer = trainer_class(job).branch(
            source,
            job.folder,
            config,
            ahead(opened.train, device),
            opened.validation,
            run.verify,
            on_sample=show_progress(opened.tokenizer, run.sample_every, device),
            tensorboard=run.tensorboard,
            device=device,
        )
    print(f"going on in {job.folder} after step {trainer.step} of {source}")
    print(f"memory   {memory}", flush=True)
    if not same_rates(old, config, trainer.step):
        print(OTHER_RATES)
    return trainer


def fit(job: Job, trainer: Trainer, start: float) -> float | None:
    """Train to the end, or until time or money runs out: then None."""
    left, words = None, ""
    if job.run.limit is not None:
        minutes, words = job.run.limit
        left = 60 * minutes - (time.monotonic() - start)
    limit = TimeLimit(left)
    try:
        with limit:
            return trainer.fit()
    except (Interrupted, KeyboardInterrupt) as stopped:
        name = shlex.quote(str(job.folder))
        said = str(stopped) or f"go on with: train --resume --out {name}"
        if not (limit.over and has_run(job.folder)):
            raise KeyboardInterrupt(str(stopped)) from None
        print(f"the {words} are over: {said}")
    return None


def carry_out(job: Job, start: float) -> tuple[Trainer, float | None]:
    """Make the trainer and let it train, alone in its folder."""
    if job.run.from_:
        trainer = branched_trainer(job, job.run.from_)
        with alone(job.folder):
            return trainer, fit(job, trainer, start)
    if job.run.resume:
        with alone(job.folder):
            trainer = resumed_trainer(job)
            return trainer, fit(job, trainer, start)
    check(job)
    with alone(job.folder), all_or_nothing(job.folder):
        trainer = new_trainer(job, start)
        return trainer, fit(job, trainer, start)


@contextlib.contextmanager
def advising(job: Job) -> Iterator[None]:
    """Say what to do if memory runs out or the compiler fails."""
    training = job.training
    batch = math.ceil(job.batch.batch_size / ranks())  # of one process
    try:
        yield
    except Exception as error:
        if training.compile and estimate.is_about_compiling(error):
            raise UserError(estimate.advice_on_compiling(error)) from error
        if not estimate.is_out_of_memory(error):
            raise
        device = job.run.device
        if device == "auto":
            main = isinstance(error, MemoryError) or "CPUAll" in str(error)
            device = "cpu" if main else devices()[-1]
        raise UserError(
            estimate.advice_on_memory(
                job.model, training, batch, device, shards(job)
            )
        ) from error


def find_tensorboard() -> None:
    """Refuse to show what cannot be shown, before anything is done."""
    try:
        tensorboard_writer()
    except ImportError as error:
        raise UserError(str(error)) from error


def pace(trainer: Trainer, lines: list[LogRecord]) -> str:
    """How fast it went, and what share of the device's peak that is."""
    if len(lines) < 2 or lines[0]["seconds"] == lines[-1]["seconds"]:
        return "too short to be timed"
    config, rate = trainer.model.config, tokens_per_second(lines)
    text = f"{rate:,.0f} tokens a second, "
    text += f"{flops_per_token(config) * rate:.1e} operations"
    if found := share_of_peak(config, rate, trainer.device):
        card = found[1] if ranks() == 1 else f"each {found[1]}"
        text += f": {found[0]:.1%} of what {card} has in bfloat16"
    return text


def report(folder: Path, trainer: Trainer, best: float) -> None:
    """What came out, drawn and in words, and what to try next."""
    log = {str(folder): read_log(folder)}
    save_plot(log, folder / "loss.svg")
    if sys.stdout.isatty():
        print_plot(log)
    print(f"done: best validation loss {best:.4f} nats per token")
    if (floor := entropy_floor(trainer.data)) is not None:
        print(f"      the text's own entropy {floor:.4f}")
    print(f"      {pace(trainer, log[str(folder)])}")
    print(f"      drawn in {folder / 'loss.svg'}")
    prompt = shlex.quote(opening(folder))
    print(
        f"next: python -m scratchlm sample --run {shlex.quote(str(folder))} "
        f"--prompt {prompt}"
    )


def train_alone(job: Job, start: float) -> None:
    """Train from the first word to the last, and say what came out."""
    with advising(job):
        trainer, best = carry_out(job, start)
    if job.run.usd_per_hour is not None:
        seconds = time.monotonic() - start
        paid = seconds / 3600 * job.run.usd_per_hour
        print(f"cost: {paid:.3f} dollars for {estimate.duration(seconds)}")
    if best is not None:
        report(job.folder, trainer, best)


describe(TextOptions, PRESETS["small"] | asdict(TextOptions()))
describe(GPTConfig, PRESETS["small"])
describe(TrainConfig, PRESETS["small"])
describe(BatchOptions, asdict(BatchOptions()) | PRESETS["small"])
describe(RunOptions, asdict(RunOptions()))

PRESET_HELP = "; ".join(f"{name}: {text}" for name, text in WORDS.items())


def train(
    *,
    preset: Annotated[
        str, Parameter(help=f"settings under a name ({PRESET_HELP})")
    ] = "small",
    config: Annotated[
        Path | None,
        Parameter(help="file of settings over the preset: TOML, YAML, JSON"),
    ] = None,
    text: Annotated[TextOptions, options("Text")] = TextOptions(),
    model: Annotated[GPTConfig, options("Model")],
    training: Annotated[TrainConfig, options("Training")],
    batch: Annotated[BatchOptions, options("Training")] = BatchOptions(),
    run: Annotated[RunOptions, options("Run")] = RunOptions(),
) -> None:
    """Train a model, from nothing.

    Writes or fetches the text, learns the tokenizer, says what the run will
    take, trains, and keeps everything in one folder. Ctrl-C saves; --resume
    goes on as if nothing had happened. Without options it trains the book's
    model. An option wins over the --config file, and the file over the preset.

    Example:
      python -m scratchlm train --preset tiny --out runs/first
      python -m scratchlm train --corpus shakespeare --tokenizer characters
      python -m scratchlm train --preset small-gpt2 --steps 2000 --dry-run
      python -m scratchlm train --resume --out runs/first
      python -m scratchlm train --from runs/first --steps 400 --out runs/more

    Next: python -m scratchlm sample --run runs/first
    Book: The loop: a trainer
    """
    start = time.monotonic()
    job = Job(text, model, training, batch, run)
    check_shard(job)
    if run.tensorboard:
        find_tensorboard()
    if run.dry_run:
        with advising(job):
            return dry_run(job)
    if ranks() > 1:
        return train_together(job, start)
    train_alone(job, start)
