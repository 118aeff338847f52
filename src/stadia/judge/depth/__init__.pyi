"""Public names; `__init__.py` loads a module when one of its names is used."""

from .frame_measurements import FrameMeasurements as FrameMeasurements
from .frame_measurements import PointMeasurements as PointMeasurements
from .frame_measurements import SampledFrame as SampledFrame
from .frame_measurements import measure_frames as measure_frames
from .frame_measurements import reduce_image as reduce_image
from .prediction_verdict import PredictionVerdict as PredictionVerdict
from .prediction_verdict import find_verdict as find_verdict
from .prediction_verdict import judge_measurements as judge_measurements
from .training_record import TrainingRecord as TrainingRecord
