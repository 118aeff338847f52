"""`stadia report RUN` writes where it says."""

from dataclasses import replace

from stadia.io.run_facts import UNKNOWN_FACTS, write_run_facts


def test_report_of_a_run(stadia, tmp_path):
    write_run_facts(tmp_path, replace(UNKNOWN_FACTS, recipe="selfsup", status="finished"))
    code, out, err = stadia("report", str(tmp_path))
    lost = f"note: {tmp_path}: config.json is missing, although every run has one\n"
    lost += f"note: {tmp_path}: checkpoints/last.safetensors is missing, although the run is finished\n"
    assert (code, err) == (0, lost)
    assert out == f"report: {tmp_path / 'report.html'}\n"
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "selfsup" in page
    assert "config.json is missing, although every run has one: this report lacks what it held." in page
    assert "last.safetensors is missing, although the run is finished: the run cannot be resumed." in page
