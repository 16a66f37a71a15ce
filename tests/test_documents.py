"""The snapshot of a documents folder."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from ftq.errors import NotFound, UserError
from ftq.files import snapshot

LEFT = ["{}/dangling.md: a link to nothing", "{}/leads-out.md: a link that leads out of the folder"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four documents, and everything that is none."""
    path = tmp_path / "documents"
    for name, text in {
        "a.md": "# A", "page.markdown": "# P", "sub/b.JSON": "[]", "sub/deep/c.jsonl": "{}\n",
        "notes.log": "no", ".hidden.md": "no", ".git/x.md": "no", "folder.md/inside.log": "no",
    }.items():  # fmt: skip
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text)
    (tmp_path / "secret.md").write_text("outside")
    (path / "leads-out.md").symlink_to(tmp_path / "secret.md")
    (path / "dangling.md").symlink_to(path / "none.md")
    return path


def left(folder: Path, *more: str) -> list[str]:
    return [line.format(folder) for line in (*LEFT, *more)]


def documents(folder: Path, home: Path | None = None) -> list[Path]:
    return [path for path, reason in snapshot.walk(folder, home) if not reason]


def files_in(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_find_takes_documents_in_a_fixed_order_and_nothing_else(folder: Path) -> None:
    names = ["a.md", "page.markdown", "sub/b.JSON", "sub/deep/c.jsonl"]
    assert documents(folder) == [folder / name for name in names]


def test_a_link_inside_the_folder_is_a_document(folder: Path) -> None:
    (folder / "again.md").symlink_to(folder / "a.md")
    assert folder / "again.md" in documents(folder)


def test_a_snapshot_is_a_copy_that_later_edits_do_not_reach(folder: Path, tmp_path: Path) -> None:
    taken = snapshot.snapshot(folder, tmp_path / "copy")
    (folder / "a.md").write_text("changed")
    copied = {"a.md": "# A", "page.markdown": "# P", "sub/b.JSON": "[]", "sub/deep/c.jsonl": "{}\n"}
    assert files_in(tmp_path / "copy") == copied
    assert (taken.files, taken.bytes, taken.skipped) == (4, sum(map(len, copied.values())), left(folder))
    assert taken.others == "2 other files left out: .log"
    (folder / ".ftqignore").write_text("sub/deep/\n")
    assert snapshot.snapshot(folder, None).left_out == [
        ("dangling.md", "a link to nothing"),
        ("leads-out.md", "a link that leads out of the folder"),
        ("notes.log", "not a kind of document that ftq reads"),
        ("folder.md/inside.log", "not a kind of document that ftq reads"),
        ("sub/deep", "left out by .ftqignore, line 1"),
    ]


def test_looking_writes_nothing_and_finds_the_same(folder: Path, tmp_path: Path) -> None:
    before = files_in(tmp_path)
    looked = snapshot.snapshot(folder, None)
    assert files_in(tmp_path) == before
    assert looked == snapshot.snapshot(folder, tmp_path / "copy")


def test_the_hash_is_of_names_and_contents_not_of_place_or_time(folder: Path, tmp_path: Path) -> None:
    first = snapshot.snapshot(folder, tmp_path / "copy").hash
    os.utime(folder / "a.md", (1, 1))
    (folder / "notes.log").write_text("not a document")
    assert snapshot.snapshot(folder, None).hash == first
    assert snapshot.snapshot(tmp_path / "copy", None).hash == first
    (folder / "a.md").rename(folder / "z.md")
    renamed = snapshot.snapshot(folder, None).hash
    (folder / "z.md").write_text("# B")
    assert len({first, renamed, snapshot.snapshot(folder, None).hash}) == 3


def test_what_an_earlier_snapshot_has_is_linked_and_the_rest_copied(folder: Path, tmp_path: Path) -> None:
    (folder / "large.md").write_text("x" * (snapshot.FIRST + 1))
    snapshot.snapshot(folder, tmp_path / "first")
    (folder / "a.md").write_text("# B")
    (folder / "new.md").write_text("# N")
    taken = snapshot.snapshot(folder, tmp_path / "second", earlier=tmp_path / "first")
    assert taken == snapshot.snapshot(folder, tmp_path / "third")
    assert files_in(tmp_path / "second") == files_in(tmp_path / "third")
    linked = [path.name for path in documents(tmp_path / "second") if path.stat().st_nlink > 1]
    assert linked == ["page.markdown", "b.JSON", "c.jsonl"]
    assert (tmp_path / "first" / "a.md").read_text() == "# A"


def test_what_was_sent_to_a_server_is_linked_whatever_its_size(folder: Path, tmp_path: Path) -> None:
    (folder / "large.md").write_text("x" * (3 * snapshot.FIRST))
    copied = snapshot.snapshot(folder, tmp_path / "copy", tmp_path)
    assert all(path.stat().st_nlink == 1 for path in documents(tmp_path / "copy"))
    staged = tmp_path / ".abcd2345.0f0f0f0f.partial" / "documents"
    shutil.copytree(tmp_path / "copy", staged)
    taken = snapshot.snapshot(staged, tmp_path / "run", tmp_path)
    assert (taken.files, taken.bytes, taken.hash) == (copied.files, copied.bytes, copied.hash)
    assert all(path.samefile(staged / path.relative_to(tmp_path / "run")) for path in documents(tmp_path / "run"))
    shutil.rmtree(staged)
    assert files_in(tmp_path / "run") == files_in(tmp_path / "copy")


def test_what_cannot_be_read_is_named_and_the_others_go_on(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def open_it(path: Any, *arguments: Any, **named: Any) -> Any:
        if path == str(folder / "a.md"):
            raise PermissionError(13, "Permission denied")
        return real(path, *arguments, **named)

    monkeypatch.setattr(os, "open", open_it)  # root may read everything
    taken = snapshot.snapshot(folder, tmp_path / "copy")
    assert (taken.files, taken.skipped) == (3, sorted(left(folder, "{}/a.md: can't be read (Permission denied)")))
    assert files_in(tmp_path / "copy") == {"page.markdown": "# P", "sub/b.JSON": "[]", "sub/deep/c.jsonl": "{}\n"}
    monkeypatch.setattr(snapshot, "SUFFIXES", {".md": "Markdown"})
    with pytest.raises(UserError) as caught:
        snapshot.snapshot(folder, None)
    others = "5 other files left out: .log, .json, .jsonl, .markdown"
    assert caught.value.message == f"documents {folder}: none of its documents can be taken ({others})"
    assert caught.value.hint.splitlines() == taken.skipped


def test_a_folder_that_is_none_or_has_none(folder: Path, tmp_path: Path) -> None:
    (folder / ".hidden").mkdir()
    (folder / "links").mkdir()
    (folder / "links" / "out.md").symlink_to(tmp_path / "secret.md")
    (folder / "loop").symlink_to(folder / "loop")
    for path, kind, message in [
        (tmp_path / "none", NotFound, "there is no such folder"),
        (tmp_path / "secret.md", NotFound, "is a file, not a folder"),
        (folder / "folder.md", UserError, "no document in it (1 other file left out: .log)"),
        (folder / ".hidden", UserError, "no document in it"),
        (folder / "links", UserError, "none of its documents can be taken"),
        (folder / "loop", UserError, "can't be read (Too many levels of symbolic links)"),
        (folder / ("x" * 300), UserError, "can't be read (File name too long)"),
    ]:
        with pytest.raises(UserError) as caught:
            snapshot.snapshot(path, None)
        assert (type(caught.value), caught.value.message) == (kind, f"documents {path}: {message}")


def test_the_artifacts_of_earlier_runs_are_no_documents(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# A")
    home = tmp_path / "artifacts"
    for name in ("abc/README.md", "abc/run.json", ".def.partial/documents/x.md", "documents/mine.md"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text("# text")
    mine = home / "documents" / "mine.md"  # beside the runs, but not of ftq
    assert documents(tmp_path, home) == [tmp_path / "a.md", mine]
    assert documents(home / "documents", home) == [mine]
    (home / "ftq.db").touch()
    (home / "logs").mkdir(exist_ok=True)
    (home / "logs" / "worker.log").touch()
    seen = snapshot.snapshot(tmp_path, None, home)
    assert (seen.files, seen.others) == (2, "")


def test_whatever_stays_behind_is_named_with_its_reason(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (b"M\xfcller.md", b"\xe9t\xe9/inside.md"):
        path = Path(os.fsdecode(os.fsencode(folder) + b"/" + name))
        path.parent.mkdir(exist_ok=True)
        path.write_text("# M")
    os.mkfifo(folder / "pipe.md")
    (folder / "unmounted").symlink_to(folder / "none")
    (folder / "again").symlink_to(folder / "sub", target_is_directory=True)
    (folder / "closed").mkdir()
    real = os.scandir

    def scandir(path: Path) -> Any:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)  # root may read everything
    taken = snapshot.snapshot(folder, tmp_path / "copy")
    assert taken.skipped == sorted(left(
        folder, "{}/M?ller.md: its name isn't UTF-8", "{}/?t?: its name isn't UTF-8", "{}/pipe.md: not a file",
        "{}/unmounted: a link to nothing", "{}/again: a link to a folder",
        "{}/closed: can't be read (Permission denied)",
    ))  # fmt: skip
    assert (taken.files, len(files_in(tmp_path / "copy"))) == (4, 4)
    assert [str(path).encode() for path in documents(folder)]
    with pytest.raises(UserError, match=r"closed: can't be read \(Permission denied\)$"):
        snapshot.snapshot(folder / "closed", None)


def test_the_kinds_of_other_files_are_a_few_words(tmp_path: Path) -> None:
    for name in ["a.md", "Makefile", "1.ZIP", "2.zip", *(f"x.{letter}" for letter in "cdefg")]:
        (tmp_path / name).write_text("text")
    assert snapshot.snapshot(tmp_path, None).others == "8 other files left out: .zip, .c, .d, .e, .f, ..."
