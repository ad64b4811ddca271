"""What the figures were taken on."""

from __future__ import annotations

import os
import platform
import sqlite3
import subprocess
from pathlib import Path

GIB = 1024**3


def machine() -> dict[str, str]:
    """The hardware, the system, and the versions of what every measurement stands on."""
    return {
        "CPU": _cpu(),
        "cores": str(os.cpu_count()),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / GIB:.0f} GiB",
        "system": _system(),
        "Python": platform.python_version(),
        "SQLite": sqlite3.sqlite_version,
    }


def _cpu() -> str:
    """The name that the maker gave it."""
    listed = Path("/proc/cpuinfo")
    if listed.exists():
        lines = [line.split(":", 1) for line in listed.read_text(encoding="utf-8").splitlines() if ":" in line]
        return next((value.strip() for key, value in lines if key.strip() == "model name"), platform.machine())
    if platform.system() == "Darwin":
        asked = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip() or platform.machine()
    return platform.processor() or platform.machine()


def _system() -> str:
    kernel = f"{platform.system()} {platform.release().split('-')[0]} {platform.machine()}"
    try:
        return f"{platform.freedesktop_os_release()['PRETTY_NAME']}, {kernel}"
    except (OSError, KeyError):
        return kernel
