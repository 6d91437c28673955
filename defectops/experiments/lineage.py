"""Who was initialised from whom: the trials of a study as trees, each link held by a digest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from defectops.errors import InputRefused, IntegrityFault

if TYPE_CHECKING:
    from defectops.experiments.study_trials import Trial


@dataclass(frozen=True)
class Member:
    """One trial as its relatives see it.

    Parameters
    ----------
    index, generation : int
    state : str
        waiting, running, complete, pruned or failed.
    value : float or None
        What the study asks for first, usually the dev IoU; None if there is none.
    epochs, cumulative_epochs : int
        Trained by this trial; by this trial and all it descends from.
    seconds, cumulative_seconds : float or None
        None where they are not known: an exported study has no times.
    parent : int or None
        Whose weights it started from; None started from random ones.
    parent_sha256 : str
        Digest of those weights as this trial read them; empty if not recorded.
    checkpoint_sha256 : str
        Digest of the weights it left; empty if it left none.
    """

    index: int
    generation: int
    state: str
    value: float | None
    epochs: int
    cumulative_epochs: int
    parent: int | None = None
    parent_sha256: str = ""
    checkpoint_sha256: str = ""
    seconds: float | None = None
    cumulative_seconds: float | None = None


@dataclass(frozen=True)
class Branch:
    """A trial and those that started from its weights, by index."""

    member: Member
    children: tuple[Branch, ...] = ()

    def walk(self) -> Iterator[tuple[int, Branch]]:
        """Yield (depth, branch), parents before children, siblings by index."""
        waiting = [(0, self)]
        while waiting:
            depth, branch = waiting.pop()
            yield depth, branch
            waiting.extend((depth + 1, child) for child in reversed(branch.children))


_PLAIN = ("index", "generation", "state", "epochs", "cumulative_epochs", "parent")
_DIGESTS = ("parent_sha256", "checkpoint_sha256")


def members_of(trials: Iterable[Trial]) -> tuple[Member, ...]:
    """Return the members of a study as its store knows them, times included."""
    return tuple(
        Member(
            **{name: getattr(trial, name) for name in (*_PLAIN, *_DIGESTS)},
            value=trial.values[0] if trial.values else None,
            seconds=trial.seconds,
            cumulative_seconds=trial.cumulative_seconds,
        )
        for trial in trials
    )


def exported_members(rows: Iterable[Mapping[str, Any]], where: str) -> tuple[Member, ...]:
    """Return the members of a study as ``studies/<defect>.json`` lists them, without times.

    Parameters
    ----------
    rows : iterable of mapping
        ``trials`` of the file.
    where : str
        For messages.

    Raises
    ------
    IntegrityFault
        A row lacks what every row has, or names a parent younger than itself (``E_RESULT``).
    """
    found = []
    for row in rows:
        try:
            member = Member(**{name: row[name] for name in (*_PLAIN, *_DIGESTS, "value")})
            if member.parent is not None and not member.parent < member.index:
                raise ValueError(f"trial {member.index} has parent {member.parent}")
        except (KeyError, TypeError, ValueError) as error:
            raise IntegrityFault(
                where,
                "E_RESULT",
                f"a trial cannot be read ({error!r}); take the file back from git",
            ) from error
        found.append(member)
    return tuple(found)


def timed(members: Sequence[Member], timed_members: Sequence[Member]) -> tuple[Member, ...]:
    """Return `members` with the seconds of those trials that are the same ones by digest."""
    seconds = {(m.index, m.checkpoint_sha256): m for m in timed_members}
    found = []
    for m in members:
        same = seconds.get((m.index, m.checkpoint_sha256))
        found.append(
            m
            if same is None
            else replace(m, seconds=same.seconds, cumulative_seconds=same.cumulative_seconds)
        )
    return tuple(found)


def forest(members: Sequence[Member]) -> tuple[Branch, ...]:
    """Return one tree for each trial that started from random weights, by index.

    A trial whose parent is not among `members` stands as a root too.
    """
    known = {m.index for m in members}
    grown: dict[int | None, list[Branch]] = {}
    # From the youngest: whoever is reached has all its children already.
    for member in sorted(members, key=lambda m: -m.index):
        branch = Branch(member, tuple(reversed(grown.pop(member.index, []))))
        grown.setdefault(member.parent if member.parent in known else None, []).append(branch)
    return tuple(reversed(grown.get(None, [])))


def family(members: Sequence[Member], index: int) -> Branch:
    """Return the tree that a trial belongs to: its first ancestor and all that came of it.

    Raises
    ------
    InputRefused
        No such trial (``E_TRIAL``).
    """
    first = ancestry(members, index)[0].index
    return next(branch for branch in forest(members) if branch.member.index == first)


def ancestry(members: Sequence[Member], index: int) -> tuple[Member, ...]:
    """Return the line of a trial, first ancestor first, itself last.

    Raises
    ------
    InputRefused
        No such trial (``E_TRIAL``).
    """
    by_index = {m.index: m for m in members}
    if index not in by_index:
        there = f"0 to {max(by_index)}" if by_index else "none yet"
        raise InputRefused(f"trial {index}", "E_TRIAL", f"not in this study; there are {there}")
    line = [by_index[index]]
    while line[-1].parent in by_index:
        line.append(by_index[line[-1].parent])
    return tuple(reversed(line))


def breaks(members: Sequence[Member]) -> tuple[str, ...]:
    """Return where a trial did not start from the weights its parent left, one line each."""
    by_index = {m.index: m for m in members}
    found = []
    for m in members:
        if m.parent is None:
            continue
        parent = by_index.get(m.parent)
        if parent is None:
            found.append(f"trial {m.index} started from trial {m.parent}, which is not listed")
        elif m.parent_sha256 and m.parent_sha256 != parent.checkpoint_sha256:
            found.append(
                f"trial {m.index} started from weights {m.parent_sha256[:12]}, "
                f"trial {m.parent} left {parent.checkpoint_sha256[:12] or 'none'}"
            )
    return tuple(found)


def by_digest(members: Sequence[Member], sha256: str) -> Member | None:
    """Return the first trial that left weights of this digest, None if there is none."""
    return next((m for m in members if sha256 and m.checkpoint_sha256 == sha256), None)
