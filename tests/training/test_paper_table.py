"""The table of the paper beside a sweep."""

import json

import pytest

from adaptive_core.errors import InvalidInputError
from adaptive_core.training.partial_scan import paper_table

CURVE = "iteration,seconds,training,validation,validation_sd\n100,6,0.1,0.05,0.03\n200,{},0.1,{},0.02\n"


def _finished(folder, config, seed, seconds, error):
    run = folder / f"{config}-{seed}"
    run.mkdir()
    (run / "curve.csv").write_text(CURVE.format(seconds, error))
    (run / "result.json").write_text(json.dumps({"cell": {"config": config, "seed": seed}, "figures": {}}))


def test_rows_stand_beside_the_published_ones(tmp_path, capsys):
    with pytest.raises(InvalidInputError, match="no finished training"):
        paper_table.main([str(tmp_path)])
    _finished(tmp_path, "small-s1-lstm", 1, 60, 0.04)
    _finished(tmp_path, "small-s1-lstm", 2, 120, 0.06)
    _finished(tmp_path, "small-s1-dnc", 1, 90, 0.07)
    (tmp_path / "unfinished").mkdir()
    paper_table.main([str(tmp_path), "--picture", str(tmp_path / "curves.png")])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 32
    lstm = "| 0.40 ± 0.20, 0.60 ± 0.20 | 1.5 | `small-s1-lstm` | the defaults |"
    assert f"| 4a | LSTM | 0.115 ± 0.106 {lstm}" in lines
    assert f"| 4d | Live Actions | 0.124 ± 0.097 {lstm}" in lines
    assert "| 4a | DNC | 0.123 ± 0.102 | 0.70 ± 0.20 | 1.5 | `small-s1-dnc` | network=dnc |" in lines
    assert "| 4a | Spiral | 0.467 ± 0.510 | - | - | `small-s1-spiral` | network=spiral |" in lines
    assert (tmp_path / "curves.png").stat().st_size > 1000
