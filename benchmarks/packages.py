"""Foreign programs that some benchmarks compare with: found or, where that is possible, installed.

Main thread.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from benchmarks.measure import Skip


def need(program: str, package: str) -> str:
    """The path of a program, installed from the system's packages by root on Debian. Raises Skip."""
    path = shutil.which(program)
    if path is None and os.name == "posix" and os.geteuid() == 0 and shutil.which("apt-get"):
        _install(package)
        path = shutil.which(program)
    if path is None:
        raise Skip(f"{program} is not installed (apt install {package})")
    return path


def _install(package: str) -> None:
    print(f"  installing {package} with apt-get", file=sys.stderr, flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "-qq", "install", "--yes", "--no-install-recommends", package]
    for command in (["apt-get", "-qq", "update"], install):
        # What goes wrong here shows in that the program is still not there.
        subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False)
