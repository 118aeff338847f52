"""The commands that read files, each with the file that is damaged, and the options that take hostile words."""

from benchmarks.campaign.object_readers import OBJECT_READERS, Reader

_KITTI = "kitti/sequences/06"
_RUN_FILES = {
    "run.json": True,
    "config.json": True,
    "metrics.csv": True,
    "histograms.csv": True,
    "findings.jsonl": True,
    "scores/val.json": True,
    "clouds/val/camera.json": True,
    "clouds/val/depth.png": False,
    "predictions/val/stadia/b/predictions.json": True,
}
"""Files of a run, and whether they are text."""
READERS = (
    Reader("image/predict", "run images", "images/000001.png", "predict run images CAMERA --out out", changes="out"),
    Reader("image/check", "images", "images/000001.png", "check images CAMERA"),
    Reader(
        "image/one", "run images", "images/000001.png", "predict run images/000001.png CAMERA --out out", changes="out"
    ),
    Reader("jpeg/one", "run photo.jpg", "photo.jpg", "predict run photo.jpg CAMERA --out out", changes="out"),
    Reader("video/predict", "run drive.mp4", "drive.mp4", "predict run drive.mp4 CAMERA --out out", changes="out"),
    Reader("video/odometry", "run drive.mp4", "drive.mp4", "odometry run drive.mp4 CAMERA --out out", changes="out"),
    Reader("video/check", "drive.mp4", "drive.mp4", "check drive.mp4 CAMERA"),
    Reader("stadia/recording", "stadia", "stadia/a/recording.json", "check stadia", text=True),
    Reader("stadia/dataset", "stadia", "stadia/dataset.json", "check stadia", text=True),
    Reader("stadia/poses", "stadia", "stadia/a/poses.txt", "check stadia", text=True),
    Reader("stadia/depth", "stadia", "stadia/a/depth/left/000001.npy", "check stadia"),
    Reader("kitti/calib", "kitti", "kitti/sequences/06/calib.txt", "check kitti/sequences/06", text=True),
    Reader("kitti/times", "kitti", "kitti/sequences/06/times.txt", "check kitti/sequences/06", text=True),
    Reader("kitti/poses", "kitti", "kitti/poses/06.txt", "check kitti/sequences/06", text=True),
    Reader("camera/file", "images calib.json", "calib.json", "check images data.camera.file=calib.json", text=True),
    Reader("poses/option", "images kitti.txt", "kitti.txt", "check images CAMERA data.poses=kitti.txt", text=True),
    Reader(
        "depth/png", "depth_png depth_npy", "depth_png/000001.png", "evaluate --depth depth_png --reference depth_npy"
    ),
    Reader(
        "depth/npy", "depth_png depth_npy", "depth_npy/000001.npy", "evaluate --depth depth_npy --reference depth_png"
    ),
    Reader(
        "depth/npz", "depth_npz depth_npy", "depth_npz/000001.npz", "evaluate --depth depth_npz --reference depth_npy"
    ),
    Reader(
        "depth/reference",
        "depth_npz depth_npy",
        "depth_npy/000001.npy",
        "evaluate --depth depth_npz --reference depth_npy",
    ),
    Reader(
        "trajectory/kitti",
        "kitti.txt tum.txt",
        "kitti.txt",
        "evaluate --trajectory kitti.txt --reference kitti.txt",
        text=True,
    ),
    Reader(
        "trajectory/tum",
        "tum.txt",
        "tum.txt",
        "evaluate --trajectory tum.txt --reference tum.txt --format tum",
        text=True,
    ),
    Reader(
        "predictions/record",
        "predictions depth_npy",
        "predictions/predictions.json",
        "evaluate --depth predictions --reference depth_npy",
        text=True,
    ),
    Reader(
        "predictions/map",
        "predictions depth_npy",
        "predictions/depth/000001.npz",
        "evaluate --depth predictions --reference depth_npy",
    ),
    Reader(
        "objects/csv", "objects.csv", "objects.csv", "evaluate --objects objects.csv --reference objects.csv", text=True
    ),
    Reader(
        "frames/list",
        "run stadia frames.txt",
        "frames.txt",
        "evaluate run stadia --frames frames.txt --out out",
        text=True,
        changes="out run/scores",
    ),
    Reader("study", "stadia study.yaml", "study.yaml", "ablate study.yaml --dry-run", text=True),
    Reader(
        "space",
        "stadia space.yaml",
        "space.yaml",
        "sweep selfsup optimizer.nothing=1 --space space.yaml --trials 2 --out out",
        text=True,
        changes="out",
    ),
    Reader("preset", "stadia mine.yaml", "mine.yaml", "train selfsup --preset mine.yaml data.path=nowhere", text=True),
    Reader(
        "config", "run stadia", "run/config.json", "train selfsup --config run/config.json data.path=nowhere", text=True
    ),
    Reader(
        "checkpoint/predict",
        "run images",
        "run/checkpoints/best.safetensors",
        "predict run images CAMERA --out out",
        changes="out",
    ),
    Reader(
        "checkpoint/export", "run", "run/checkpoints/best.safetensors", "export run --out out.onnx", changes="out.onnx"
    ),
    Reader(
        "checkpoint/resume",
        "run stadia",
        "run/checkpoints/last.safetensors",
        "train --resume run",
        changes="run/run.json",
    ),
    Reader(
        "onnx/predict", "depth.onnx images", "depth.onnx", "predict depth.onnx images CAMERA --out out", changes="out"
    ),
    *(
        Reader(f"run/{file}/{command}", "run", f"run/{file}", f"{command} run", text, "run/report.html")
        for file, text in _RUN_FILES.items()
        for command in ("report", "diagnose")
        if command == "report" or "/" not in file
    ),
    *(
        Reader(f"resume/{file}", "run stadia", f"run/{file}", "train --resume run", True, "run")
        for file in ("run.json", "config.json", "metrics.csv", "histograms.csv", "findings.jsonl")
    ),
    *OBJECT_READERS,
)

DATASET_READERS = (
    Reader("euroc/sensor", "euroc", "euroc/mav0/cam0/sensor.yaml", "check euroc/mav0", text=True),
    Reader("euroc/images", "euroc", "euroc/mav0/cam1/data.csv", "check euroc/mav0", text=True),
    Reader("euroc/truth", "euroc", "euroc/mav0/state_groundtruth_estimate0/data.csv", "check euroc/mav0", text=True),
    Reader("sevenscenes/pose", "seq-01", "seq-01/frame-000001.pose.txt", "check seq-01", text=True),
    Reader("sevenscenes/depth", "seq-01", "seq-01/frame-000000.depth.png", "check seq-01"),
)

_SHORT = "data.height=64 data.width=96 training.max_steps=2 training.batch_size=2 --on-stop warn --out runs"
OPTIONS = (
    ("predict --every", "run images", "predict run images CAMERA --out out --every @"),
    ("predict --size", "run images", "predict run images CAMERA --out out --size @"),
    ("predict --motion", "run images", "predict run images CAMERA --out out --motion @"),
    ("predict INPUT", "run images", "predict run @ CAMERA --out out"),
    ("predict RUN", "run images", "predict @ images CAMERA --out out"),
    ("odometry --method", "run images", "odometry run images CAMERA --out out --method @"),
    ("evaluate --protocol", "depth_npz depth_npy", "evaluate --depth depth_npz --reference depth_npy --protocol @"),
    ("evaluate --crop", "depth_npz depth_npy", "evaluate --depth depth_npz --reference depth_npy --crop @"),
    (
        "evaluate --depth-scale",
        "depth_npz depth_npy",
        "evaluate --depth depth_npz --reference depth_npy --depth-scale @",
    ),
    ("evaluate --format", "kitti.txt", "evaluate --trajectory kitti.txt --reference kitti.txt --format @"),
    ("evaluate --align", "kitti.txt", "evaluate --trajectory kitti.txt --reference kitti.txt --align @"),
    (
        "evaluate --max-difference",
        "tum.txt",
        "evaluate --trajectory tum.txt --reference tum.txt --format tum --max-difference @",
    ),
    ("check DATA", "images", "check @"),
    ("check --seconds", "images", "check images CAMERA --seconds @"),
    ("check --only", "images", "check images CAMERA --only @"),
    ("check --format", "images", "check images CAMERA --format @"),
    ("check focal_px", "images", "check images data.camera.focal_px=@"),
    ("check fov", "images", "check images data.camera.horizontal_fov_deg=@"),
    ("check K", "images", "check images data.camera.K=@"),
    ("check stride", "images", "check images CAMERA data.stride=@"),
    ("check poses", "images", "check images CAMERA data.poses=@"),
    ("explain", "", "explain @"),
    ("list", "", "list @"),
    ("report RUN", "run", "report @"),
    ("diagnose RUN", "run", "diagnose @"),
    ("compare", "run", "compare run @"),
    ("camera-height masks", "images", "camera-height images CAMERA masks=@"),
    ("masks --by", "images", "masks images --by @ --out out"),
    ("export RUN", "run", "export @ --out out.onnx"),
    ("ablate --seeds", "stadia study.yaml", "ablate study.yaml --dry-run --seeds @"),
    ("ablate --change", "stadia study.yaml", "ablate study.yaml --dry-run --change @"),
    ("ablate --margin", "stadia study.yaml", "ablate study.yaml --dry-run --margin @"),
    ("ablate --metric", "stadia study.yaml", "ablate study.yaml --dry-run --metric @"),
    ("ablate --name", "stadia study.yaml", "ablate study.yaml --dry-run --name @"),
    ("sweep --metric", "space.yaml", "sweep selfsup optimizer.nothing=1 --trials 1 --metric @ --out out"),
    ("sweep --space", "space.yaml", "sweep selfsup optimizer.nothing=1 --trials 1 --space @ --out out"),
    ("sweep --seed", "space.yaml", "sweep selfsup optimizer.nothing=1 --trials 1 --seed @ --out out"),
    ("sweep --trials", "space.yaml", "sweep selfsup optimizer.nothing=1 --trials @ --out out"),
    ("sweep RECIPE", "space.yaml", "sweep @ optimizer.nothing=1 --trials 1 --out out"),
    ("data roadworld", "", "data roadworld --preset tiny --out out frames=@"),
    ("data roadworld --worlds", "", "data roadworld --preset tiny --out out --worlds @"),
    ("train RECIPE", "", "train @ data.path=nowhere"),
    ("train --preset", "", "train selfsup --preset @ data.path=nowhere"),
    ("train --resume", "", "train --resume @"),
    ("train data.path", "", "train selfsup data.path=@"),
    (
        "train start_from",
        "stadia",
        f"train selfsup data.path=stadia start_from=@ model.network.encoder=test_efficientnet {_SHORT}",
    ),
    ("train word", "", "train selfsup @"),
    ("train encoder", "stadia", f"train selfsup data.path=stadia model.network.encoder=@ {_SHORT}"),
)
"""Name, inputs, and a command line in which `@` is the hostile word."""
