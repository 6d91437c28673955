"""``defectops plausible``: whether pixel sizes, counts and densities can be true together."""

from __future__ import annotations

import typer

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(
    epilog="\b\nExamples:\n"
    "  defectops plausible --pixel-size-nm 0.365 --field-px 1024x1024 --count 125 \\\n"
    "      --number-density-m3 6.56e21 --diameter-nm 10.2\n"
    "  defectops plausible --thickness-nm 40 --diameter-nm 55"
)
def plausible(
    pixel_size_nm: float | None = typer.Option(None, "--pixel-size-nm", help="nm per pixel."),
    field_px: str | None = typer.Option(
        None, "--field-px", help="Rows x columns of the field, as 1024x1024."
    ),
    thickness_nm: float | None = typer.Option(None, "--thickness-nm", help="Of the foil."),
    count: float | None = typer.Option(None, "--count", help="Particles in the field."),
    number_density_m3: float | None = typer.Option(
        None, "--number-density-m3", help="Particles per volume, m^-3."
    ),
    diameter_nm: float | None = typer.Option(None, "--diameter-nm", help="Mean diameter."),
    diameter_sd_nm: float | None = typer.Option(
        None, "--diameter-sd-nm", help="Standard deviation of diameters."
    ),
    area_fraction: float | None = typer.Option(
        None, "--area-fraction", help="Share of the field that particles cover, 0 to 1."
    ),
    dislocation_density_m2: float | None = typer.Option(
        None, "--dislocation-density-m2", help="Line length per volume, m^-2."
    ),
    line_share: float | None = typer.Option(
        None, "--line-share", help="Share of the field's pixels on lines, 0 to 1."
    ),
    line_width_px: float | None = typer.Option(
        None, "--line-width-px", help="How wide those lines are drawn."
    ),
    json: bool = typer.Option(False, "--json", help="Print the findings as JSON."),
) -> None:
    """Check claims of a paper or a colleague against each other; any subset will do.

    What can be derived in two ways is compared. A contradiction ends with code 2 and the range
    that would fit; what is odd but possible is listed.
    """
    from defectops.cli import output
    from defectops.errors import SettingsRefused
    from defectops.measurement.plausibility import Claims, parse_field, refuse_impossible

    claims = Claims(
        pixel_size_nm=pixel_size_nm,
        field_px=None if field_px is None else parse_field(field_px),
        thickness_nm=thickness_nm,
        count=count,
        number_density_m3=number_density_m3,
        diameter_nm=diameter_nm,
        diameter_sd_nm=diameter_sd_nm,
        area_fraction=area_fraction,
        dislocation_density_m2=dislocation_density_m2,
        line_share=line_share,
        line_width_px=line_width_px,
    )
    if claims == Claims():
        raise SettingsRefused("plausible", "E_USAGE", "nothing claimed; give at least one option")
    odd = refuse_impossible(claims, "claims")
    if json:
        output.as_json([{"verdict": "suspicious", "sentence": text} for text in odd])
        return
    for text in odd:
        output.line(f"suspicious: {text}")
    if not odd:
        output.line("no contradiction")
