"""The official clients in the versions that people have. Without a package index their tests are skipped."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def python_with(version: str, folder: Path) -> Path:
    """An interpreter whose only packages are the Python client's; this one's for the version `installed`."""
    if version == "installed":
        return Path(sys.executable)
    python = folder / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True, capture_output=True, timeout=120)
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"openai=={version}"]
    if subprocess.run(command, capture_output=True, timeout=300).returncode:
        pytest.skip(f"pip can't install openai {version}: is there an index?")
    return python


def node_with(version: str, folder: Path, script: Path) -> Path:
    """The script beside the client for Node of this version."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("no Node: apt-get install nodejs npm")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "package.json").write_text('{"type": "module"}')
    command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", f"openai@{version}"]
    if subprocess.run(command, cwd=folder, capture_output=True, timeout=120).returncode:
        pytest.skip("npm can't install openai: is there a registry?")
    return Path(shutil.copy(script, folder))


def spoken(command: list[str | Path], url: str, key: str, seconds: float, **environment: str) -> str:
    """What a script with a client prints. It knows the gateway by OPENAI_BASE_URL and OPENAI_API_KEY alone."""
    settings = {"OPENAI_BASE_URL": f"{url}/v1", "OPENAI_API_KEY": key, **environment}
    known = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    ended = subprocess.run(command, env=known | settings, capture_output=True, text=True, timeout=seconds)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout
