"""The policies that an operator can choose for a ptychographic scan."""

from __future__ import annotations

import numpy as np
import pytest

from adaptive_core.errors import InvalidInputError, ModelError
from adaptive_core.model_library import ModelLibrary
from adaptive_core.ptychography import catalogue
from adaptive_core.ptychography.experiments import EXPERIMENTS
from adaptive_core.ptychography.policy import Observation, PtychographyPlan

PLAN = PtychographyPlan(EXPERIMENTS["mos2"].calibration(), 40, 4)
NOTHING = Observation(None, None)


@pytest.mark.parametrize("name", ["sparse-grid", "halton", "random", "two-pass"])
def test_every_built_in_policy_begins_in_the_region_at_the_chosen_defocus(name: str) -> None:
    library = ModelLibrary()
    assert name in [choice.name for choice in catalogue.policies(library) if choice.model is None]
    in_focus = catalogue.policy(name, library, seed=3).start(PLAN).decide(NOTHING)
    defocused = catalogue.policy(name, library, defocus_A=120.0, seed=3).start(PLAN).decide(NOTHING)
    assert in_focus is not None
    assert defocused is not None
    assert (in_focus.defocus_A, defocused.defocus_A) == (None, 120.0)
    assert in_focus.positions_A.shape == (10, 2)
    assert ((in_focus.positions_A >= 0) & (in_focus.positions_A <= PLAN.calibration.fov_A)).all()
    np.testing.assert_array_equal(in_focus.positions_A, defocused.positions_A)


def test_the_seed_draws_other_random_positions() -> None:
    moves = [catalogue.policy("random", ModelLibrary(), seed=seed).start(PLAN).decide(NOTHING) for seed in (1, 2)]
    assert moves[0] is not None
    assert moves[1] is not None
    assert not np.allclose(moves[0].positions_A, moves[1].positions_A)


def test_what_cannot_be_chosen_is_told() -> None:
    with pytest.raises(
        ModelError, match=r"no model named 'spiral'.* Built in are sparse-grid, halton, random, two-pass"
    ):
        catalogue.policy("spiral", ModelLibrary())
    with pytest.raises(InvalidInputError, match=r"in \(0, 1\), not 2"):
        catalogue.policy("halton", ModelLibrary(), stop_similarity=2.0)
