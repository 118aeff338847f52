"""`stadia explain` prints an entry, a family, or the families of the catalog."""

from stadia.judge.catalog import CATALOG


def test_a_code_is_explained_in_all_its_parts(stadia) -> None:
    code, out, _ = stadia("explain", "h11")
    assert code == 0
    entry = CATALOG["H11"]
    for part in (entry.title, entry.symptom, entry.cause, entry.fix, entry.measured, entry.proof):
        assert part in out
    assert entry.family.label in out


def test_a_zero_may_be_left_out(stadia) -> None:
    assert stadia("explain", "l5") == stadia("explain", "L05")


def test_families_are_listed_and_a_letter_lists_one(stadia) -> None:
    _, out, _ = stadia("explain")
    assert all(f"{entry.family}  {entry.family.label}" in out for entry in CATALOG.values())
    assert str(len(CATALOG)) in out
    assert len(out.splitlines()) <= 20
    _, of_family, _ = stadia("explain", "u")
    assert {line[0] for line in of_family.splitlines()[:-1]} == {"U"}
