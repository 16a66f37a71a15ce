"""Moving files to the bucket and from it: several at once, checked, and going on where an earlier call was stopped."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from ftq.errors import FtqError
from ftq.files.disk import COPIED_AT_ONCE, digest_of, stamp
from ftq.files.remote.bucket import Bucket, Gone, Interrupted, OutOfReach
from ftq.files.remote.kinds import parts
from ftq.files.remote.kinds.kinds import takes_name
from ftq.files.remote.kinds.parts import Parts, Sums
from ftq.files.remote.manifest import Entry, Manifest, is_safe, manifest_key
from ftq.files.run_dir import sync

THREADS = 8
PIECE = 2**23  # bytes that one request brings
AGAIN = "It is sent again."
LONGEST_KEY = 1024  # bytes: S3's limit, and that of its relatives
Item = TypeVar("Item")
Value = TypeVar("Value")


@dataclass
class Move:
    """How a transfer stands: whoever waits sets `stop`, `done` counts bytes of `total`."""

    stop: threading.Event = field(default_factory=threading.Event)
    done: int = 0
    total: int = 0

    def go_on(self, moved: int = 0) -> None:
        """Interrupted if nobody waits any more."""
        self.done += moved
        if self.stop.is_set():
            raise Interrupted


class Upload:
    """A part on its way into the bucket. `go` may be called again after OutOfReach: what is there isn't sent again.

    `files` are {path relative to the run's folder: file}. A file that `like` has with the same checksum is copied on
    the server's side.
    """

    def __init__(
        self,
        bucket: Bucket,
        run: str,
        part: str,
        attempt: int,
        files: Mapping[str, Path],
        like: Manifest | None = None,
        earlier: Iterable[Entry] = (),
        begun: Sequence[str] = (),
        database: str = "",
    ) -> None:
        """`earlier` are entries of this run's other parts, whose bytes aren't sent again.

        `begun` are parts, `train.1`, of which a large file may be there, or a piece of it, from an upload that was cut.
        If this one is cut too, `has_sent` tells whether its own part has anything, and `used` where large files are.
        The manifest names the `database`.
        """
        self.bucket, self.files, self.like, self.begun = bucket, files, like, begun
        self.has_sent, self.used = False, set[str]()
        self._sums = dict[str, tuple[tuple[int, int], Sums]]()
        self._begun = dict[str, Parts]()
        self.manifest = Manifest(run, part, attempt, (), database)
        self._there = {entry.path: entry for entry in earlier}
        longest = max((self.manifest.key(Entry(path, 0, "")) for path in files), key=len, default="")
        for path in files:
            if not (is_safe(path) and takes_name(bucket.kind, path)):
                raise FtqError(f"{path!r} can't be a name in the bucket", "Rename the file.")
        if len(f"{bucket.url}/{longest}".encode()) > LONGEST_KEY:
            raise FtqError(f"the name {longest} is too long for the bucket", f"{LONGEST_KEY} bytes are the most.")

    def go(self, move: Move) -> Manifest:
        """Send what isn't there yet, then the manifest."""
        move.total = sum(file.stat().st_size for file in self.files.values())
        move.done = sum(entry.size for entry in self._there.values())
        missing = [path for path in self.files if path not in self._there]
        large = [path for path in missing if self.files[path].stat().st_size > PIECE]
        _each(lambda path: self._send(path, move), [path for path in missing if path not in large])
        for path in large:  # several parts of one at once, which are in memory meanwhile
            self._send(path, move)
        manifest = replace(self.manifest, files=tuple(self._there[path] for path in sorted(self.files)))
        self._check(manifest)
        move.go_on()
        self.has_sent = True
        self.bucket.write(manifest_key(manifest.run, manifest.part, manifest.attempt), manifest.to_bytes())
        return manifest

    def _send(self, path: str, move: Move) -> None:
        move.go_on()
        sums = self._sums_of(path, move)
        entry = Entry(path, sums.size, sums.sha256)
        key = self.manifest.key(entry)
        if self.like and _copied(self.bucket, self.like, entry, key):
            move.go_on(entry.size)
        elif entry.size > parts.PART and self.bucket.parts(key):
            self._send_parts(path, key, sums, move)
        else:
            self.bucket.put(key, self.files[path])
            move.go_on(entry.size)
        self.has_sent = True
        self._there[path] = entry

    def _sums_of(self, path: str, move: Move) -> Sums:
        """Its checksums; a file isn't read again when its upload goes on."""
        now = stamp(self.files[path])
        if path not in self._sums or self._sums[path][0] != now:
            self._sums[path] = (now, Sums.of(self.files[path], move.go_on))
        return self._sums[path][1]

    def _send_parts(self, path: str, key: str, sums: Sums, move: Move) -> None:
        """Send the parts that the bucket lacks, into the upload that has begun, be it an earlier attempt's."""
        for name in (self.manifest.name, *self.begun):
            place = f"{self.manifest.run}/{name}/{path}"
            left = self._parts(place).left(sums)
            if left is None or len(left) < len(sums.parts):
                break
        else:
            name, place, left = self.manifest.name, key, list(range(len(sums.parts)))
        self.used.add(name)
        move.go_on(sums.size - sum(sums.length(index) for index in left or ()))
        if left is not None:
            self._send_left(self._parts(place), path, key, sums, left, move)
        if place != key:
            self.bucket.copy(place, key)

    def _send_left(self, there: Parts, path: str, key: str, sums: Sums, left: list[int], move: Move) -> None:
        def send(index: int) -> None:
            move.go_on()
            with self.files[path].open("rb") as source:
                source.seek(index * sums.part)
                there.send(index, source.read(sums.part), sums.parts[index])
            move.go_on(sums.length(index))

        try:
            there.begin()
            self.has_sent = True
            _each(send, left)
            there.finish(sums)
        except Gone:
            raise OutOfReach(f"bucket {self.bucket.url}: the upload of {key} was ended elsewhere", AGAIN) from None

    def _parts(self, key: str) -> Parts:
        if key not in self._begun:
            there = self.bucket.parts(key)
            assert there
            self._begun[key] = there
        return self._begun[key]

    def _check(self, manifest: Manifest) -> None:
        """Have every file there with its size, before the manifest says so. What isn't is sent by the next call."""
        own = [entry for entry in manifest.files if not entry.within]
        sizes = self.bucket.sizes(f"{manifest.run}/{manifest.name}") if own else {}
        for entry in own:
            if sizes.get(manifest.key(entry)) != entry.size:
                del self._there[entry.path]
                raise OutOfReach(f"bucket {self.bucket.url}: {manifest.key(entry)} isn't whole", AGAIN)


def _copied(bucket: Bucket, like: Manifest, entry: Entry, key: str) -> bool:
    same = like.entry(entry.path)
    if same is None or (same.sha256, same.size) != (entry.sha256, entry.size):
        return False
    try:
        bucket.copy(like.key(same), key)
    except Gone:
        return False
    return True


def download(bucket: Bucket, manifest: Manifest, entries: list[Entry], folder: Path, move: Move) -> None:
    """Have the entries below the folder, whole and checked. What an earlier call has left there is used."""
    small, large = (
        [entry for entry in entries if entry.size <= PIECE],
        [entry for entry in entries if entry.size > PIECE],
    )
    _each(lambda entry: _fetch(bucket, manifest, entry, folder, move, None), small)
    with ThreadPoolExecutor(THREADS) as pool:
        for entry in large:
            _fetch(bucket, manifest, entry, folder, move, pool)


def _fetch(
    bucket: Bucket, manifest: Manifest, entry: Entry, folder: Path, move: Move, pool: ThreadPoolExecutor | None
) -> None:
    target = folder / entry.path
    beside = target.with_name(target.name + ".part")
    if target.is_file() and target.stat().st_size == entry.size:
        move.go_on(entry.size)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    for again in (True, False):
        digest = _append(bucket, manifest.key(entry), entry.size, beside, move, pool)
        if digest == entry.sha256:
            sync(beside)
            os.replace(beside, target)
            return
        beside.unlink()
        move.done -= entry.size
        if not again:
            raise Gone(
                f"{bucket.url}/{manifest.key(entry)} is damaged: its SHA-256 isn't the one of its manifest",
                "Something has changed it in the bucket.",
            )


def _append(bucket: Bucket, key: str, size: int, file: Path, move: Move, pool: ThreadPoolExecutor | None) -> str:
    """Complete the file piece by piece, several at once with a pool; the checksum of all of it."""
    digest = hashlib.sha256()
    with file.open("a+b") as out:
        there = min(out.seek(0, os.SEEK_END), size)
        out.truncate(there)
        out.seek(0)
        while piece := out.read(COPIED_AT_ONCE):
            digest.update(piece)
        move.go_on(there)
        while there < size:
            starts = range(there, min(size, there + PIECE * THREADS), PIECE)

            def read(start: int) -> bytes:
                move.go_on()
                return bucket.read(key, start, min(size, start + PIECE))

            for piece in pool.map(read, starts) if pool else map(read, starts):
                digest.update(piece)
                out.write(piece)
                there += len(piece)
                move.go_on(len(piece))
                if len(piece) != PIECE and there != size:
                    raise OutOfReach(f"bucket {bucket.url}: {key} came cut off", "It is asked for again.")
    return digest.hexdigest()


def sha256_of(file: Path, move: Move | None = None) -> str:
    with file.open("rb") as source:
        return digest_of(source, move.go_on if move else lambda: None)


def _each(action: Callable[[Item], Value], items: list[Item]) -> None:
    """Call it for all, several at once. The first error ends it; what was done until then counts."""
    if not items:
        return
    with ThreadPoolExecutor(min(THREADS, len(items))) as pool:
        futures: list[Future[Value]] = [pool.submit(action, item) for item in items]
        done, waiting = wait(futures, return_when=FIRST_EXCEPTION)
        for future in waiting:
            future.cancel()
        errors = [error for future in futures if future in done and (error := future.exception())]
    if errors:
        raise errors[0]
