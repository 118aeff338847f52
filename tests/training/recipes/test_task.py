"""Scoring: what an earlier one left is kept."""

from pathlib import Path

from stadia.predict import tasks


def test_earlier_predictions_are_moved_and_not_removed(tmp_path: Path) -> None:
    folder = tmp_path / "predictions" / "val"
    for number in (1, 2):
        folder.mkdir(parents=True)
        (folder / "mine.npz").write_text(f"{number}")
        tasks.take_back(folder, tmp_path)
        assert not folder.exists()
        assert (tmp_path / "taken-back" / "predictions" / f"val-{number}" / "mine.npz").read_text() == f"{number}"
    tasks.take_back(folder, tmp_path)
