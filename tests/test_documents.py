"""The snapshot of a documents folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ftq import documents
from ftq.errors import NotFound, UserError

LEADS_OUT = "{}/leads-out.md: a link that leads out of the folder"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three documents, and everything that is none."""
    path = tmp_path / "documents"
    for name, text in {
        "a.md": "# A", "sub/b.JSON": "[]", "sub/deep/c.jsonl": "{}\n", "notes.txt": "no", ".hidden.md": "no",
        ".git/x.md": "no", "folder.md/inside.txt": "no",
    }.items():  # fmt: skip
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text)
    (tmp_path / "secret.md").write_text("outside")
    (path / "leads-out.md").symlink_to(tmp_path / "secret.md")
    (path / "dangling.md").symlink_to(path / "none.md")
    return path


def files_in(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_find_takes_documents_in_a_fixed_order_and_nothing_else(folder: Path) -> None:
    assert documents.find(folder) == [folder / "a.md", folder / "sub" / "b.JSON", folder / "sub" / "deep" / "c.jsonl"]


def test_a_link_inside_the_folder_is_a_document(folder: Path) -> None:
    (folder / "again.md").symlink_to(folder / "a.md")
    assert folder / "again.md" in documents.find(folder)


def test_a_snapshot_is_a_copy_that_later_edits_do_not_reach(folder: Path, tmp_path: Path) -> None:
    taken = documents.snapshot(folder, tmp_path / "copy")
    (folder / "a.md").write_text("changed")
    copied = {"a.md": "# A", "sub/b.JSON": "[]", "sub/deep/c.jsonl": "{}\n"}
    assert files_in(tmp_path / "copy") == copied
    assert (taken.files, taken.bytes, taken.skipped) == (3, sum(map(len, copied.values())), [LEADS_OUT.format(folder)])


def test_looking_writes_nothing_and_finds_the_same(folder: Path, tmp_path: Path) -> None:
    before = files_in(tmp_path)
    looked = documents.snapshot(folder, None)
    assert files_in(tmp_path) == before
    assert looked == documents.snapshot(folder, tmp_path / "copy")


def test_the_hash_is_of_names_and_contents_not_of_place_or_time(folder: Path, tmp_path: Path) -> None:
    first = documents.snapshot(folder, tmp_path / "copy").hash
    os.utime(folder / "a.md", (1, 1))
    (folder / "notes.txt").write_text("not a document")
    assert documents.snapshot(folder, None).hash == first
    assert documents.snapshot(tmp_path / "copy", None).hash == first
    (folder / "a.md").rename(folder / "z.md")
    renamed = documents.snapshot(folder, None).hash
    (folder / "z.md").write_text("# B")
    assert len({first, renamed, documents.snapshot(folder, None).hash}) == 3


def test_what_cannot_be_read_is_named_and_the_others_go_on(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.read_bytes

    def read_bytes(path: Path) -> bytes:
        if path.name == "a.md":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)  # root may read everything
    taken = documents.snapshot(folder, tmp_path / "copy")
    unreadable = f"{folder}/a.md: can't be read (Permission denied)"
    assert (taken.files, taken.skipped) == (2, [LEADS_OUT.format(folder), unreadable])
    assert files_in(tmp_path / "copy") == {"sub/b.JSON": "[]", "sub/deep/c.jsonl": "{}\n"}
    monkeypatch.setattr(documents, "SUFFIXES", (".md",))
    with pytest.raises(UserError) as caught:
        documents.snapshot(folder, None)
    assert caught.value.message == f"documents {folder}: none of its files can be read"
    assert caught.value.hint.splitlines() == taken.skipped


def test_a_folder_that_is_none_or_has_none(folder: Path, tmp_path: Path) -> None:
    for path, kind, message in [
        (tmp_path / "none", NotFound, "there is no such folder"),
        (tmp_path / "secret.md", NotFound, "is a file, not a folder"),
        (folder / "folder.md", UserError, "no .md, .json or .jsonl file in it (1 other files)"),
    ]:
        with pytest.raises(UserError) as caught:
            documents.find(path)
        assert (type(caught.value), caught.value.message) == (kind, f"documents {path}: {message}")


def test_the_artifacts_of_earlier_runs_are_no_documents(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# A")
    run = tmp_path / "artifacts" / "abc"
    run.mkdir(parents=True)
    (run / "README.md").write_text("# a model card")
    assert documents.find(tmp_path, tmp_path / "artifacts") == [tmp_path / "a.md"]
    assert documents.snapshot(tmp_path, None, tmp_path / "artifacts").files == 1
