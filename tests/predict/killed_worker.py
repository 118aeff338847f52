"""A worker that processes of a batch can import: it predicts nothing, and one video ends its process."""

import os
import time

from stadia.predict.batch import VideoItem, VideoResult, VideoWorker


class KilledWorker(VideoWorker):
    def predict(self, item: VideoItem) -> VideoResult:
        if item.name == "poison":
            os._exit(9)
        if item.name == "slow":
            time.sleep(600)
        return VideoResult(video=item.name, state="done", frames=os.getpid())
