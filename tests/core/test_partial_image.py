"""The accumulator of a partial scan."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_core.errors import DeviceDataError
from adaptive_core.partial_scan import PartialImage
from adaptive_core.scan_path import Positions


def scanned(values, size=(16, 12), seed=0):
    rng = np.random.default_rng(seed)
    scan = PartialImage(size)
    for row in values:
        scan.add(Positions(rng.uniform(0, size, (len(row), 2))), np.asarray([row], dtype=np.float32))
    return scan


batches = st.lists(st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=9), min_size=1, max_size=5)


@given(batches)
def test_the_scale_is_that_of_all_values(values):
    scan = scanned(values)
    everything = np.concatenate([np.float32(row) for row in values]).astype(np.float64)
    mean, deviation = scan.scale()
    assert mean == pytest.approx(everything.mean(), abs=1e-3)
    if everything.std() > 1e-2:
        assert deviation == pytest.approx(everything.std(), rel=1e-3)
    assert deviation > 0


@given(batches, st.floats(0.01, 100), st.floats(-1e4, 1e4))
def test_models_do_not_see_gain_and_offset(values, gain, offset):
    rows = [np.float64(row) + np.arange(len(row)) for row in values]
    if np.concatenate(rows).std() < 0.1:
        return
    first = scanned(rows).model_input()
    again = scanned([gain * row + offset for row in rows]).model_input()
    # Single precision of a value on a large offset limits what can be told apart.
    np.testing.assert_allclose(
        first, again, atol=1e-5 * (100 + abs(offset)) / (gain * np.concatenate(rows).std()) + 1e-5
    )


def test_a_pixel_probed_twice_holds_the_mean_and_others_are_unmeasured():
    scan = PartialImage((8, 8), channels=2)
    scan.add(Positions([(1.5, 2.5), (1.9, 2.1)]), np.float32([[1, 3], [10, 30]]))
    assert scan.image(0)[1, 2] == 2
    assert scan.image(1)[1, 2] == 20
    assert np.isnan(scan.image(0)).sum() == 63
    assert scan.measured.sum() == 1
    assert scan.coverage == 2 / 64


def test_model_input_is_padded_with_unmeasured_pixels():
    scan = scanned([[1.0, 2.0, 4.0]], size=(17, 30))
    partial = scan.model_input(16)
    assert partial.shape == (1, 2, 32, 32)
    assert partial[0, 1].sum() == scan.measured.sum()
    assert not partial[0, :, 17:].any()
    assert not partial[0, :, :, 30:].any()


def test_a_snapshot_does_not_change():
    scan = scanned([[1.0, 2.0]])
    snapshot = scan.snapshot()
    before = snapshot.model_input().copy()
    scan.add(Positions([(3.0, 3.0)]), np.float32([[50.0]]))
    np.testing.assert_array_equal(snapshot.model_input(), before)
    assert snapshot.probes == 2
    assert len(snapshot.actions) == 1


@pytest.mark.parametrize(
    ("values", "message"), [(np.zeros((1, 3), np.float32), "shape"), (np.float32([[1, np.nan]]), "1 values not finite")]
)
def test_unusable_values_are_refused_and_leave_no_trace(values, message):
    scan = PartialImage((8, 8))
    with pytest.raises(DeviceDataError, match=message):
        scan.add(Positions([(1.5, 2.5), (3, 3)]), values)
    assert scan.probes == 0
    assert not scan.measured.any()
