"""Where each finding comes from, and what proves it. Imports no torch.

Lines are those of the project's specifications: "4.1 A5" of the self-supervised one (section 4), "F-09" of metric scale (section 7), and
"D-09", "P-20", "M-14" of DPT, pose and mask (section 4). A finding without a line names the bug that was seen here.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Trace:
    """lines: of the specifications.  here: the bug that was seen here, where there is no line.

    proof: the file of the mutation that must be found by this code.
    """

    proof: str
    lines: tuple[str, ...] = ()
    here: str = ""


RECORDINGS = "tests/mutations/recordings.py"
_MASKS = "tests/mutations/masks.py"
_OBJECTS = "tests/mutations/objects.py"
_OVERLAYS = "tests/mutations/composed.py"
_COURSES = "tests/mutations/courses.py"
_LOSSES = "tests/mutations/losses.py"
_STARTS = "tests/mutations/starts.py"
_ENGINE = "tests/diagnostics/test_engine.py"

TRACES: dict[str, Trace] = {
    "D01": Trace(_ENGINE, here="a recording whose file was cut off stopped an epoch on one worker without its name"),
    "D02": Trace(RECORDINGS, ("4.2 U1",)),
    "D03": Trace(RECORDINGS, ("4.1 D9",)),
    "D04": Trace(RECORDINGS, ("4.1 D8",)),
    "D05": Trace(RECORDINGS, ("4.1 H1",)),
    "D06": Trace(RECORDINGS, ("4.0 scale fingerprint", "D-10")),
    "D07": Trace(RECORDINGS, ("4.0 WIR", "4.1 H2")),
    "D08": Trace(RECORDINGS, ("D-09", "4.5 9")),
    "D09": Trace(RECORDINGS, ("4.1 H8", "4.3 10", "D-14")),
    "D10": Trace(RECORDINGS, ("4.1 H8",)),
    "D11": Trace(RECORDINGS, ("4.1 D7",)),
    "D12": Trace(RECORDINGS, ("4.1 H1",)),
    "D13": Trace("tests/mutations/drives.py", ("4.3 10", "D-14")),
    "D14": Trace(RECORDINGS, here="a dashcam's letterboxed video trained on its bars"),
    "D15": Trace(RECORDINGS, ("4.1 H4", "4.1 D8")),
    "K01": Trace(RECORDINGS, ("4.1 D6",)),
    "K02": Trace(RECORDINGS, ("4.2 U2",)),
    "K03": Trace(RECORDINGS, ("4.1 D6",)),
    "K04": Trace(RECORDINGS, ("4.1 D6", "4.1 D7")),
    "K05": Trace(RECORDINGS, ("4.1 D6",)),
    "K06": Trace(RECORDINGS, ("4.1 D6",)),
    "K07": Trace("tests/diagnostics/test_forms_of_the_rig.py", ("4.1 D5",)),
    "E01": Trace(RECORDINGS, ("4.1 D1",)),
    "E02": Trace(RECORDINGS, ("4.0 plane sweep", "4.1 D1")),
    "E03": Trace(RECORDINGS, ("4.1 D3",)),
    "E04": Trace(RECORDINGS, ("4.1 D2", "4.1 D4", "4.2 U4", "4.2 U5")),
    "E05": Trace(RECORDINGS, ("4.1 D4", "4.2 U7")),
    "E06": Trace(RECORDINGS, ("4.1 E4",)),
    "E07": Trace(RECORDINGS, ("4.1 H2", "4.1 H3", "4.1 D10")),
    "E08": Trace(RECORDINGS, ("4.1 H4", "P-20")),
    "E09": Trace(RECORDINGS, ("4.2 U6",)),
    "U01": Trace(_COURSES, ("4.1 C3",)),
    "U02": Trace(_COURSES, ("4.1 C3", "4.1 A17")),
    "U03": Trace(_COURSES, ("4.1 C1", "4.1 C2", "4.1 C4")),
    "H01": Trace(_MASKS, ("F-31",)),
    "H02": Trace(_MASKS, ("F-30",)),
    "H03": Trace(_MASKS, here="masks of cropped pictures trained as if they fitted"),
    "H04": Trace(_MASKS, ("F-24",)),
    "H05": Trace(_MASKS, ("F-01",)),
    "H06": Trace("tests/recipes/test_metric.py", ("F-11", "F-20")),
    "H07": Trace("tests/recipes/test_metric.py", ("F-32",)),
    "H08": Trace(_COURSES, ("F-12",)),
    "H09": Trace(_COURSES, ("F-08",)),
    "H10": Trace(_COURSES, ("F-07",)),
    "H11": Trace(_COURSES, ("F-09",)),
    "H12": Trace(_COURSES, ("F-13",)),
    "H13": Trace(_COURSES, ("F-14",)),
    "H14": Trace(_COURSES, ("F-15",)),
    "H15": Trace(_COURSES, ("F-18",)),
    "H16": Trace(_MASKS, ("F-01",)),
    "H17": Trace(_COURSES, ("F-39",)),
    "O01": Trace(_OBJECTS, here="objects of BOP that no pixel showed were learnt from"),
    "O02": Trace(_OBJECTS, ("P-03", "P-04")),
    "O03": Trace(_OBJECTS, here="a class of which training had no object was scored as a failure"),
    "O04": Trace("tests/diagnostics/test_object_findings.py", here="NOCS's layout leaves objects without a pose"),
    "O05": Trace(_OBJECTS, ("P-13", "P-19")),
    "C01": Trace(_OVERLAYS, ("M-14", "M-16")),
    "C02": Trace(_OVERLAYS, ("M-14",)),
    "C03": Trace("tests/diagnostics/test_overlay_findings.py", ("M-15",)),
    "C04": Trace("tests/diagnostics/test_overlay_findings.py", ("M-15",)),
    "C05": Trace("tests/diagnostics/test_overlay_findings.py", ("M-17", "4.5 9")),
    "C06": Trace(_OVERLAYS, ("M-13",)),
    "C07": Trace("tests/diagnostics/test_overlay_findings.py", ("M-23",)),
    "C08": Trace(_OVERLAYS, ("M-18",)),
    "C09": Trace(_OVERLAYS, here="a photograph without alpha, given as a foreground, covered its background"),
    "C10": Trace(_COURSES, ("M-07",)),
    "C11": Trace(_COURSES, ("M-04",)),
    "C12": Trace(_COURSES, ("M-05",)),
    "C13": Trace("tests/recipes/test_overlay.py", ("M-22",)),
    "C14": Trace(_OVERLAYS, here="published depth, in [0, 1], lost half of its labels to a range of metres"),
    "T01": Trace(_COURSES, ("D-01", "4.3 1")),
    "T02": Trace(_COURSES, ("D-19", "4.1 G4")),
    "T03": Trace(_COURSES, ("D-11", "4.1 B3")),
    "T04": Trace(_COURSES, ("4.1 H7",)),
    "T05": Trace(_COURSES, ("4.1 H7",)),
    "T06": Trace(_COURSES, ("M-09",)),
    "T07": Trace(_COURSES, ("F-16",)),
    "T08": Trace("tests/diagnostics/test_watch.py", ("4.1 B8", "M-01")),
    "T09": Trace(_COURSES, ("4.1 G5",)),
    "T10": Trace(_COURSES, ("4.1 B3", "4.1 G7")),
    "T11": Trace(_COURSES, ("4.1 D8",)),
    "T12": Trace(_COURSES, ("M-02", "M-03")),
    "S20": Trace(_COURSES, ("4.0 WIR", "4.1 E1", "4.2 U2")),
    "S21": Trace(_COURSES, ("4.1 H8",)),
    "L20": Trace(_COURSES, ("4.1 G8", "4.1 E3")),
    "B20": Trace(_COURSES, ("4.1 F1",)),
    "B21": Trace(_COURSES, ("4.1 F6",)),
    "U04": Trace(_COURSES, ("4.1 C5",)),
    "P20": Trace(_COURSES, ("4.1 E4",)),
    "R20": Trace(_COURSES, ("4.1 A10",)),
    "K20": Trace(_STARTS, ("4.1 D7", "4.2 U2")),
    "S01": Trace(_STARTS, ("4.0 OOF", "4.1 E2")),
    "M01": Trace(_STARTS, ("4.1 B5", "4.1 B13a")),
    "M02": Trace(_STARTS, ("4.1 B3", "D-11")),
    "M03": Trace(_STARTS, ("4.1 B1", "D-11")),
    "L01": Trace(_LOSSES, ("4.0 loss contract tests", "4.1 B2", "4.1 A11", "4.2 U3")),
    "L02": Trace(_LOSSES, ("4.0 loss contract tests", "4.1 F7")),
    "L03": Trace(_LOSSES, ("4.0 loss contract tests", "4.1 G1")),
    "L04": Trace(_LOSSES, ("4.0 loss contract tests", "4.3 4", "D-02")),
    "L05": Trace(_LOSSES, ("4.0 loss contract tests", "4.1 A1", "4.1 A14", "4.4 8")),
    "L06": Trace(_LOSSES, ("4.0 loss contract tests", "4.1 A1", "4.1 A10")),
    "L07": Trace(_LOSSES, ("4.0 loss contract tests", "4.1 A7")),
    "L08": Trace(_LOSSES, ("4.0 loss contract tests",)),
    "L09": Trace(_LOSSES, ("4.1 A4", "4.1 B8", "4.4 1", "P-16")),
    "L10": Trace(_LOSSES, ("4.1 G1", "4.4 6", "P-04")),
    "L11": Trace(_LOSSES, ("4.4 1", "P-03", "4.2 U9")),
    "L12": Trace(_LOSSES, ("4.1 A6", "4.4 6", "P-04")),
    "L13": Trace(_LOSSES, ("M-08", "4.1 A16", "D-02")),
    "L14": Trace(_LOSSES, ("M-08",)),
    "L15": Trace(_LOSSES, ("D-11",)),
    "L16": Trace(_LOSSES, ("4.0 loss contract tests", "4.1 A3", "4.1 A5")),
    "L17": Trace(_LOSSES, ("4.4 2", "4.4 7", "P-01", "4.5 14")),
    "L18": Trace(_LOSSES, ("4.3 3", "D-04")),
    "B01": Trace(_LOSSES, ("4.0 loss contract tests", "4.1 A2")),
    "B02": Trace(_STARTS, ("4.1 F3",)),
    "P01": Trace(_LOSSES, ("4.0 loss contract tests", "4.1 E4")),
    "P02": Trace(_STARTS, ("4.1 E2", "4.1 E5")),
    "R01": Trace(_STARTS, ("4.1 A10", "4.1 A12")),
    "T20": Trace(_STARTS, ("4.1 G2", "4.1 G3")),
    "T21": Trace(_STARTS, ("4.1 G2",)),
    "T22": Trace(_STARTS, ("4.1 G1",)),
    "T23": Trace(_STARTS, ("4.1 G1", "4.1 B7", "P-04")),
    "T26": Trace(_STARTS, ("4.1 H12", "P-22")),
    "T27": Trace(_STARTS, ("4.1 G6", "D-07")),
    "T28": Trace(_STARTS, ("4.2 U9", "D-12")),
    "T29": Trace(_STARTS, ("4.1 A16", "4.3 2", "D-03")),
    "D40": Trace(_STARTS, ("4.1 F8", "4.1 E8", "4.1 H10")),
    "D41": Trace(_STARTS, ("4.2 U1", "M-03")),
    "D42": Trace(_STARTS, ("4.1 D8",)),
    "T33": Trace(_STARTS, ("4.3 12",)),
    "N01": Trace(_ENGINE, here="a check that could not run was taken for one that had found nothing"),
    "N02": Trace(_ENGINE, here="a check of some recordings was taken for one of all"),
}
"""By the finding's code."""
