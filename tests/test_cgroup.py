"""What is left of a container's memory: the least of its group and those above, the page cache not counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.machine import cgroup


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{text}\n")


@pytest.mark.parametrize(
    ("above", "left"), [("max", 1000 - 700 + 200), ("1200", 1200 - 1100 + 50), ("900", 0), ("", 500)]
)
def test_memory_left_in_version_2(tmp_path: Path, above: str, left: int) -> None:
    write(tmp_path, {
        "proc/self/cgroup": "0::/box/ftq", "sys/fs/cgroup/box/ftq/memory.max": "1000",
        "sys/fs/cgroup/box/ftq/memory.current": "700",
        "sys/fs/cgroup/box/ftq/memory.stat": "anon 500\ninactive_file 200\nslab_reclaimable 9",
        "sys/fs/cgroup/box/memory.max": above, "sys/fs/cgroup/box/memory.current": "1100",
        "sys/fs/cgroup/box/memory.stat": "anon 900\ninactive_file 50",
    })  # fmt: skip
    assert cgroup.memory_left(tmp_path) == left


def test_memory_left_in_version_1(tmp_path: Path) -> None:
    write(tmp_path, {
        "proc/self/cgroup": "4:memory:/box\n0::/", "sys/fs/cgroup/memory/box/memory.limit_in_bytes": "1000",
        "sys/fs/cgroup/memory/box/memory.usage_in_bytes": "700",
        "sys/fs/cgroup/memory/box/memory.stat": "total_inactive_file 100",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": str(2**63 - 4096),
    })  # fmt: skip
    assert cgroup.memory_left(tmp_path) == 400
    assert cgroup.memory_limit(tmp_path) == 1000


def test_without_a_limit_there_is_none(tmp_path: Path) -> None:
    assert cgroup.memory_left(tmp_path) is None
    write(tmp_path, {"proc/self/cgroup": "0::/", "sys/fs/cgroup/memory.max": "max"})
    assert cgroup.memory_left(tmp_path) is None
    assert cgroup.memory_limit(tmp_path) is None
    assert cgroup.processor_limit(tmp_path) is None
