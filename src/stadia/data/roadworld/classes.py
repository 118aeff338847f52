"""The semantic classes of RoadWorld, by the names of Cityscapes."""

from __future__ import annotations

from enum import IntEnum


class SemanticClass(IntEnum):
    """The class of a pixel. `SKY` has depth 0; a kerb belongs to the sidewalk, a lane marking to the road."""

    SKY = 0
    ROAD = 1
    SIDEWALK = 2
    TERRAIN = 3
    BUILDING = 4
    VEGETATION = 5
    POLE = 6
    SIGN = 7
    PERSON = 8
    CAR = 9
    FENCE = 10

    @property
    def label(self) -> str:
        return {"SIGN": "traffic sign"}.get(self.name, self.name.lower())


PALETTE: dict[SemanticClass, tuple[int, int, int]] = {
    SemanticClass.SKY: (70, 130, 180),
    SemanticClass.ROAD: (128, 64, 128),
    SemanticClass.SIDEWALK: (244, 35, 232),
    SemanticClass.TERRAIN: (152, 251, 152),
    SemanticClass.BUILDING: (70, 70, 70),
    SemanticClass.VEGETATION: (107, 142, 35),
    SemanticClass.POLE: (153, 153, 153),
    SemanticClass.SIGN: (220, 220, 0),
    SemanticClass.PERSON: (220, 20, 60),
    SemanticClass.CAR: (0, 0, 142),
    SemanticClass.FENCE: (190, 153, 153),
}
"""RGB of each class in previews."""
