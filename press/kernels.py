"""Kernels for pages that are forks: see `press.forks`.

Where there are none, Jupyter makes its own.
"""

import atexit
import os
import signal
import sys
from typing import Any

from jupyter_client.manager import AsyncKernelManager

from press.forks import FORKS, context, settle

PROGRAM = "ipykernel_launcher"


def run_kernel(
    arguments: list[str], folder: str, environment: dict[str, str]
) -> None:
    """In a fork: be a kernel. Its start-up file puts up the guard."""
    from ipykernel.kernelapp import IPKernelApp

    settle(folder, environment)
    sys.argv = [PROGRAM, *arguments]
    parent = f"--IPKernelApp.parent_handle={os.getppid()}"  # it ends with us
    try:
        IPKernelApp.launch_instance([*arguments, parent])
    finally:
        atexit._run_exitfuncs()  # which multiprocessing leaves out


class Forked:
    """A forked kernel, by the methods of `subprocess.Popen`."""

    stdin = stdout = stderr = None

    def __init__(
        self, arguments: list[str], folder: str, environment: dict[str, str]
    ) -> None:
        self.process = context().Process(
            target=run_kernel, args=(arguments, folder, environment)
        )
        self.process.start()
        assert self.process.pid is not None
        self.pid = self.process.pid

    def poll(self) -> int | None:
        """The exit code; None while it runs."""
        return self.process.exitcode

    def wait(self) -> int | None:
        """Wait until it is gone."""
        self.process.join()
        return self.process.exitcode

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it is there."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)


class KernelManager(AsyncKernelManager):
    """Jupyter's manager, whose kernels are forks where that works."""

    async def _async_launch_kernel(
        self, kernel_cmd: list[str], **kw: Any
    ) -> None:
        """Start the kernel that the command would start."""
        provisioner: Any = self.provisioner
        if not FORKS or PROGRAM not in kernel_cmd:
            await super()._async_launch_kernel(kernel_cmd, **kw)
            return
        arguments = kernel_cmd[kernel_cmd.index(PROGRAM) + 1 :]
        folder = str(kw.get("cwd") or os.getcwd())
        kernel = Forked(arguments, folder, dict(kw["env"]))
        provisioner.process, provisioner.pid = kernel, kernel.pid
        provisioner.pgid = kernel.pid
        self._reconcile_connection_info(provisioner.connection_info)
