"""Versions: a run that has succeeded is version N of its family. A number is given once, also if its run is deleted.

The family's `latest` is the version that was promoted last and is still there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import sqlalchemy as sa

from ftq.errors import NotFound, Refused, did_you_mean
from ftq.files.run_dir import STAGES
from ftq.store.database import Database, owned_by
from ftq.store.records import Run, Version
from ftq.store.schema import runs, stages, versions

Judge = Callable[[str], str]
"""Given the id of the run that is `latest`: why the new version is no better; empty if it is at least as good."""

LATEST = "latest"
MODEL_STAGES = STAGES[: STAGES.index("export") + 1]  # those that make the model; the later ones only ask it
SHOWN, RECENT = 5, 3  # numbers, and runs, that an error names
LIST = "`ftq models --tuned` lists what is there."
_family = sa.func.coalesce(runs.c.family, runs.c.name)


def nobody(latest: str) -> str:
    """The judge where there is none."""
    return "nothing has compared them"


class Versions(Database):
    """A part of RunStore."""

    def versions(self, owner: str | None = None) -> list[Version]:
        """Every version, also those that are gone: by family, the newest first.

        With an `owner` those of that key's runs alone, of which the deleted ones are nobody's.
        """
        query = (
            sa.select(versions, runs.c.name.label("run"), runs.c.model)
            .outerjoin(runs, runs.c.id == versions.c.run_id)
            .where(owned_by(owner))
            .order_by(versions.c.family, versions.c.number.desc())
        )
        with self.reading() as db:
            latest = self._all_latest(db)
            return [
                Version(
                    row.family,
                    row.number,
                    row.run_id,
                    row.run or "",
                    row.model or "",
                    row.created_at,
                    latest.get(row.family) == row.number,
                    row.gone,
                )
                for row in db.execute(query)
            ]

    def find_version(self, text: str, owner: str | None = None) -> str:
        """The id of the run that is `NAME:NUMBER` or `NAME:latest`. NotFound says what became of it."""
        family, _, number = text.rpartition(":")
        query = sa.select(versions).where(versions.c.family == family)
        if owner is not None:
            query = query.join(runs, runs.c.id == versions.c.run_id).where(owned_by(owner))
        with self.reading() as db:
            rows = db.execute(query).all()
            promoted = self._latest_of(db, family, owner)
            latest = promoted.number if promoted else None
        if not rows:
            near = self._near_family(family, owner)
            raise NotFound(f"no version of {family or text!r} was ever made", f"Did you mean {near}?" if near else LIST)
        if not number.strip():
            raise NotFound(f"{text} names no version: a number is missing, or latest", f"For example: {family}:1")
        if number == LATEST:
            if latest is None:
                raise NotFound(f"no version of {family} is promoted", f"`ftq promote {family}:NUMBER` does it. {LIST}")
            number = str(latest)
        row = next((row for row in rows if str(row.number) == number), None)
        there = sorted((row.number for row in rows if not row.gone), reverse=True)
        known = f"There is {_listed(family, there)}." if there else LIST
        if row is None:
            raise NotFound(f"{family} has no version {number}", known)
        if row.gone:
            raise NotFound(f"{text} is gone: its run was {row.gone}", known)
        return str(row.run_id)

    def _near_family(self, family: str, owner: str | None) -> str:
        query = sa.select(versions.c.family).distinct()
        if owner is not None:
            query = query.join(runs, runs.c.id == versions.c.run_id).where(owned_by(owner))
        with self.reading() as db:
            return _near(family, list(db.execute(query).scalars())) if family else ""

    def promote(self, run_id: str) -> tuple[Run, str | None]:
        """Make the run its family's `latest`: (the run, the version that was it before). Refused if it has no number.

        A run that a worker of an earlier ftq has finished gets its number here.
        """
        with self.writing() as db:
            run = self._locked(db, run_id)
            if run.version is None and run.status != "succeeded":
                raise Refused(f"run {run.name} is {run.status}: it is no version", f"`ftq status {run.name}`")
            before = self._latest(db, self._lock_family(db, run.family))
            if run.version is None:
                self._give_number(db, run_id, nobody)
                run = self._load(db, run_id)
            if before is None or before.number != run.version:
                mine = (versions.c.family == run.family) & (versions.c.number == run.version)
                promotion = self._next_promotion(db, run.family)
                db.execute(versions.update().where(mine).values(promotion=promotion))
                self._event(db, run_id, "promoted", f"promoted by the user: {run.family}:latest is {run.version_name}")
            return run, f"{run.family}:{before.number}" if before else None

    def retire(self, run_id: str, why: str) -> None:
        """End the run's version, if it is one; the run stays."""
        with self.writing() as db:
            self._end_version(db, self._locked(db, run_id), why)

    def latest(self) -> set[str]:
        """The names of the versions that are `latest` of their families: `gc` spares them."""
        with self.reading() as db:
            return self._latest_names(db)

    # ---- inside -----------------------------------------------------------------------------------------

    def _give_number(self, db: sa.Connection, run_id: str, judge: Judge, stage: str | None = None) -> None:
        """Make the run the next version of its family, once, and when no stage is left; `stage` was the last one."""
        left = sa.exists().where(stages.c.run_id == run_id, stages.c.status != "succeeded")
        query = sa.select(_family.label("family"), runs.c.spec).where(runs.c.id == run_id, ~left)
        run = db.execute(query.where(runs.c.version.is_(None))).first()
        if run is None:
            return
        family, wish = run.family, run.spec.get("promote", "always")
        before = self._latest(db, self._lock_family(db, family))
        newest = sa.select(sa.func.max(versions.c.number)).where(versions.c.family == family)
        number = (db.scalar(newest) or 0) + 1
        reason = "promote=never" if wish == "never" else judge(before.run_id) if wish == "better" and before else ""
        values = {"family": family, "number": number, "run_id": run_id, "created_at": self._now(db)}
        promotion = None if reason else self._next_promotion(db, family)
        db.execute(versions.insert().values(**values, promotion=promotion))
        db.execute(runs.update().where(runs.c.id == run_id).values(version=number))
        stays = f"{family}:latest stays {family}:{before.number}" if before else f"{family} has no latest version"
        said = f"not promoted, {stays}: {reason}" if reason else f"{family}:latest"
        self._event(db, run_id, "version", f"{family}:{number} ({said})", stage)

    def _end_version(self, db: sa.Connection, run: Run, why: str) -> None:
        """Record why the run is no version any more; its number isn't given again."""
        there = (versions.c.run_id == run.id) & versions.c.gone.is_(None)
        if db.execute(versions.update().where(there).values(gone=why)).rowcount:
            db.execute(runs.update().where(runs.c.id == run.id).values(version=None))

    def _lock_family(self, db: sa.Connection, family: str) -> str:
        """Lock the family's runs, so that two that succeed at once get two numbers (SQLite has locked all anyway)."""
        same = sa.select(runs.c.id).where(_family == family).order_by(runs.c.id)
        db.execute(same.with_for_update(key_share=True)).all()
        return family

    def _next_promotion(self, db: sa.Connection, family: str) -> int:
        last = sa.select(sa.func.max(versions.c.promotion)).where(versions.c.family == family)
        return (db.scalar(last) or 0) + 1

    def _latest(self, db: sa.Connection, family: str) -> sa.Row[tuple[object, ...]] | None:
        promoted = (versions.c.family == family) & versions.c.gone.is_(None) & versions.c.promotion.is_not(None)
        return db.execute(sa.select(versions).where(promoted).order_by(versions.c.promotion.desc())).first()

    def _latest_of(self, db: sa.Connection, family: str, owner: str | None) -> sa.Row[tuple[object, ...]] | None:
        """The family's latest version; None if it is another's than the owner's."""
        latest = self._latest(db, family)
        if latest is None or owner is None:
            return latest
        mine = sa.select(runs.c.id).where(runs.c.id == latest.run_id, owned_by(owner))
        return latest if db.execute(mine).first() else None

    def _all_latest(self, db: sa.Connection) -> dict[str, int]:
        """{family: the number of its latest version}."""
        promoted = versions.c.gone.is_(None) & versions.c.promotion.is_not(None)
        query = sa.select(versions.c.family, versions.c.number).where(promoted).order_by(versions.c.promotion)
        return {row.family: row.number for row in db.execute(query)}

    def _latest_names(self, db: sa.Connection) -> set[str]:
        return {f"{family}:{number}" for family, number in self._all_latest(db).items()}


def ambiguous(text: str, number: int, matches: Sequence[sa.Row[str, str]]) -> NotFound:
    """What to say where the text begins the ids of several runs; `matches` are (id, name) of them."""
    shown = ", ".join(f"{run_id} ({name})" for run_id, name in sorted(matches)[:SHOWN])
    more = f" and {number - SHOWN} more" if number > SHOWN else ""
    return NotFound(f"{text} begins the ids of {number} runs: {shown}{more}", "Type more of the id, or a name.")


def unfound(text: str, latest: Sequence[sa.Row[str, str]], has_versions: bool) -> NotFound:
    """What to say where no run matches: the name that may be meant, else the newest; `latest` are (id, name)."""
    if not text.strip():
        message, near = "no run is named: the name is empty", ""
    else:
        message = f"no run matches {text}"
        near = f"{text}:{LATEST}" if has_versions else _near(text, [name for _, name in latest])
    if near:
        return NotFound(message, f"Did you mean {near}?")
    recent = ", ".join(f"{run_id} ({name})" for run_id, name in latest[:RECENT])
    return NotFound(message, f"Recent runs: {recent}" if recent else "There is no run yet: `ftq submit`.")


def _near(text: str, names: list[str]) -> str:
    """The names that begin like this, in upper or lower case, else the one that is most alike; empty for none."""
    begins = [name for name in names if name.lower().startswith(text.lower())][:RECENT]
    if begins:
        return " or ".join(filter(None, (", ".join(begins[:-1]), begins[-1])))
    return did_you_mean(text, names).removeprefix(" Did you mean ").removesuffix("?")


def _listed(family: str, numbers: list[int]) -> str:
    """handbook:4, 3 and 1 others."""
    names = ", ".join(f"{family}:{number}" for number in numbers[:SHOWN])
    more = len(numbers) - SHOWN
    return f"{names} and {more} older" if more > 0 else names
