"""Wrong forms of a rig's extrinsics, and pairs that were not rectified."""

from collections.abc import Callable

import cv2
import numpy as np
from scipy.spatial.transform import Rotation
from tests.mutations.mutated_recording import Image, Matrix, Mutated

from stadia.core.types import LEFT, Recording

# EuRoC's, as are these two, by inv(T_BS1) T_BS0 and T_BS1 inv(T_BS0) (rotation vectors in radians, metres)
_BASELINE_M = 0.1100778
T_RIGHT_LEFT = (-0.014091, 0.000360, -0.002315), (-0.110074, 0.000399, -0.000854)
IN_BODY_AXES = (0.000579, 0.014139, 0.001949), (0.001530, 0.110094, -0.002215)


def euroc_rig(form: tuple[tuple[float, ...], tuple[float, ...]], turned: bool = True) -> Callable[[Matrix], Matrix]:
    """A rig of EuRoC's in some form, its baseline that of the recording."""

    def rig(T_right_left: Matrix) -> Matrix:
        T = np.eye(4)
        if turned:
            T[:3, :3] = cv2.Rodrigues(np.array(form[0]))[0]
        T[:3, 3] = np.array(form[1]) * np.linalg.norm(T_right_left[:3, 3]) / _BASELINE_M
        return T

    return rig


class Unrectified(Mutated):
    """The right camera turned, as that of a pair that was not rectified: its images, and its rig in some form.

    form: of the true rotation (3, 3), the one that the rig is given.
    """

    def __init__(
        self, recording: Recording, turn: tuple[float, float, float], form: Callable[[Matrix], Matrix]
    ) -> None:
        self._turn = cv2.Rodrigues(np.array(turn))[0]
        true = np.eye(4)
        true[:3, :3] = self._turn
        given = true @ recording.T_right_left
        given[:3, :3] = form(self._turn)
        super().__init__(recording, rig=lambda _: given)

    def image(self, index: int, side: str = LEFT) -> Image:
        picture = super().image(index, side)
        if side == LEFT:
            return picture
        K = self.camera(index, side).K
        turned = cv2.warpPerspective(picture, K @ self._turn @ np.linalg.inv(K), picture.shape[1::-1])
        return np.asarray(turned, np.uint8)


SMALL_TURN = T_RIGHT_LEFT[0]
LARGE_TURN = (0.02, -0.12, 0.20)  # radians: of less, the order of Euler angles changes nothing that could be seen


def other_order(R: Matrix) -> Matrix:
    return Rotation.from_euler("xyz", Rotation.from_matrix(R).as_euler("XYZ")).as_matrix()
