"""The worker's half of the doctor: GPU, compiler, limits, memory, hub; each with both outcomes."""

from __future__ import annotations

import http.server
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ftq.doctor.web import flower, hub
from ftq.programs import flower_address
from tests.tools import PATIENCE
from worker.doctor import checks, gpu, limits

# What nvidia-smi of driver 580.159.04 prints.
CARD = "NVIDIA H100 80GB HBM3, 81559, 81079, 580.159.04, 9.0"
TABLE = """\
Sun Nov 22 17:44:54 2026
+-----------------------------------------------------------------------------------------+
| NVIDIA-SMI 580.159.04             Driver Version: 580.159.04     CUDA Version: 13.0     |
+-----------------------------------------+------------------------+----------------------+
| GPU  Name                 Persistence-M | Bus-Id          Disp.A | Volatile Uncorr. ECC |
| Fan  Temp   Perf          Pwr:Usage/Cap |           Memory-Usage | GPU-Util  Compute M. |
|   0  NVIDIA H100 80GB HBM3          On  |   00000000:00:06.0 Off |                    0 |
| N/A   66C    P0            152W /  700W |       0MiB /  81559MiB |      0%      Default |
+-----------------------------------------+------------------------+----------------------+
"""
GB = 10**9


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """nvidia_smi(cards, table, exit_code): put one onto the PATH that prints this."""

    def write(cards: str = CARD, table: str = TABLE, exit_code: int = 0) -> None:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        (folder / "cards").write_text(cards + "\n" if cards else "")
        (folder / "table").write_text(table)
        program = folder / "nvidia-smi"
        program.write_text(f'#!/bin/sh\ncase "$1" in\n--query-gpu=*) cat {folder}/cards ;;\n*) cat {folder}/table ;;\n'
                           f"esac\nexit {exit_code}\n")  # fmt: skip
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
        monkeypatch.setattr(gpu, "SMI_SECONDS", PATIENCE)

    return write


def found(built_for: str | None, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    monkeypatch.setattr(gpu, "torch_cuda", lambda: built_for)
    return [(finding.level, finding.message) for finding in gpu.gpus()]


def test_a_good_gpu(nvidia_smi: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    nvidia_smi()
    assert found("13.0", monkeypatch) == [
        ("ok", "GPU 0: NVIDIA H100 80GB HBM3, 79.2 of 79.6 GiB free, driver 580.159.04"),
        ("ok", "torch is built for CUDA 13.0, the driver knows 13.0"),
    ]
    assert found("12.8", monkeypatch)[1][0] == "ok"  # a newer driver runs what is older


def test_two_gpus_one_of_them_busy(nvidia_smi: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    nvidia_smi(f"{CARD}\nNVIDIA L4, 23034, 800, 580.159.04, 8.9")
    assert [level for level, _ in found("13.0", monkeypatch)] == ["ok", "warning", "ok"]


def test_a_gpu_that_doesnt_tell_its_memory(nvidia_smi: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    nvidia_smi("NVIDIA GB10, [N/A], [N/A], 580.95.05, 12.1")
    assert found("13.0", monkeypatch)[0] == ("ok", "GPU 0: NVIDIA GB10, driver 580.95.05")


def test_a_gpu_that_is_too_old(nvidia_smi: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    nvidia_smi("Tesla P100-PCIE-16GB, 16384, 16000, 580.95.05, 6.0")
    level, message = found("13.0", monkeypatch)[0]
    assert (level, "compute capability 6.0, 7.5 is needed" in message) == ("problem", True)


def test_a_driver_too_old_for_torch(nvidia_smi: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    nvidia_smi(CARD.replace("580.159.04", "550.54.14"), TABLE.replace("CUDA Version: 13.0", "CUDA Version: 12.4"))
    assert found("13.0", monkeypatch)[1] == ("problem", "torch needs CUDA 13.0, driver 550.54.14 knows 12.4")
    assert list(gpu.gpus())[1].fix == "Update the driver to 580 or later."


def test_torch_for_the_cpu_or_none_beside_a_gpu(
    nvidia_smi: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    nvidia_smi()
    assert found("", monkeypatch)[1] == ("problem", "there is a GPU, but torch is a build for the CPU")
    assert found(None, monkeypatch)[1] == ("problem", "torch isn't installed")


def test_a_driver_that_fails(nvidia_smi: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    mismatch = "Failed to initialize NVML: Driver/library version mismatch"
    nvidia_smi(mismatch, mismatch, exit_code=18)
    assert found("13.0", monkeypatch) == [("problem", f"nvidia-smi failed: {mismatch}")]


def test_a_driver_that_hangs(nvidia_smi: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvidia_smi()
    (tmp_path / "bin" / "nvidia-smi").write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(gpu, "SMI_SECONDS", 0.1)
    assert found("13.0", monkeypatch) == [("problem", "nvidia-smi failed: no answer within 0.1 s")]


def test_no_gpu(nvidia_smi: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert [level for level, _ in found("13.0", monkeypatch)] == ["warning"]
    assert [level for level, _ in found("", monkeypatch)] == ["note"]
    nvidia_smi("")
    assert [level for level, _ in found("13.0", monkeypatch)] == ["warning"]


def test_torchs_cuda_is_read_without_importing_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "torch"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    for line, found in (("cuda: Optional[str] = '13.0'", "13.0"), ("cuda: Optional[str] = None", "")):
        (package / "version.py").write_text(f"debug = False\n{line}\nhip: Optional[str] = None\n")
        assert gpu.torch_cuda() == found
    shutil.rmtree(package)
    sys.path_importer_cache.clear()
    assert gpu.torch_cuda() is None


# ---- compiler ---------------------------------------------------------------------------------------------


def test_the_compiler_and_pythons_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(checks, "torch_cuda", lambda: "13.0")

    def found() -> list[tuple[str, str]]:
        return [(finding.level, finding.fix) for finding in checks.compiler(tmp_path, str(tmp_path))]

    assert found() == [("note", "apt-get install gcc")]  # a CPU trains without
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    assert found() == [("problem", "apt-get install gcc")]
    (tmp_path / "gcc").write_text("#!/bin/sh\n")
    (tmp_path / "gcc").chmod(0o755)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert found() == [("problem", f"apt-get install python{version}-dev")]
    (tmp_path / "Python.h").write_text("")
    assert found() == [("ok", "")]


# ---- limits -----------------------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine of 64 GiB, this process in the group /box/ftq."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text(f"MemTotal:       {64 * 2**20} kB\nMemFree: 1 kB\n")
    (tmp_path / "proc/self/cgroup").write_text("0::/box/ftq\n")
    (tmp_path / "sys/fs/cgroup/box/ftq").mkdir(parents=True)
    return tmp_path


def told(root: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    monkeypatch.setattr(limits.os, "cpu_count", lambda: 16)
    return [(finding.level, finding.message) for finding in limits.limits(root)]


def test_no_limits(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unlimited = [("ok", "68.7 GB of memory"), ("ok", "16 processor cores")]
    assert told(root, monkeypatch) == unlimited
    (root / "sys/fs/cgroup/box/ftq/memory.max").write_text("max\n")
    (root / "sys/fs/cgroup/box/ftq/cpu.max").write_text("max 100000\n")
    assert told(root, monkeypatch) == unlimited


def test_the_least_limit_of_the_groups_counts(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    group = root / "sys/fs/cgroup/box"
    (group / "ftq/memory.max").write_text(f"{40 * GB}\n")
    (group / "memory.max").write_text(f"{32 * GB}\n")
    (group / "ftq/cpu.max").write_text("250000 100000\n")
    (group / "cpu.max").write_text("max 100000\n")
    assert told(root, monkeypatch) == [
        ("note", "32.0 GB of memory, limited from 68.7 GB"), ("note", "2.5 of 16 processor cores")
    ]  # fmt: skip


def test_limits_that_are_too_small(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "sys/fs/cgroup/memory.max").write_text(f"{4 * GB}\n")
    (root / "sys/fs/cgroup/cpu.max").write_text("50000 100000\n")
    assert [level for level, _ in told(root, monkeypatch)] == ["warning", "warning"]


def test_limits_of_version_1(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "proc/self/cgroup").write_text("4:memory:/box\n1:cpu,cpuacct:/box\n0::/\n")
    for name, text in (("memory/box/memory.limit_in_bytes", f"{20 * GB}"), ("memory/memory.limit_in_bytes", f"{2**63}"),
                       ("cpu/box/cpu.cfs_quota_us", "400000"), ("cpu/box/cpu.cfs_period_us", "100000"),
                       ("cpu/cpu.cfs_quota_us", "-1"), ("cpu/cpu.cfs_period_us", "100000")):  # fmt: skip
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    assert told(root, monkeypatch) == [
        ("note", "20.0 GB of memory, limited from 68.7 GB"), ("note", "4 of 16 processor cores")
    ]  # fmt: skip


def test_shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for free, level in ((64e6, "warning"), (8e9, "ok")):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: shutil._ntuple_diskusage(8e9, 0, free))
        assert [finding.level for finding in checks.shared_memory(tmp_path)] == [level]
    assert [finding.level for finding in checks.shared_memory(tmp_path / "none")] == ["note"]


# ---- web --------------------------------------------------------------------------------------------------


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], str]]:
    """web(status) -> the URL of a server that answers everything with it, however long it takes."""
    for seconds in ("FLOWER_SECONDS", "HUB_SECONDS"):
        monkeypatch.setattr(f"ftq.doctor.web.{seconds}", PATIENCE)
    servers: list[http.server.HTTPServer] = []

    def serve(status: int) -> str:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        servers.append(http.server.HTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, kwargs={"poll_interval": 0.01}).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def test_the_hub(web: Callable[[int], str]) -> None:
    def levels(**environ: str) -> list[str]:
        return [finding.level for finding in hub(environ)]

    assert levels(HF_ENDPOINT=web(200)) == levels(HF_ENDPOINT=web(403)) == ["ok"]
    assert levels(HF_ENDPOINT=web(502)) == levels(HF_ENDPOINT="http://127.0.0.1:1") == ["warning"]
    assert levels(HF_HUB_OFFLINE="1", HF_ENDPOINT=web(502)) == ["note"]


def test_flower(web: Callable[[int], str], home: Path) -> None:
    def look(url: str | None) -> tuple[str, str]:
        [finding] = flower(home, url)
        return finding.level, finding.message

    assert look(web(200))[0] == look(web(401))[0] == "ok"
    for url in ("http://127.0.0.1:1", "nonsense", "http://", "file:///etc"):
        assert look(url)[0] == "note"
    url = web(200)
    flower_address(home).parent.mkdir(parents=True)
    flower_address(home).write_text(f"{url}\n")
    assert look(None) == ("ok", f"Flower answers at {url}")


# ---- together ---------------------------------------------------------------------------------------------


def test_the_workers_half_prints_json_and_imports_no_torch() -> None:
    done = subprocess.run([sys.executable, "-m", "worker.doctor.checks"], capture_output=True, text=True, check=True)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert {"versions", "limits", "shared memory", "disk", "hub"} <= {finding["check"] for finding in found}
    code = "import sys, worker.doctor.checks as d; list(d.gpus()); list(d.packages()); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
