"""Put one test field of each bundled defect type beside its comparison map, for the README.

Run after `make repro`:  python docs/make_first_result.py
"""

from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
FIELDS = (
    ("dislocations", "ht9_dislocations_2"),
    ("precipitates", "ht9_irradiated_2"),
    ("voids", "ht9_irradiated_2"),
)
SIZE, GAP = 420, 6


def main() -> None:
    """Write ``docs/images/first-result.png``: micrographs above, comparison maps below."""
    width = len(FIELDS) * SIZE + (len(FIELDS) - 1) * GAP
    sheet = Image.new("RGB", (width, 2 * SIZE + GAP), "white")
    for column, (defect, stem) in enumerate(FIELDS):
        folder = ROOT / "results" / "maps" / defect
        for row, name in enumerate((f"{stem}_test_micrograph.png", f"{stem}_test.png")):
            with Image.open(folder / name) as picture:
                part = picture.convert("RGB").crop((0, 0, SIZE, SIZE))
            sheet.paste(part, (column * (SIZE + GAP), row * (SIZE + GAP)))
    out = ROOT / "docs" / "images" / "first-result.png"
    out.parent.mkdir(exist_ok=True)
    sheet.quantize(128).save(out, optimize=True)


if __name__ == "__main__":
    main()
