"""A small batch that the tests here carry out; lets them import `counting`."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from counting import count, outputs

from defectops.batch.engine import run
from defectops.batch.items import find_items
from defectops.batch.ledger import Ledger


@pytest.fixture
def batch(tmp_path):
    """Five files, one of them bad, and a function that carries the batch out."""
    source = tmp_path / "in"
    source.mkdir()
    for name in "abcde":
        (source / f"{name}.tif").write_bytes(f"picture {name}".encode())
    (source / "c.tif").write_bytes(b"bad picture")

    def go(out="out", work=count, settings=None, **given):
        ledger = Ledger(tmp_path / out)
        with ledger.held():
            items = find_items([str(source)], (".tif",), ledger.out)
            ledger.begin(settings or {"level": 0.95}, items, [outputs(i) for i in items])
            refused = run(items, work, ledger, **given)
            kept = [k for k in (ledger.kept(i) for i in items) if k is not None]
            lines = [
                f"{k.record['name']} {k.record['size']} {len(k.read('sums.npz'))}" for k in kept
            ]
            (ledger.out / "table.txt").write_text("\n".join(lines))
        return refused

    go.source = source
    return go
