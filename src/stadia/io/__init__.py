"""Read and write files: one module for each kind, with checks of outside data and atomic writes."""

from typing import Literal

VideoDecoder = Literal["cpu", "cuda"]
"""What decodes a video: FFmpeg on the processor, or the GPU of this machine."""
