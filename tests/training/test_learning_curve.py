"""The picture of a learning curve."""

import pytest
from matplotlib.figure import Figure

from adaptive_core.training.runs import draw_curve


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """Draws a curve of these lines; its panels, label and scale of the values with the names of what is shown."""
    figures = []
    save = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *args, **kwargs: figures.append(self) or save(self, *args, **kwargs)
    )

    def draw(*lines):
        source, target = tmp_path / "curve.csv", tmp_path / "curve.png"
        source.write_text("\n".join(lines) + "\n")
        draw_curve(source, target)
        assert target.read_bytes().startswith(b"\x89PNG")
        return [
            (axes.get_ylabel(), axes.get_yscale(), [line.get_label() for line in axes.get_lines()])
            for axes in figures[-1].axes
        ]

    return draw


def test_similarity_has_a_linear_panel_of_its_own(drawn):
    head = "iteration,seconds,training_ssim,defocus_A,unseen_ssim_at_1"
    panels = drawn(head, "1,2,0.5,58,0.4", "2,4,0.02,57,0.5")
    assert panels == [
        ("SSIM", "linear", ["training ssim", "unseen ssim at 1"]),
        ("defocus A", "linear", ["defocus A"]),
    ]


@pytest.mark.parametrize(
    ("rows", "scale"),
    [(("1,2,9,0.1", "2,4,8,1"), "log"), (("1,2,9,8", "2,4,8,7"), "linear"), (("1,2,9,-0.1", "2,4,nan,0.1"), "linear")],
)
def test_only_positive_values_that_differ_widely_are_shown_by_their_logarithm(drawn, rows, scale):
    assert drawn("iteration,seconds,training,validation", *rows) == [("value", scale, ["training", "validation"])]
