"""Bounds of the laws that the catalog tells as well. Imports no torch."""

from __future__ import annotations

BELOW = 3e-3
"""Of the range along an axis: as much lower may a wrong answer be, by rounding, by terms that prefer none, and because
images that are
read between pixels are blurred: .2 % where SSIM alone compares them. What prefers near depth by a little is .6 % lower.
"""

RISES = 0.02
"""Of that range: as much may the loss fall away from the truth; the borders of images leave the frame in steps."""

TELLS = 1e-3
"""Of the loss: as much more must sources cost that are wrong all over. What does not look at them is asked nothing."""

A_COLOR = 0.1
"""Of what sources cost that are wrong all over, two wrong colors at least do."""

HALVES = 0.15
"""Of that: as much more than the mean of either source wrong may both cost that are wrong in one half each. .03 in the
house's losses, .3 to .4 where the minimum is of whole images.
"""

RELIEF, COARSER, SAME_RELIEF = 1e-4, 1.4, 0.01
"""Of the loss, what relief costs at least to be asked about; how many times as much it may cost of images twice as
large, whose slopes are half as steep; and how far it may change with the unit.
"""

HALF_NOISE = 0.5
"""Of what a term of similarity says of noise, what it says at least of images that are half noise."""

BESIDE, LEAST_FOCAL = 0.1, 0.3
"""Of a size: as far beside the image may the principal point be, which half an image has at its border, on either side.
Widths: the focal length at least, of the least image whose middle the principal point is and of which this is a part.
"""

ENOUGH_SAMPLES, ENOUGH_VALUES = 4, 256
"""Images of batch statistics (the specification's 4.3-12); of two or three, values a channel: their variance is then
known to 9 %, were they drawn one by one.
"""
