"""What a run shows of itself while it trains, and a limit on its time."""

import signal
import threading
from collections.abc import Callable
from types import TracebackType

import torch
from tqdm import tqdm

from scratchlm.cli.estimate import duration
from scratchlm.cli.runs import ranks
from scratchlm.cli.sample import stream
from scratchlm.model.gpt import GPT, GPTConfig
from scratchlm.text.prepare import AnyTokenizer
from scratchlm.training.device import (
    promised,
    tokens_per_second,
    utilization,
)
from scratchlm.training.trainer import LogRecord


def share_of_peak(
    config: GPTConfig, rate: float, device: torch.device
) -> tuple[float, str] | None:
    """The model-flops utilization at a rate, and the name of the card.

    The rate is that of all processes, and each has a card. None for a
    processor, and for a card whose peak is not known.
    """
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    peak = promised(name)
    if peak is None:
        return None
    return utilization(config, rate / ranks(), peak), name


def speed(
    model: GPT,
    before: LogRecord | None,
    line: LogRecord,
    device: str | None = None,
) -> str:
    """Tokens a second since an earlier line, and the share of the peak.

    `device` is where the run trains, if not where the model is.
    """
    if before is None or not line["seconds"] > before["seconds"]:
        return ""
    rate = tokens_per_second([before, line])
    there = torch.device(device or next(model.parameters()).device)
    found = share_of_peak(model.config, rate, there)
    share = f", MFU {found[0]:.0%}" if found else ""
    return f"   {rate:,.0f} tokens/s{share}"


def show_progress(
    tokenizer: AnyTokenizer, every: int, device: str | None = None
) -> Callable[[GPT, LogRecord], None]:
    """What to print after an evaluation: losses, pace, now and then a text."""
    count, before = 0, None

    def show(model: GPT, line: LogRecord) -> None:
        nonlocal count, before
        tqdm.write(
            f"step {line['step']:6}   train {line['train_loss']:.4f}   "
            f"validation {line['validation_loss']:.4f}   "
            f"{duration(line['seconds'])}{speed(model, before, line, device)}"
        )
        count, before = count + 1, line
        if every and count % every == 0:
            pieces = stream(model, tokenizer, "", 40)
            tqdm.write("    " + "".join(pieces).replace("\n", "\n    "))

    return show


class TimeLimit:
    """Asks the run to stop, as Ctrl-C does, when its minutes are up.

    The trainer hears it between two steps and saves. `over` tells this stop
    from one that somebody asked for.
    """

    def __init__(self, seconds: float | None) -> None:
        """None: no limit."""
        self.over = False
        self.timer = None if seconds is None else self.make_timer(seconds)

    def make_timer(self, seconds: float) -> threading.Timer:
        """A thread that waits and ends with the process."""
        longest = threading.TIMEOUT_MAX  # or the system's clock overflows
        timer = threading.Timer(min(max(0.0, seconds), longest), self.expire)
        timer.daemon = True
        return timer

    def expire(self) -> None:
        """The minutes are up."""
        self.over = True
        signal.raise_signal(signal.SIGINT)

    def __enter__(self) -> "TimeLimit":
        """Begin to wait; raise KeyboardInterrupt if no time is left."""
        if self.timer and not self.timer.interval:
            self.over = True
            raise KeyboardInterrupt
        if self.timer:
            self.timer.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """The run ended first; no need to wait any longer."""
        if self.timer:
            self.timer.cancel()
