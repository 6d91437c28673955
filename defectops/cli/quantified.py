"""How `defectops quantify` carries a batch out and shows it: progress, refusals, pooled numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from defectops.batch.engine import BUG, Progress, Refusal, run
from defectops.batch.items import Item, find_items, with_sidecars
from defectops.batch.ledger import Kept, Ledger, Parts
from defectops.cli import output, rim
from defectops.cli.measured import MAIN
from defectops.cli.progress import batch_progress
from defectops.errors import InputRefused, SettingsRefused
from defectops.reporting import numbers

if TYPE_CHECKING:
    from defectops.dataset.manifest import ManifestRow
    from defectops.experiments.registry import Registry
    from defectops.workflows.batch_choosing import BatchRequest, Bench
    from defectops.workflows.batch_summary import Pooled, Summary

_SHOWN = 20
_REFUSED = InputRefused.exit_code


def carry_out(
    request: BatchRequest, paths: Sequence[str], out: Path, *, new: bool, json: bool
) -> int:
    """Carry a batch out and return the exit code: 2 if files were refused, 1 for a bug."""
    from defectops.workflows.batch_summary import TABLES, write_results

    rows = _told(request)
    items = _items(paths, rows, out)
    if not items:
        raise SettingsRefused("quantify", "E_USAGE", "give micrographs, or --manifest")
    with Ledger(out).held(anew=new) as ledger:
        ledger.refuse_foreign(TABLES)
        bench, threads = _bench(request, 0 if new else ledger.settings.get("threads", 0))
        if new:  # not before it is certain that there is a model
            ledger.start_over(TABLES)
        items = _begin(ledger, items, rows, bench, threads)
        refused = _measure(items, rows, ledger, bench)

        def images() -> Iterator[Kept]:
            found = (ledger.kept(item) for item in items)
            return (kept for kept in found if kept is not None)

        summary = write_results(out, images, refused, bench)
        _show(summary, images, bench, out, json=json)
    if any(one.code == BUG for one in refused):
        return rim.BUG
    return _REFUSED if refused else 0


def _told(request: BatchRequest) -> Mapping[str, ManifestRow]:
    from defectops.workflows.batch_choosing import told_by

    return {} if request.manifest is None else told_by(request.manifest)


def _items(paths: Sequence[str], rows: Mapping[str, ManifestRow], out: Path) -> list[Item]:
    from defectops.imaging.reading import SUFFIXES

    return with_sidecars(find_items(paths or list(rows), SUFFIXES, out))


def _bench(request: BatchRequest, before: int) -> tuple[Bench, int]:
    """Load the models, with as many threads as before: the last bits depend on it."""
    from defectops.learning import machine
    from defectops.workflows.batch_choosing import choose

    threads = machine.settle(before)
    return choose(Path(), request, _registry), threads


def _registry() -> Registry:
    from defectops.workflows.stores import open_stores

    return open_stores(Path()).registry


def _begin(
    ledger: Ledger,
    items: Sequence[Item],
    rows: Mapping[str, ManifestRow],
    bench: Bench,
    threads: int,
) -> list[Item]:
    """Tell each item what the manifest says of it, and write the plan down."""
    from dataclasses import asdict

    from defectops.workflows.batch_measuring import ignore_path, result_files

    told = []
    for item in items:
        row = rows.get(_place(item.path))
        masks = {ignore_path(item.path, row, s.defect.key) for s in bench.segmenters}
        beside = (*item.beside, *sorted(m for m in masks if m is not None))
        given = {} if row is None else {k: v for k, v in asdict(row).items() if v}
        told.append(replace(item, beside=beside, given=given))
    settings = {**bench.as_settings(), "threads": threads}
    ledger.begin(settings, told, [result_files(item.stem, bench) for item in told])
    return told


def _place(path: Path) -> str:
    return str(path.parent.resolve() / path.name)


def _measure(
    items: Sequence[Item], rows: Mapping[str, ManifestRow], ledger: Ledger, bench: Bench
) -> list[Refusal]:
    from defectops.workflows.batch_measuring import Source, measure_image

    def work(item: Item, digests: Mapping[str, str]) -> Parts:
        row = rows.get(_place(item.path))
        source = Source(item.path, item.name, item.stem, digests["image"], row)
        found = measure_image(source, bench)
        timing = "".join(f"{d},{step},{seconds:.4f}\n" for d, step, seconds in found.timing)
        return Parts(found.record, found.files, found.kept, timing)

    for text in bench.notes:
        output.note(f"note: {text}")
    with batch_progress(len(items)) as listen:
        refused = run(items, work, ledger, _measured_now(listen), _explain)
    for one in refused[:_SHOWN]:
        output.note(f"{one.name}: {one.code}: {one.reason}")
    if len(refused) > _SHOWN:
        output.note(f"and {len(refused) - _SHOWN} more, all in quarantine.csv")
    return refused


def _measured_now(listen: Callable[[bool], None]) -> Callable[[Progress], None]:
    """Tell the bar of each item; one that was refused says nothing about the speed."""
    return lambda done: listen(done.fresh and done.refusal is None)


def _explain(error: Exception) -> str | None:
    """Say what to tell of an error that nobody foresaw; None if the next image would meet it."""
    return None if rim.machine_fails(error) else rim.as_bug(error)


def _show(
    summary: Summary,
    images: Callable[[], Iterator[Kept]],
    bench: Bench,
    out: Path,
    *,
    json: bool,
) -> None:
    from defectops.workflows.batch_summary import all_rows

    if json:
        output.as_json([_finite(row) for row in all_rows(images, bench, summary)])
        return
    rows = [row for group in summary.pooled for row in _rows(group)]
    levels = {100 * s.options.level for s in bench.segmenters}
    interval = f"{levels.pop():g} % interval" if len(levels) == 1 else "interval"
    columns = ["defect", "quantity", "value", interval, "unit", "n", "images"]
    output.table(columns, rows, "all images together")
    output.line(_counts(summary, out))


def _rows(group: Pooled) -> Iterator[list[object]]:
    for value in group.values:
        q = value.quantity
        if q.quantity in MAIN:
            scale = numbers.common_scale([q.value or q.high])
            low, high = numbers.number(q.low, scale), numbers.number(q.high, scale)
            unit = numbers.column_unit(q.unit, scale)
            found = numbers.number(q.value, scale)
            yield [group.defect, q.quantity, found, f"{low} to {high}", unit, q.n, value.images]


def _counts(summary: Summary, out: Path) -> str:
    found = summary.counts
    said = [f"{found['measured']} of {numbers.plural(found['given'], 'image')} measured"]
    for name in ("refused", "uncalibrated", "out_of_range", "duplicate"):
        if found[name]:
            said.append(f"{found[name]} {name.replace('_', ' ')}")
    return f"{', '.join(said)}; tables, labels and overlays in {out}"


def _finite(row: Mapping[str, object]) -> dict[str, object]:
    import math

    plain = {k: v.item() if hasattr(v, "item") else v for k, v in row.items()}
    return {
        k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in plain.items()
    }
