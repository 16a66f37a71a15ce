"""nvidia-smi, asked in a process of its own: a driver that hangs would hold up NVML's caller for good."""

from __future__ import annotations

import subprocess


def rows(fields: str, seconds: float) -> list[list[str]]:
    """The fields of each GPU as text, `[N/A]` where the driver doesn't say. The first field may contain commas.

    Raises what `ask` does.
    """
    answer = ask([f"--query-gpu={fields}", "--format=csv,noheader,nounits"], seconds)
    return [line.rsplit(", ", fields.count(",")) for line in answer.strip().splitlines()]


def ask(arguments: list[str], seconds: float) -> str:
    """What nvidia-smi prints. FileNotFoundError without a driver, SubprocessError if it fails or takes too long."""
    command = ["nvidia-smi", *arguments]
    return subprocess.run(
        command, capture_output=True, encoding="utf-8", errors="replace", timeout=seconds, check=True
    ).stdout
