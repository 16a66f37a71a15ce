"""What `.ftqignore` leaves out."""

from __future__ import annotations

import subprocess
from pathlib import Path, PurePosixPath

import pytest

from ftq.errors import UserError
from ftq.files.snapshot import snapshot
from ftq.formats.ignore import Ignore


def test_ftqignore_is_read_as_git_reads_its_own(tmp_path: Path) -> None:
    """Compared with git itself on every file and folder of a tree."""
    lines = {
        "": "# no documents\n*.tmp\n/build/\n!keep.tmp\ndrafts/**\n!drafts/final.md\nsecret?.md\ndoc/*.html\n\\#a.md\n",
        "doc": "!index.html\n/local.md\n[a-c].txt\n",
        "drafts": "!*.md\n",
        "build": "!a.md\n",
    }
    files = ["a.md", "a.tmp", "keep.tmp", "build/a.md", "doc/build/a.md", "drafts/a.md", "drafts/final.md", "#a.md",
             "drafts/in/a.md", "secret1.md", "doc/secret12.md", "doc/a.html", "doc/index.html", "doc/deep/a.html",
             "doc/local.md", "doc/deep/local.md", "doc/a.txt", "doc/deep/b.txt", "doc/d.txt"]  # fmt: skip
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("text\n")
    for folder, text in lines.items():
        (tmp_path / folder / ".ftqignore").write_text(text)
        (tmp_path / folder / ".gitignore").write_text(text)
    git = ["git", "-C", str(tmp_path)]
    subprocess.run([*git, "init", "-q"], check=True)
    listed = subprocess.run([*git, "check-ignore", "--stdin"], input="\n".join(files), capture_output=True, text=True)
    ignore = Ignore(tmp_path)
    assert {name for name in files if ignore.reason(PurePosixPath(name))} == set(listed.stdout.split())
    assert ignore.reason(PurePosixPath("doc/local.md")) == "doc/.ftqignore, line 2"
    assert ignore.reason(PurePosixPath("build"), is_folder=True) == ".ftqignore, line 3"


def test_a_line_that_is_no_pattern_is_named(tmp_path: Path) -> None:
    (tmp_path / ".ftqignore").write_text("*.tmp\n!\n")
    with pytest.raises(UserError) as raised:
        Ignore(tmp_path).reason(PurePosixPath("a.md"))
    assert raised.value.message == f"{tmp_path}/.ftqignore, line 2: not a pattern: '!'"


def test_a_folder_whose_files_are_all_left_out_says_by_what_and_how_many(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.md", "in/b.md", "in/c.md", "in/.hidden.md", ".hidden.md"):
        (tmp_path / name).write_text("# A\n\nText.\n")
    (tmp_path / ".ftqignore").write_text("# all\n*\n")
    with pytest.raises(UserError) as caught:
        snapshot(tmp_path, None)
    assert caught.value.message == f"documents {tmp_path}: .ftqignore leaves out all that is in it, 3 files"
    assert caught.value.hint == "Correct .ftqignore, line 2, or name another folder: --documents DIR"
    (tmp_path / ".ftqignore").write_text("*.md\n")
    (tmp_path / "x.exe").write_text("x")
    with pytest.raises(UserError) as caught:
        snapshot(tmp_path, None)
    told = "no document in it (1 other file left out: .exe; 3 files left out by .ftqignore)"
    assert caught.value.message == f"documents {tmp_path}: {told}"
