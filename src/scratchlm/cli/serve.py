"""The command `serve`: a trained model, for programs and people to ask."""

import ipaddress
import os
import sys
from pathlib import Path
from typing import Annotated

import torch
from cyclopts import Parameter

from scratchlm.cli.errors import UserError, users_input
from scratchlm.cli.runs import (
    TOYTOWN,
    Device,
    RunFolder,
    Snapshot,
    Verify,
    check_device,
    read_settings,
    run_tokenizer,
)
from scratchlm.generation.batch import Engine
from scratchlm.serving.server import (
    LOCAL,
    Limits,
    Service,
    listen,
    make_app,
    make_server,
)
from scratchlm.training.checkpoint import load_model

KEY = "SCRATCHLM_KEY"  # in the environment


def find_key(path: Path | None) -> str | None:
    """The key, from a file or from the environment; never typed.

    What is typed can be seen by all who may list this machine's processes.
    """
    key = os.environ.get(KEY)
    if path is not None:
        if not path.is_file():
            raise UserError(f"{path}: there is no such file to read a key from")
        try:
            key = path.read_text(encoding="utf-8-sig")  # an editor's mark goes
        except UnicodeDecodeError:
            raise UserError(f"{path} is no UTF-8; save it as that") from None
    if key is None:
        return None
    key = key.strip()
    if not key:
        raise UserError(f"the key is empty; write one, or unset {KEY}")
    if not (key.isascii() and key.isprintable()):
        raise UserError(
            "the key has characters that programs send in different ways: "
            "write it in plain letters, digits and signs, on one line"
        )
    return key


def is_local(host: str) -> bool:
    """Whether only this machine reaches an address.

    >>> is_local("127.0.0.2"), is_local("0.0.0.0"), is_local("localhost")
    (True, False, True)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def serve(
    *,
    run: RunFolder = TOYTOWN,
    host: Annotated[
        str, Parameter(help="the address to listen at (127.0.0.1)")
    ] = "127.0.0.1",
    port: Annotated[
        int, Parameter(help="its port; 0 for a free one (8000)")
    ] = 8000,
    name: Annotated[
        str | None, Parameter(help="the model's name (the folder's)")
    ] = None,
    key_file: Annotated[
        Path | None,
        Parameter(help=f"a file with the key to ask for (or ${KEY})"),
    ] = None,
    origin: Annotated[
        tuple[str, ...],
        Parameter(help="sites whose pages may ask", negative=()),
    ] = (),
    rows: Annotated[
        int, Parameter(help="texts that are written at once (16)")
    ] = 16,
    waiting: Annotated[
        int, Parameter(help="texts written or waiting, in all (64)")
    ] = 64,
    open_to_all: Annotated[
        bool, Parameter(negative="", help="other machines need no key")
    ] = False,
    snapshot: Snapshot = None,
    device: Device = "cpu",
    verify: Verify = True,
) -> None:
    """Let programs and people ask a trained model.

    Speaks OpenAI's protocol: completions, and chat if the model was taught
    to answer. At the address itself is a page for trying the model. Ctrl-C
    ends the server once the texts being written are finished.

    Example:
      python -m scratchlm serve --run runs/toytown --port 8000
      curl http://127.0.0.1:8000/v1/completions \\
        -H "Content-Type: application/json" \\
        -d '{"model": "toytown", "prompt": "Mrs Pell", "max_tokens": 40}'

    Book: One model, many readers: a server
    """
    if not 0 <= port < 2**16:
        raise UserError(f"--port {port}: choose one below 65536, or 0")
    if rows < 1 or waiting < rows:
        raise UserError("--waiting includes the --rows; ask for 1 row or more")
    key = find_key(key_file)
    local = is_local(host)
    if not local and key is None and not open_to_all:
        raise UserError(
            f"--host {host}: other machines would reach this one, and no key "
            f"is set; set {KEY}, or name a --key-file, or say --open-to-all"
        )
    device = check_device(device)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # here; the engine's thread has them all
    tokenizer = run_tokenizer(run, verify)
    model = load_model(run, snapshot, verify).to(device)
    blocks = rows * (model.config.context // 16 + 2)
    with users_input():
        engine = Engine(model, blocks, rows=rows)
    limits = Limits(waiting=waiting)
    name = name or run.resolve().name
    data = read_settings(run)["data"]
    service = Service(
        model,
        tokenizer,
        name,
        key,
        limits,
        engine,
        data.get("begin", ()),
        data.get("normal"),
        data.get("instructed", False),
        threads,
    )
    app = make_app(service, (*LOCAL, host) if local else ["*"], origin)
    try:
        door = listen(host, port)
    except OSError as error:
        raise UserError(
            f"{host}, port {port}: {(error.strerror or str(error)).lower()}; "
            "choose another --port, or 0 for a free one"
        ) from error
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{door.getsockname()[1]}"
    print(f"{name} answers at {address}/v1; try it at {address}/", flush=True)
    make_server(app, "info", limits.seconds).run([door])
    print("ended", file=sys.stderr)
