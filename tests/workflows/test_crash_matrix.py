"""A promotion or rollback that is killed between any two steps is repaired or reported."""

import crash_matrix
import pytest
from crash_matrix import (
    CHAMPIONS,
    MOVES,
    STEPS,
    Project,
    killed,
    outcome,
    played_dvc,
    rows,
    steps_of,
    table,
)

THEN = ("look", "doctor", "promote", "rollback", "repro")


@pytest.fixture(autouse=True)
def dvc():
    with played_dvc():
        yield


@pytest.fixture(scope="module", params=list(MOVES))
def before(request, tmp_path_factory):
    """A move and a project before it."""
    with played_dvc():
        root = tmp_path_factory.mktemp(request.param) / "base"
        return request.param, Project.made(root, CHAMPIONS[request.param])


@pytest.mark.slow
@pytest.mark.parametrize("by_parent", [True, False])
@pytest.mark.parametrize("then", THEN[1:])
def test_whatever_comes_next_finds_the_old_state_or_the_new_one(before, tmp_path, then, by_parent):
    kind, base = before
    steps = steps_of(base.copied(tmp_path / "whole"), MOVES[kind])
    assert set(steps) <= set(STEPS)
    # By turns, so that all steps are killed at; every step with every command is marked kills.
    for number in range(THEN.index(then) % 4 + 4 * by_parent, len(steps), 8):
        project = base.copied(tmp_path / str(number))
        killed(project, MOVES[kind], number, by_parent)
        outcome(project, then, kind)


@pytest.mark.kills
@pytest.mark.parametrize("kind", list(MOVES))
def test_the_table_of_the_how_to_is_what_happens(tmp_path, kind):
    found = table(rows(tmp_path, kind))
    page = crash_matrix.ROOT / "docs/how-to/recover-a-champion.md"
    assert found in page.read_text(encoding="utf-8")
