"""Policies and generators against the strongest simple rivals, on real images that nothing was trained on.

Every policy gets the same number of probes and, at a finite dose, the same number of electrons; the method and what the
figures mean are in ``docs/partial_scan_benchmark.md``.
"""

from __future__ import annotations

import dataclasses
import pathlib

from adaptive_core.errors import InvalidInputError
from adaptive_core.partial_scan.benchmark import rivals
from adaptive_core.partial_scan.benchmark.bench import Bench, Settings, carrier
from adaptive_core.partial_scan.benchmark.rivals import Models, Rival
from adaptive_core.partial_scan.benchmark.tables import Comparison, Figures, Progress
from adaptive_core.partial_scan.truths import load_images, seeded_crops

__all__ = ["Figures", "Models", "Settings", "run"]


def run(settings: Settings, progress: Progress | None = None, out: pathlib.Path | None = None) -> Figures:
    """Compare everything with everything.

    Args:
        settings: what is compared, and on what.
        progress: is told a line whenever a line of a table is done.
        out: folder for sheets of examples; it is made if it does not exist.

    Returns:
        The settings, ``groups`` (crops by specimen group), ``skipped`` (files and policies, with the reason),
        ``models``, and the tables ``policies``, ``policy_of_another``, ``shuffled_image``, ``equal_time`` and
        ``by_group``, each a list of dictionaries.

    Raises:
        InvalidInputError: an unusable folder, image, policy, model or number.
    """
    images = load_images(settings.images, None, settings.size_px)
    crops = seeded_crops(images, settings.size_px, settings.crops, settings.seed)
    sources = rivals.policy_sources(settings.policies)
    settings = dataclasses.replace(settings, models=dataclasses.replace(settings.models, policies=sources))
    bench = Bench(settings, crops)
    table, refused = _checked(bench, settings)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    with carrier(settings, crops) as carry:
        comparison = Comparison(settings, crops, carry, progress)
        main = {rival: comparison.row(rival, settings.probes_per_scan, settings.electrons) for rival in table}
        adaptive = [rival for rival in table if settings.models.adaptive(rival.policy)]
        figures: Figures = {
            "images": str(settings.images),
            "size_px": settings.size_px,
            "crops": len(crops),
            "seed": settings.seed,
            "probes": settings.probes_per_scan,
            "coverage": settings.probes_per_scan / settings.pixels,
            "electrons_per_pixel": settings.electrons_per_pixel,
            "pixel_size_nm": settings.pixel_size_nm,
            "groups": {name: comparison.groups.count(name) for name in dict.fromkeys(comparison.groups)},
            "skipped": [*images.skipped, *refused],
            "models": rivals.described(settings.models, table),
            "policies": comparison.table(main),
            "policy_of_another": [comparison.of_another(rival, main[rival]) for rival in adaptive if len(crops) > 1],
            "shuffled_image": [comparison.shuffled(rival, main[rival]) for rival in adaptive],
            "equal_time": comparison.equal_time(main) if settings.compares_times else [],
            "by_group": [row for rival in table for row in comparison.by_group(rival, main[rival])],
        }
    if out is not None:
        from adaptive_core.partial_scan.benchmark import sheet

        sheet.draw(bench, settings, table, out)
    return figures


def _checked(bench: Bench, settings: Settings) -> tuple[list[Rival], list[str]]:
    """The lines of the table; one that cannot take part is an error if it was asked for by name, else left out."""
    table, refused = [], []
    for rival in rivals.rivals(settings.models, settings.electrons is not None):
        try:
            bench.check(rival)
        except InvalidInputError as error:
            if settings.policies is not None or rivals.is_static(rival.policy):
                raise
            refused.append(f"{rival.policy}: {error}")
        else:
            table.append(rival)
    return table, refused
