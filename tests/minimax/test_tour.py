"""`aigc minimax`: the page stands alone, and a wrong option is answered in one line."""

import json
import re
from pathlib import Path

import pytest

from aigc_lab.cli import main
from aigc_lab.errors import UserError
from aigc_lab.minimax import tour
from aigc_lab.minimax.laws import Gaussians, parse_law

ROOT = Path(__file__).resolve().parents[2]
TINY = tour.Effort(line_steps=4, frames=3, plane_steps=10, separations=3)


def test_laws_are_read_as_they_are_written() -> None:
    assert parse_law("N(0,1)") == Gaussians((1.0,), (0.0,), (1.0,))
    assert parse_law("0.3 N(-2, .5) + 0.7*N(+2, 5e-1)") == Gaussians((0.3, 0.7), (-2.0, 2.0), (0.5, 0.5))
    assert parse_law("N(-1,1)+N(1,1)").weights == (0.5, 0.5)
    for law in (Gaussians((0.25, 0.75), (-1.5, 2.0), (0.5, 0.25)), Gaussians((1.0,), (0.0,), (1.0,))):
        assert parse_law(str(law)) == law
    law = parse_law("0.3 N(-2, 0.5) + 0.7 N(2, 0.5)").law()
    assert float(law.mean) == pytest.approx(0.8) and float(law.variance) == pytest.approx(3.61)


@pytest.mark.parametrize(
    "text",
    ["", "N(0, -1)", "N(0, 0)", "N(0", "0.5 N(0,1) + N(1,1)", "2 N(0,1)", "N(nan, 1)", "N(1e400, 1)", "N(0,1)+",
     "U(0, 1)", "-0.5 N(0,1) + 1.5 N(1,1)", "N(0, 1) + N(0, 1e-9)", "__import__('os')", "+".join(["N(0,1)"] * 99)],
)  # fmt: skip
def test_other_laws_are_refused(text: str) -> None:
    with pytest.raises(UserError) as refused:
        parse_law(text)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 250


def test_wrong_options_are_answered_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    wrong = [["--p", "N(0, -1)"], ["--output", str(tmp_path)], ["--output", str(tmp_path / "file" / "x.html")]]
    for options in wrong:
        assert main(["minimax", *options]) == 2
        out, err = capsys.readouterr()
        assert not out and err.count("\n") == 1, err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_notebook_draws_every_figure_of_the_tour() -> None:
    """The page's last line says so."""
    notebook = json.loads((ROOT / "notebooks/minimax.ipynb").read_text())
    code = "".join("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code")
    steps = (ROOT / "aigc_lab/minimax/tour_steps.py").read_text()
    for drawn in set(re.findall(r"(?:figures\.(?!to_)|modes\.)\w+(?=\()", steps)) | {"modes.grid(", "modes.ring("}:
        assert drawn in code, drawn


def test_the_tour_writes_one_page_that_stands_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output, fake = tmp_path / "new" / "page.html", parse_law("0.5 N(-1, 1) + 0.5 N(1, 1)")
    tour.run_tour(
        parse_law("N(0, 1)"), fake, output, TINY, lambda _: None, made_by="aigc <script>alert(1)</script>"
    )
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == str(output)
    assert [int(n) for n in re.findall(r"^(\d)\. ", out, re.MULTILINE)] == [1, 2, 3, 4, 5, 6, 7]
    page = output.read_text()
    assert "<script" not in page and "http" not in re.sub(r"base64,[A-Za-z0-9+/=]*", "", page)
    sources = re.findall(r'(?:src|srcset|href)="([^"]*)"', page)
    assert len(sources) == 11 and all(source.startswith("data:image/") for source in sources)
    assert page.count('lang="en">') == page.count('lang="zh-CN">')  # <html lang="en"> beside the switch's label
    assert [p.name for p in output.parent.iterdir()] == ["page.html"]
