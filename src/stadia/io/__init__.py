"""Read and write files: one module for each kind, with checks of outside data and atomic writes."""

from typing import Literal

VideoDecoder = Literal["cpu", "cuda"]
"""What decodes a video: "cpu" is FFmpeg on the processor, "cuda" the GPU of this machine."""
