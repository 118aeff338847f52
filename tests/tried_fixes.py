"""Lines that print a fix, and the line of the fix, which then succeeds; `test_fixes` runs them."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass

from tests import fix_inputs as inputs
from tests.fix_inputs import FOCAL
from tests.sound import TINY


@dataclass(frozen=True)
class Tried:
    """A fix that is run.

    line: words after `stadia` that print the fix.
    cure: the words with the fix. It succeeds, and prints the fix no more.
    figure: pattern of a number that both lines print; empty if the exit status is the figure: 2 before, 0 after.
    prepare: line of Python, or function, that makes the mistake in the folder of `write_files`.
    first: command that is run before the line.
    between: command that the fix says to run first.
    repair: line of Python, or function, that the fix says to run, or a change of a file.
    status: exit status of the line: 2 if it is refused.
    """

    line: str
    cure: str
    figure: str = ""
    prepare: str | Callable[[], None] = ""
    between: str = ""
    first: str = ""
    repair: str | Callable[[], None] = ""
    status: int = 2


EDIT_MAPS = "import glob, numpy as np; [np.save(f, {}) for f in glob.glob('depth_npy/*.npy')]"
LATE = "import numpy as np; a = np.loadtxt('tum.txt'); a[:, 0] += 0.05; np.savetxt('late.txt', a)"
WRONG_CENTER = "import pathlib; pathlib.Path('K.txt').write_text('100 0 900\\n0 100 40\\n0 0 1\\n')"
COPY_VIDEO = "import os, shutil; os.mkdir('videos'); shutil.copy('drive.mp4', 'videos/a.mp4')"
FOUR_POSES = "import numpy as np; np.savetxt('kitti.txt', np.loadtxt('kitti.txt')[:4])"
WRITE_JSON = "import json, pathlib; pathlib.Path('K.json').write_text(json.dumps({}))"
WRITE_PAIR = (
    "import pathlib; pathlib.Path('P.txt').write_text("
    "'P0: 120 0 77 0 0 120 41 0 0 0 1 0\\nP1: 120 0 77 {} 0 120 41 0 0 0 1 0\\n')"
)

WRITE_ONNX = (
    "import onnx; from onnx import helper, TensorProto; "
    "values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in 'ab']; "
    "graph = helper.make_graph([helper.make_node('Identity', ['a'], ['b'])], 'g', values[:1], values[1:]); "
    "onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid('', 13)]), 'x.onnx')"
)

TRAIN = shlex.join([word for word in TINY if "_every=" not in word] + ["training.check_seconds=0", "--dry-run"])
"""A training of the smallest network that is only tried."""

STAGES = '\'training.stages=[{"height":64,"width":96,"share":0.5},{"height":64,"width":96,"share":0.5}]\''
SMALL = "data.height=64 data.width=96 training.batch_size=2 training.max_steps=2 training.check_seconds=0 --dry-run"
LONGER = "training.max_steps=5000 training.max_epochs=null training.max_minutes=null"
ABLATE = (
    "ablate --data stadia --recipe metric --dry-run --change 'f: optimizer.lr=1e-3' "
    "training.max_steps=9 training.max_epochs=null"
)
OVERLAY = "foregrounds.path=cutouts height=32 width=32 --out o --count 2 --val 1"
PREDICT = f"--no-cloud --no-video {FOCAL}"

TRIED = {
    "see stadia evaluate --help": Tried("evaluate", "evaluate --help"),
    "see `stadia list networks`": Tried("app none/run", "list networks"),
    "see `stadia list checks`": Tried("check images --only nope", "list checks"),
    "see `stadia list`": Tried("odometry base images --out o --method foo", "list"),
    "see `stadia list presets`, or pass the path of a .yaml file": Tried("train --preset foo", "list presets"),
    "`stadia list recipes` lists them": Tried("train", "list recipes"),
    "choose another folder, or pass --force to replace them": Tried(
        "rig pin videos --out rig",
        "rig pin videos --out rig --force",
        prepare=f"{COPY_VIDEO}; os.mkdir('rig'); shutil.copy('calib.json', 'rig/rig.json')",
    ),
    "--plot {}.png": Tried(
        "evaluate --trajectory tum.txt --reference tum.txt --plot a.pdf",
        "evaluate --trajectory tum.txt --reference tum.txt --plot a.png",
    ),
    "stadia evaluate --trajectory {} --reference {}": Tried(
        "compare tum.txt kitti.txt", "evaluate --trajectory tum.txt --reference kitti.txt"
    ),
    "the nearest are {} s apart: pass --max-difference {}": Tried(
        "evaluate --trajectory late.txt --reference tum.txt",
        "evaluate --trajectory late.txt --reference tum.txt --max-difference 0.075",
        prepare=LATE,
    ),
    "pass --depth-scale {} --protocol relative": Tried(
        "evaluate --depth depth_npy --reference depth_png",
        "evaluate --depth depth_npy --reference depth_png --depth-scale affine-inverse --protocol relative",
        figure=r"abs_rel +([\d.e-]+)",
        prepare=EDIT_MAPS.format("1 / np.load(f)"),
    ),
    "pass {}": Tried(
        "evaluate --depth depth_npy --reference depth_png --reference-factor 1000",
        "evaluate --depth depth_npy --reference depth_png --reference-factor 256",
        figure=r"abs_rel +([\d.e-]+)",
    ),
    "pass one of these, such as --fov {} for a phone's main camera": Tried("camera images", "camera images --fov 69"),
    "name each video, such as stadia camera {}": Tried(
        "camera videos --fov 60", "camera videos/a.mp4 --fov 60", prepare=COPY_VIDEO
    ),
    "pass --calibration FILE": Tried("camera images --camera K", "camera images --camera K --calibration calib.json"),
    "choose it by --camera": Tried(
        "camera images --calibration calib.json --camera cam9", "camera images --calibration calib.json --camera K"
    ),
    "; or pass --force for cropped images": Tried(
        "camera photo.jpg --calibration K.txt", "camera photo.jpg --calibration K.txt --force", prepare=WRONG_CENTER
    ),
    "set it with stadia camera INPUT --fov DEGREES": Tried(
        "check images --only intrinsics", "check images --only intrinsics", between="camera images --fov 67"
    ),
    "run first: stadia camera {} --fov DEGREES": Tried(
        "calibrate images point=80,60:2.0@000000 --network base",
        "calibrate images point=80,60:2.0@000000 --network base",
        between="camera images --fov 67",
    ),
    "for example optimizer.lr=2e-4": Tried(
        "check drive.mp4 --only frames data.frames", "check drive.mp4 --only frames data.frames=[0,12]"
    ),
    'for example --change "fast: optimizer.lr=1e-3"': Tried(
        "ablate --data stadia --recipe selfsup --dry-run --change x",
        "ablate --data stadia --recipe selfsup --dry-run --change 'fast: optimizer.lr=1e-3'",
    ),
    "choose frames that the recording has, such as data.frames=[0,{}]": Tried(
        "check drive.mp4 --only frames data.frames=[90,99]", "check drive.mp4 --only frames data.frames=[0,12]"
    ),
    "choose a new name for --out that ends in .csv": Tried(
        "data survey videos --out x.txt", "data survey videos --out x.csv", prepare=COPY_VIDEO
    ),
    "pass --out DIR": Tried("odometry base images", "odometry base images --out path --method aligned"),
    "choose another --out": Tried(
        "scale depth_npy --images images --scale-from height=1.5 --out images",
        "scale depth_npy --images images --scale-from height=1.5 --out scaled",
    ),
    "choose another --out: nothing is overwritten": Tried("data shard stadia images", "data shard stadia shards"),
    "for example --scale-from height=1.5, or --scale-from gps=track.gpx": Tried(
        "scale depth_npy --images images --out s", "scale depth_npy --images images --out s --scale-from height=1.5"
    ),
    "for example --scale-from height=1.5": Tried(
        "scale depth_npy --images images --out s --scale-from xx",
        "scale depth_npy --images images --out s --scale-from height=1.5",
    ),
    "for example point=640,200:12.3, or point=640,200:12.3@000010": Tried(
        "scale depth_npy --images images --out s --scale-from point=3",
        "scale depth_npy --images images --out s --scale-from point=64,40:12.3@000001",
    ),
    "for example distance=000000..000050:59.9, or distance=120,300..480,310:2.1@000010 for two pixels": Tried(
        "scale depth_npy --images images --out s --scale-from distance=3",
        "scale depth_npy --images images --out s --scale-from distance=20,60..140,62:2.1@000001",
        between="camera images --fov 67",
    ),
    "pass --baseline METRES, or a file with both projections (P1 and P2)": Tried(
        "stereo images images calib.json --out s", "stereo images images calib.json --out s --baseline 0.1"
    ),
    "pass fx=700,fy=700,cx=640,cy=360, and width, height, k1, k2, p1, p2 if they are known": Tried(
        "check kitti.txt --images images --camera fx=x",
        "check kitti.txt --images images --camera fx=120,fy=120,cx=77,cy=41",
        prepare=FOUR_POSES,
    ),
    "pass the camera: --camera FILE, or --camera fx=700,fy=700,cx=640,cy=360": Tried(
        "check kitti.txt --images images", "check kitti.txt --images images --camera calib.json", prepare=FOUR_POSES
    ),
    "predict this image: stadia predict {}": Tried("adapt base photo.jpg --out a", "predict photo.jpg --out p"),
    "pass the folder of its sequence, or predict this image: `stadia predict {}`": Tried(
        "check photo.jpg", "predict photo.jpg --out p"
    ),
    "remove --every": Tried(
        "evaluate base stadia --frames frames.txt --every 2", "evaluate base stadia --frames frames.txt"
    ),
    "leave it out, and choose a new name for --fix": Tried(
        "check kitti.txt --images images --camera calib.json --fix new.txt --force",
        "check kitti.txt --images images --camera calib.json --fix new.txt",
        prepare=FOUR_POSES,
    ),
    "add --scale-from, such as point=X,Y:METRES, or leave --max-depth out": Tried(
        "predict base images --max-depth 3 --out o",
        "predict base images --max-depth 3 --out p --scale-from point=80,60:2.0@000000",
    ),
    "set --better": Tried(
        "ablate --data stadia --recipe selfsup --dry-run --metric train/foo --change 'f: optimizer.lr=1e-3'",
        "ablate --data stadia --recipe selfsup --dry-run --metric train/foo --change 'f: optimizer.lr=1e-3' "
        "--better lower",
    ),
    "set training.max_steps, and training.max_epochs=null": Tried(
        "ablate --data stadia --recipe selfsup --dry-run --change 'f: training.batch_size=4'",
        "ablate --data stadia --recipe selfsup --dry-run training.max_steps=9 training.max_epochs=null "
        "--change 'f: training.batch_size=4 training.max_steps=18'",
    ),
    "such as crop=eigen,max=50": Tried(
        "evaluate --depth depth_npy --reference depth_png --protocol foo=3",
        "evaluate --depth depth_npy --reference depth_png --protocol crop=none,max=50",
    ),
    "set the field of view, such as data.camera.horizontal_fov_deg={} of a phone, or save it: "
    "`stadia camera {} --fov {}`": Tried(
        "data shard images shards", "data shard images shards", between="camera images --fov 69"
    ),
    "pass --predictions FOLDER of `stadia predict`": Tried(
        "view drive.mp4 data.camera.focal_px=120 --out v.html",
        "view drive.mp4 data.camera.focal_px=120 --out v.html --predictions p",
        between="predict base drive.mp4 --out p data.camera.focal_px=120",
    ),
    "for poses: stadia check {} --images FOLDER; else check the path (`stadia list datasets`)": Tried(
        "check kitti.txt", "check kitti.txt --images images --camera calib.json", prepare=FOUR_POSES
    ),
    "choose frames that the video has, such as data.frames=[0,{}]": Tried(
        "predict base drive.mp4 --out o data.frames=[90,99]", "predict base drive.mp4 --out o data.frames=[0,12]"
    ),
    "pass --focal-mm {}": Tried(
        "camera images --calibration K.json",
        "camera images --focal-mm 39.375",
        prepare=WRITE_JSON.format({"camera": {"focal_length": 35.0, "sensor_width": 32.0}}),
    ),
    "rename it to K, or convert another program's file: stadia camera INPUT --calibration FILE": Tried(
        "check images --only intrinsics data.camera.K_file=K.json",
        "camera images --calibration K.json",
        prepare=WRITE_JSON.format({"A": [[120, 0, 77], [0, 120, 41], [0, 0, 1]]}),
    ),
    "for example --cameras P2,P3": Tried(
        "stereo images images P.txt --out s --cameras P0",
        "stereo images images P.txt --out s --cameras P0,P1",
        prepare=WRITE_PAIR.format(-60),
    ),
    "change --cameras": Tried(
        "stereo images images P.txt --out s --cameras P2,P3",
        "stereo images images P.txt --out s --cameras P0,P1",
        prepare=WRITE_PAIR.format(-60),
    ),
    "swap LEFT and RIGHT; if the images are in order, Tx has a wrong sign: pass --baseline {}": Tried(
        "stereo images images P.txt --out s",
        "stereo images images P.txt --out s --baseline 0.5",
        prepare=WRITE_PAIR.format(60),
    ),
    "pass --baseline METRES: the file has none (Tx is 0)": Tried(
        "stereo images images P.txt --out s",
        "stereo images images P.txt --out s --baseline 0.5",
        prepare=WRITE_PAIR.format(0),
    ),
    "pass --baseline in metres: {}": Tried(
        "stereo images images P.txt --out s",
        "stereo images images P.txt --out s --baseline 0.5",
        prepare=WRITE_PAIR.format(-60000),
    ),
    "add --network NETWORK, or leave it out": Tried(
        "check drive.mp4 --only frames network.x=1", "check drive.mp4 --only frames"
    ),
    ", or all of them one: data.camera.horizontal_fov_deg=DEGREES": Tried(
        "check videos --only frames",
        "check videos --only frames data.camera.horizontal_fov_deg=60",
        prepare=(
            "import os, shutil; os.mkdir('videos'); shutil.copy('drive.mp4', 'videos/a.mp4'); "
            "shutil.copy('drive.mp4', 'videos/b.mp4')"
        ),
    ),
    "--max-difference {} gives {}, if the clocks agree": Tried(
        "evaluate --trajectory part.txt --reference long.txt",
        "evaluate --trajectory part.txt --reference long.txt --max-difference 0.031",
        prepare=(
            "import numpy as np; a=np.zeros((20,8)); a[:,0]=np.arange(20)/10; a[:,3]=np.arange(20)*.5; "
            "a[:,7]=1; a[:,1]=np.sin(a[:,0]); np.savetxt('long.txt',a); a[4:,0]+=.03; "
            "np.savetxt('part.txt',a)"
        ),
        status=0,
    ),
    "--out {}-disparity": Tried(
        "scale disp --images images --out s --scale-from reference=depth_png",
        "scale disp --images images --out s-disparity --scale-from reference=depth_png",
        prepare=(
            "import os, glob, numpy as np; os.mkdir('disp'); "
            "[np.savez(f.replace('depth_npy','disp').replace('npy','npz'), disparity=10/np.load(f)) for f in "
            "glob.glob('depth_npy/*.npy')]"
        ),
        first="camera images --fov 67",
    ),
    "`stadia camera {} --fov DEGREES` with the picture's own field of view": Tried(
        "predict photo.jpg --out p",
        "predict photo.jpg --out q",
        prepare=(
            "from PIL import Image; im=Image.open('photo.jpg'); e=Image.Exif(); d=e.get_ifd(0x8769); "
            "d[0x920a]=4.2; d[0xa405]=26; d[0xa002]=4000; d[0xa003]=3000; im.save('photo.jpg', exif=e)"
        ),
        between="camera photo.jpg --fov 60",
        status=0,
    ),
    "`stadia train {} --help` lists every key": Tried(
        "train selfsup stadia foo.bar=1 --dry-run", "train selfsup --help"
    ),
    ("check the path; `stadia list datasets` lists the layouts, docs/how-to/own-data.md explains your own"): Tried(
        "check e", "list datasets", prepare="import os; os.mkdir('e')"
    ),
    "check: `stadia check {} --recipe {}`, or train: `stadia train {} {}`": Tried(
        "check bop",
        "check bop --recipe objectpose data.train_split=test data.val_split=null",
        prepare=(
            "from pathlib import Path; from tests.objectpose.data.conftest import write_bop; write_bop(Path('bop'))"
        ),
    ),
    "choose another file name for --out": Tried(
        "view stadia data.recordings=[a] --out v.html",
        "view stadia data.recordings=[a] --out w.html",
        prepare="import os; os.mkdir('v.html')",
    ),
    "choose another name, or pass --force to replace it": Tried(
        "view stadia data.recordings=[a] --out v.html",
        "view stadia data.recordings=[a] --out v.html --force",
        prepare="open('v.html','w').write('x')",
    ),
    "choose one with data.recordings=NAME": Tried(
        "predict base stadia --out p --glb a.glb", "predict base stadia --out p --glb a.glb data.recordings=[a]"
    ),
    "compare on a video, or by ground truth: stadia evaluate": Tried(
        "compare base base photo.jpg", "evaluate base stadia"
    ),
    "convert it: stadia camera INPUT --calibration FILE": Tried(
        "check images --only frames data.camera.K_file=c.txt",
        "camera images --calibration c.txt",
        prepare="import pathlib; pathlib.Path('c.txt').write_text('P0: 120 0 77 0 0 120 41 0 0 0 1 0\\n')",
    ),
    "copy a preset of `stadia list presets`": Tried(
        "train --preset m.yaml", "list presets", prepare="import pathlib; pathlib.Path('m.yaml').write_text('[1]')"
    ),
    "copy them again, or set data.damaged=skip; `stadia data survey` lists all": Tried(
        "check videos --only frames data.camera.focal_px=120",
        "check videos --only frames data.camera.focal_px=120 data.damaged=skip",
        prepare=(
            "import os, shutil; os.mkdir('videos'); shutil.copy('drive.mp4', 'videos/a.mp4'); "
            "open('videos/b.mp4','wb').write(b'0'*999); open('videos/c.mp4','wb').write(b'0'*999)"
        ),
    ),
    "did you mean {}? {}`stadia explain` lists the families": Tried("explain D022", "explain"),
    (
        "drop the repeated frames (for your own video keep `data.stride=auto`), or extract at the camera's frame rate"
    ): Tried(
        "check twice --only frames data.camera.focal_px=120 data.stride=1",
        "check twice --only frames data.camera.focal_px=120 data.stride=1",
        prepare=(
            "import os, shutil; os.mkdir('twice'); [shutil.copy(f'images/{k//2:06d}.png', "
            "f'twice/{k:06d}.png') for k in range(8)]"
        ),
        repair="import os; [os.remove(f'twice/{k:06d}.png') for k in (1, 3, 5, 7)]",
        status=1,
    ),
    "evaluate on recordings with ground truth, or use stadia predict": Tried(
        "evaluate base images data.camera.focal_px=120",
        "predict base images --out p data.camera.focal_px=120 --no-cloud",
    ),
    "for example object=car:1.5@boxes.csv": Tried(
        "scale depth_npy --images images --out s --scale-from object=zzz",
        "scale depth_npy --images images --out s --scale-from height=1.5",
    ),
    "for example point=640,200:12.3": Tried(
        "calibrate images foo=3 --network base",
        "calibrate images point=80,60:2.0@000000 --network base",
        between="camera images --fov 67",
    ),
    "give each its camera, such as stadia camera {} --fov DEGREES": Tried(
        "check videos --only frames",
        "check videos --only frames data.camera.horizontal_fov_deg=60",
        prepare=(
            "import os, shutil; os.mkdir('videos'); shutil.copy('drive.mp4', 'videos/a.mp4'); "
            "shutil.copy('drive.mp4', 'videos/b.mp4')"
        ),
    ),
    "give one file with times (--format tum or --reference-format tum)": Tried(
        "evaluate --trajectory kitti.txt --reference kitti.txt --rpe-seconds 0.2",
        "evaluate --trajectory kitti.txt --reference tum.txt --rpe-seconds 0.2",
    ),
    "give the seconds to add to the times of the positions: gps=FILE@SECONDS": Tried(
        "scale tum.txt --out s.txt --scale-from gps=g.txt",
        "scale tum.txt --out s.txt --scale-from gps=g.txt@-100",
        prepare=("import numpy as np; a=np.loadtxt('tum.txt')[:5]; a[:,0]+=100; a[:,1:4]*=3; np.savetxt('g.txt', a)"),
    ),
    "leave --every out, or list neighboring frames": Tried(
        "evaluate base kitti --every 3", "evaluate base kitti", prepare="import shutil"
    ),
    "leave --held-out out": Tried("evaluate base stadia --held-out", "evaluate base stadia"),
    "leave it out, or draw it with --sheet": Tried(
        (
            "data overlay backgrounds.path=backgrounds foregrounds.path=cutouts height=32 width=32 path=x "
            "--out o --count 2 --val 1"
        ),
        (
            "data overlay backgrounds.path=backgrounds foregrounds.path=cutouts height=32 width=32 --out o "
            "--count 2 --val 1"
        ),
        prepare=(
            "from pathlib import Path; from tests.sound import write_composite_parts; write_composite_parts(Path('.'))"
        ),
    ),
    "leave out --depth-scale": Tried(
        "evaluate --depth depth_npy --reference depth_png --depth-scale affine-inverse --protocol relative",
        "evaluate --depth depth_npy --reference depth_png --protocol relative",
        figure="abs_rel +([\\d.e-]+)",
    ),
    "measure the distance between the two lenses, and pass it: --baseline 0.12": Tried(
        "stereo drive.mp4 drive.mp4 calib.json --sync 0 --out s",
        "stereo images images calib.json --out s --baseline 0.12",
    ),
    "name a preset of {} (`stadia list presets`), or the recipe {}": Tried(
        "train supervised stadia --dry-run --preset tiny-laptop", "list presets"
    ),
    "name the picture of each length, without its suffix: point=640,200:12.3@IMG_0001": Tried(
        "calibrate images point=80,60:2.0@nope --network base",
        "calibrate images point=80,60:2.0@000000 --network base",
        first="camera images --fov 67",
    ),
    "pass --fov {}, if it is from the left to the right edge of the image": Tried(
        "camera images --calibration f.json",
        "camera images --fov 70",
        prepare="import pathlib; pathlib.Path('f.json').write_text('{\"camera\": {\"fov\": 70}}')",
    ),
    "pass --out DIR for a dataset, or --sheet FILE for one picture": Tried(
        "data overlay backgrounds.path=backgrounds foregrounds.path=cutouts height=32 width=32",
        "data overlay backgrounds.path=backgrounds foregrounds.path=cutouts height=32 width=32 --sheet s.png",
        prepare=(
            "from pathlib import Path; from tests.sound import write_composite_parts; write_composite_parts(Path('.'))"
        ),
    ),
    "pass one folder, or set data.format={}": Tried(
        "check kitti --only frames",
        "check kitti --only frames data.format=kitti_odometry",
        prepare="import shutil; shutil.copytree('stadia','kitti/inner')",
    ),
    "pass pixels, or the 35 mm equivalent with --focal-mm": Tried(
        "camera images --focal-px 5", "camera images --focal-mm 26", status=0
    ),
    "pass the input of the prediction; to score it: `stadia evaluate --depth {} --reference TRUTH`": Tried(
        "check p",
        "evaluate --depth p --reference depth_png --protocol relative",
        first="predict base images --out p data.camera.focal_px=120 --no-cloud",
    ),
    "pass the picture's own field of view: --fov DEGREES": Tried(
        "camera photo.jpg",
        "camera photo.jpg --fov 60",
        prepare=(
            "from PIL import Image; im=Image.open('photo.jpg'); e=Image.Exif(); d=e.get_ifd(0x8769); "
            "d[0x920a]=4.2; d[0xa405]=26; d[0xa002]=4000; d[0xa003]=3000; im.save('photo.jpg', exif=e)"
        ),
    ),
    (
        "it is a pickle and may run code; if you trust it, write one .npy a map: "
        "python -c 'import numpy as np; x = np.load(FILE, allow_pickle=True); x = x[x.files[0]] if "
        'hasattr(x, "files") else x; [np.save(f"{k:06d}.npy", m) for k, m in enumerate(x)]\''
    ): Tried(
        "evaluate --depth stack.npy --reference depth_png",
        "evaluate --depth out --reference depth_png",
        prepare=(
            "import numpy as np, glob; np.save('stack.npy', np.array([np.load(f) for f in "
            "sorted(glob.glob('depth_npy/*.npy'))], dtype=object))"
        ),
        repair=(
            "import os, numpy as np; os.mkdir('out'); x = np.load('stack.npy', allow_pickle=True); "
            "[np.save(f'out/{k:06d}.npy', m) for k, m in enumerate(x.astype(float))]"
        ),
    ),
    ("raise --max-difference if the clocks agree, or pass a longer path; --align none needs two poses"): Tried(
        "evaluate --trajectory part.txt --reference tum.txt",
        "evaluate --trajectory part.txt --reference tum.txt --max-difference 0.031",
        prepare="import numpy as np; a=np.loadtxt('tum.txt'); a[2:,0]+=.03; np.savetxt('part.txt',a)",
    ),
    "remove --fps": Tried(
        "stereo images images calib.json --out s --baseline 0.1 --poses tum.txt --fps 10",
        "stereo images images calib.json --out s --baseline 0.1 --poses tum.txt",
        prepare="import numpy as np; np.savetxt('tum.txt', np.loadtxt('tum.txt')[:4])",
    ),
    "remove data.poses=map": Tried("check kitti --only frames data.poses=map", "check kitti --only frames"),
    "remove the check from --only": Tried(
        "check images --only ground_truth --strict data.camera.focal_px=120",
        "check images --strict data.camera.focal_px=120",
        status=1,
    ),
    "rename the file, or pass --name": Tried(
        "ablate 'a b!.yaml' --dry-run",
        "ablate 'a b!.yaml' --dry-run --name ab",
        prepare=(
            "import pathlib; pathlib.Path('a "
            "b!.yaml').write_text(pathlib.Path('study.yaml').read_text().replace('name: two-losses\\n', ''))"
        ),
    ),
    "run it with onnxruntime, and score its maps with `stadia evaluate --depth`": Tried(
        "predict x.onnx images --out o", "evaluate --depth depth_npy --reference depth_png", prepare=WRITE_ONNX
    ),
    "run once: stadia camera INPUT {} VALUE.": Tried("predict photo.jpg --fov 60 --out p", "camera photo.jpg --fov 60"),
    "run stadia rig pin": Tried(
        "rig check e videos",
        "rig pin videos --out rig",
        prepare=(
            "import os, shutil; os.mkdir('videos'); shutil.copy('drive.mp4', 'videos/a.mp4'); os.mkdir('e'); "
            "open('e/rig.json','w').write('{}')"
        ),
    ),
    "run stadia rig pin CAMERAS --out FOLDER": Tried(
        "rig check e videos",
        "rig pin videos --out rig",
        prepare=("import os, shutil; os.mkdir('videos'); shutil.copy('drive.mp4', 'videos/a.mp4'); os.mkdir('e')"),
    ),
    "see `stadia --help`.": Tried("evaluate --depth", "--help"),
    "see `stadia list encoders`": Tried(
        (
            "train selfsup stadia --dry-run model.network.encoder=qqqqzzzz training.max_steps=2 "
            "data.height=64 data.width=96 model.pretrained=false"
        ),
        "list encoders",
    ),
    "see `{} --help`.": Tried("evaluate --zzqx", "evaluate --help"),
    "set data.train_split={} data.val_split=null, which holds out its last images": Tried(
        "check bop --recipe objectpose",
        "check bop --recipe objectpose data.train_split=test data.val_split=null",
        prepare=(
            "from pathlib import Path; from tests.objectpose.data.conftest import write_bop; write_bop(Path('bop'))"
        ),
    ),
    "stadia camera {} --calibration {} --fit": Tried(
        "camera images --calibration K.json",
        "camera images --calibration K.json --fit cropped",
        prepare=(
            "import json, pathlib; pathlib.Path('K.json').write_text(json.dumps({'K': [[500, 0, 320], [0, "
            "500, 240], [0, 0, 1]], 'height': 480, 'width': 640}))"
        ),
    ),
    "stadia list networks": Tried("predict org/qqqq images --out p", "list networks"),
    "stadia view INPUT --predictions {}": Tried(
        "view p --out v.html",
        "view drive.mp4 data.camera.focal_px=120 --out v.html --predictions p",
        first="predict base drive.mp4 --out p data.camera.focal_px=120",
    ),
    "such as abs_rel=.115,rmse=4.8": Tried(
        "evaluate --depth depth_npy --reference depth_png --find-protocol zzqq=3",
        "evaluate --depth depth_npy --reference depth_png --find-protocol abs_rel=.115,rmse=4.8",
    ),
    "use it (stadia check {}), or choose another --out": Tried(
        "stereo images images calib.json --out s --baseline 0.1",
        "stereo images images calib.json --out s2 --baseline 0.1",
        first="stereo images images calib.json --out s --baseline 0.1",
    ),
    (
        "write a pose for every frame, write its frame number in front of each row, or give both with "
        "timestamps (--format tum --reference-format tum)"
    ): Tried(
        "evaluate --trajectory k4.txt --reference kitti.txt",
        "evaluate --trajectory k4.txt --reference kitti.txt",
        prepare="import numpy as np; np.savetxt('k4.txt', np.loadtxt('kitti.txt')[1:5])",
        repair="import numpy as np; np.savetxt('k4.txt', np.c_[np.arange(1,5), np.loadtxt('k4.txt')])",
    ),
    "write a setting as KEY=VALUE; see `{} --help`.": Tried("check stadia --qqqqq", "check --help"),
    "write it from the calibration: stadia camera INPUT --calibration FILE": Tried(
        "check images --only frames",
        "camera images --calibration calib.json --force",
        prepare=(
            "import json, pathlib; pathlib.Path('images/K.json').write_text(json.dumps({'K': "
            "[[120,0,77],[0,120,41],[0,0,1]], 'height': 96, 'width': 160, 'distortion': {'model': 'x', "
            "'coefficients': [1]}}))"
        ),
    ),
    "write text: colmap model_converter --input_path MODEL --output_path OUT --output_type TXT": Tried(
        "camera images --calibration cameras.bin",
        "camera images --calibration cameras.txt",
        prepare="open('cameras.bin','wb').write(b'0'*99)",
        repair="open('cameras.txt','w').write('1 PINHOLE 160 96 120 120 80 48\\n')",
    ),
    ("write times with all digits: numpy.savetxt(FILE, rows, fmt='%.9f'), or integers for nanoseconds"): Tried(
        "evaluate --trajectory c.txt --reference tum.txt",
        "evaluate --trajectory c.txt --reference tum.txt",
        prepare=(
            "import numpy as np; a=np.loadtxt('tum.txt'); np.savetxt('c.txt', a + np.eye(8)[0]*1.7e9, "
            "fmt='%.6g'); b=a.copy(); b[:,0]+=1.7e9; np.savetxt('tum.txt', b, fmt='%.9f')"
        ),
        repair="import numpy as np; np.savetxt('c.txt', np.loadtxt('tum.txt'), fmt='%.9f')",
    ),
    "{}; or pass --by model.tflite, or a COCO file": Tried(
        "masks images --by nope --out m",
        "masks images --by coco.json --out m",
        prepare="from pathlib import Path; from tests.sound import write_masks; write_masks(Path('.'))",
    ),
    "choose another --out, or remove it": Tried(
        "masks images2 --by coco.json --out m",
        "masks images2 --by coco.json --out m2",
        prepare=(
            "from pathlib import Path; from tests.sound import write_masks; write_masks(Path('.')); import "
            "shutil, cv2; shutil.copytree('images','images2'); cv2.imwrite('images2/000000.png', 255 - "
            "cv2.imread('images/000000.png'))"
        ),
        first="masks images --by coco.json --out m",
    ),
    "leave these frames out of the folder, or cut them off: ffmpeg -ss START": Tried(
        "check images --only frames data.camera.focal_px=120 data.stride=1",
        "check images --only frames data.camera.focal_px=120 data.stride=1",
        prepare=(
            "import cv2, numpy as np; [cv2.imwrite(f'images/{k:06d}.png', np.zeros((96,160,3),np.uint8)) for "
            "k in (4,5)]"
        ),
        repair="import os; os.remove('images/000004.png'); os.remove('images/000005.png')",
        status=0,
    ),
    "set --metric val/residual, or pass data with depth": Tried(
        (
            "ablate --data images --recipe selfsup --dry-run --change 'f: optimizer.lr=1e-3' "
            "data.camera.focal_px=120 --metric val/abs_rel"
        ),
        (
            "ablate --data images --recipe selfsup --dry-run --change 'f: optimizer.lr=1e-3' "
            "data.camera.focal_px=120 --metric val/residual"
        ),
    ),
    "use larger images, or data.crop=none": Tried(
        "check stadia --only frames data.crop=kb", "check stadia --only frames data.crop=none"
    ),
    "`stadia train {} --dry-run` prints one": Tried(
        "train selfsup stadia --config c.json --dry-run",
        "train selfsup --dry-run",
        prepare="import pathlib; pathlib.Path('c.json').write_text('[1]')",
    ),
    "`stadia train {}` with the same options": Tried(
        "train selfsup --config c.json --dry-run",
        "train supervised --config c.json --dry-run",
        prepare="import pathlib; pathlib.Path('c.json').write_text('{\"recipe\": \"supervised\"}')",
    ),
    "choose a new name for --out that ends in .mp4": Tried(
        "activations run images --out a.txt", f"activations run images --out a.mp4 {FOCAL}", prepare=inputs.run
    ),
    "stadia check {} --images VIDEO": Tried(
        "check room.map", "check room.map --images other", prepare=inputs.map_without_images
    ),
    "make it: stadia map {}": Tried("compare base base room", "map room data.camera.focal_px=300", prepare=inputs.room),
    "remove the map, then make it: stadia map VIDEO": Tried(
        "compare base base room",
        "map room data.camera.focal_px=300",
        prepare=inputs.room_of_another_map,
        repair="import shutil; shutil.rmtree('room.map')",
    ),
    "make it: stadia map {}; or set motion=network": Tried(
        f"train selfsup images motion=map {FOCAL} {TRAIN}", f"train selfsup images motion=network {FOCAL} {TRAIN}"
    ),
    "set motion=network": Tried(
        f"train selfsup kitti motion=map {TRAIN}", f"train selfsup kitti motion=network {TRAIN}"
    ),
    "map another part of the video, or set motion=network": Tried(
        f"train selfsup walk {TRAIN} data.camera.focal_px=40",
        f"train selfsup walk motion=network {TRAIN} data.camera.focal_px=40",
        prepare=inputs.walk_without_motion,
    ),
    "pass a part of the video with a moving camera, or compare by ground truth: stadia evaluate": Tried(
        "compare base base walk", "evaluate base stadia data.recordings=[a]", prepare=inputs.walk_without_motion
    ),
    "choose one: data.recordings=[{}]": Tried(
        "map two --out m", "map two --out m data.recordings=[a]", prepare=inputs.two_rooms
    ),
    "resize the frames to {}: ffmpeg -i IN -vf scale={} OUT": Tried(
        "map room", "map room", prepare=inputs.squeezed_room, repair=inputs.unsqueeze_room
    ),
    "make them: stadia masks VIDEO --out MASKS": Tried(
        f"map images --masks MASKS {FOCAL}", "masks images --by coco.json --out MASKS", prepare=inputs.masks
    ),
    "make them: stadia masks VIDEO --out MASKS; then pass masks=MASKS": Tried(
        f"camera-height images --depth depth_npy {FOCAL}",
        f"camera-height images --depth depth_npy {FOCAL} masks=MASKS",
        prepare=inputs.masks_elsewhere,
        between="masks images --by coco.json --out MASKS",
    ),
    "use horizon=auto, or horizon=given pitch_deg=...": Tried(
        f"camera-height images {FOCAL} masks=masks horizon=travel",
        f"camera-height images {FOCAL} masks=masks horizon=given pitch_deg=0",
        prepare=inputs.masks,
    ),
    "pass the folder of `stadia predict --out`": Tried(
        f"camera-height images --depth none {FOCAL} masks=masks",
        f"camera-height images --depth p {FOCAL} masks=masks",
        prepare=inputs.masks,
        between=f"predict base images --out p {PREDICT}",
        repair=inputs.correct_predicted_depth,
    ),
    "predict every frame, or pass the same --every": Tried(
        f"camera-height images --depth depth_npy {FOCAL} masks=masks",
        f"camera-height images --depth depth_npy {FOCAL} masks=masks --every 2",
        prepare=inputs.masks_and_a_missing_depth,
    ),
    "remove the shards, then write them: stadia data shard SOURCE URL": Tried(
        "check shards --only frames",
        "data shard stadia shards",
        prepare=inputs.damaged_shards,
        repair="import shutil; shutil.rmtree('shards')",
    ),
    "look at the model and the unit of K, or keep the distortion: data.camera.undistort=false": Tried(
        "check images --only frames data.camera.K_file=K.json",
        "check images --only frames data.camera.K_file=K.json data.camera.undistort=false",
        prepare=inputs.folding_lens,
    ),
    "leave the value out: it scales poses of another program (stadia scale POSES)": Tried(
        "predict base stadia --out p --scale-from baseline=3 data.recordings=[a] --no-cloud --no-video",
        "predict base stadia --out p --scale-from baseline data.recordings=[a] --no-cloud --no-video",
    ),
    "run stadia calibrate again": Tried(
        "predict base images --out p --no-cloud --no-video",
        "predict base images --out p --no-cloud --no-video",
        prepare=inputs.damaged_metres,
        between="calibrate images point=80,60:2.0@000000 --network base",
    ),
    "run stadia calibrate {} point=X,Y:METRES --network {}": Tried(
        "export run --out m.onnx --camera images",
        "calibrate images point=80,60:2.0@000000 --network run",
        prepare=inputs.run,
        first="camera images --fov 67",
    ),
    "stadia train selfsup VIDEO start_from=RUN": Tried(
        "adapt run walk --out q", f"train selfsup images start_from=run {SMALL} {FOCAL}", prepare=inputs.run_and_walk
    ),
    "add the right images, or set data.stereo=false": Tried(
        f"train selfsup images data.stereo=true {FOCAL} {TRAIN}",
        f"train selfsup images data.stereo=false {FOCAL} {TRAIN}",
    ),
    "set training.devices=auto, or a smaller number": Tried(
        f"train selfsup images training.devices=500 {FOCAL} {TRAIN}",
        f"train selfsup images training.devices=auto {FOCAL} {TRAIN}",
    ),
    "set training.precision=bf16 or 32": Tried(
        f"train selfsup images training.precision=fp16 {FOCAL} {TRAIN}",
        f"train selfsup images training.precision=32 {FOCAL} {TRAIN}",
    ),
    "set schedule.milestones_in=fractions": Tried(
        f"train selfsup images {STAGES} schedule.milestones_in=epochs {FOCAL} {TRAIN}",
        f"train selfsup images {STAGES} schedule.milestones_in=fractions {FOCAL} {TRAIN}",
    ),
    "set data.split_by.unit=frames": Tried(
        f"train selfsup images data.split_by.unit=recordings {FOCAL} {TRAIN}",
        f"train selfsup images data.split_by.unit=frames {FOCAL} {TRAIN}",
    ),
    "name the recordings with depth by data.recordings=[...], or train selfsup": Tried(
        f"train supervised images --dry-run model.pretrained=false {FOCAL}", f"train selfsup images {FOCAL} {TRAIN}"
    ),
    "film as docs/start/film.md says; or set the camera, stadia camera VIDEO --fov DEGREES, and use no map": Tried(
        "map drive.mp4",
        "predict base drive.mp4 --out p --no-cloud --no-video data.frames=[0,2]",
        between="camera drive.mp4 --fov 67",
    ),
    "pass --crop {} if it shows this part of the image": Tried(
        "evaluate --depth crop --reference whole",
        "evaluate --depth crop --reference whole --crop kb",
        prepare=inputs.cropped_depth,
    ),
    "pass the data; a run is a checkpoint: `stadia predict RUN DATA`": Tried(
        "check run", f"predict run images --out p {PREDICT}", prepare=inputs.run
    ),
    "pass a checkpoint that `stadia train` wrote, such as RUN/checkpoints/best.safetensors": Tried(
        "predict x.safetensors images --out p",
        f"predict run/checkpoints/best.safetensors images --out p {PREDICT}",
        prepare=inputs.foreign_weights,
    ),
    "use --method aligned or refined, and images that follow each other": Tried(
        f"odometry base images --out o --method network {FOCAL}",
        f"odometry base images --out o --method aligned {FOCAL}",
    ),
    "data.stride=1 takes each frame": Tried(
        f"odometry base still --out o --method aligned {FOCAL}",
        f"odometry base still --out o --method aligned {FOCAL} data.stride=1",
        prepare=inputs.still,
    ),
    "pass the data: `stadia train {} DATA`": Tried(
        "ablate --recipe selfsup --dry-run --change 'f: optimizer.lr=1e-3'",
        "ablate --data stadia --recipe selfsup --dry-run --change 'f: optimizer.lr=1e-3'",
    ),
    "stadia compare A.mp4 B.mp4 --mount data.camera.K_file=K.txt": Tried(
        "compare drive.mp4 drive.mp4 photo.jpg --mount",
        "compare drive.mp4 drive.mp4 --mount data.camera.K_file=calib.json",
    ),
    "stadia compare RUN RUN, stadia compare NET NET VIDEO, or stadia compare A.mp4 B.mp4 --mount": Tried(
        "compare base", f"compare drive.mp4 drive.mp4 --mount {FOCAL}"
    ),
    "pass --baseline METRES": Tried(
        "stereo images images calib.json calib.json --out s",
        "stereo images images calib.json calib.json --out s --baseline 0.1",
    ),
    "run it by `stadia predict FILE.onnx INPUT --out DIR`; `stadia evaluate --depth DIR` scores that": Tried(
        "export depth.onnx --out b.onnx", f"predict depth.onnx images --out p {PREDICT}", prepare=inputs.exported
    ),
    "export the network again: stadia export RUN --out FILE": Tried(
        f"predict damaged.onnx images --out p {PREDICT}", "export run --out m.pt2", prepare=inputs.exported
    ),
    "download it, or set data.ground_truth=auto": Tried(
        "check raw --only frames data.ground_truth=lidar",
        "check raw --only frames data.ground_truth=auto",
        prepare=inputs.kitti_raw,
    ),
    "map the video first: stadia map VIDEO": Tried(
        "predict run room --out p --no-cloud --no-video data.camera.focal_px=300",
        "map room data.camera.focal_px=300",
        prepare=inputs.run_and_room,
        status=0,
    ),
    "or choose another network: stadia list networks": Tried(
        f"predict base room --out p {PREDICT}", "list networks", prepare=inputs.room, status=0
    ),
    (
        'write 8 bits: python -c \'import cv2; x = cv2.imread("{}", -1); cv2.imwrite("photo.png", '
        "cv2.normalize(x, None, 0, 255, cv2.NORM_MINMAX, cv2.CV_8U))'; linear light needs x ** (1 / 2.2) first"
    ): Tried(
        "predict base deep.tif --out p",
        f"predict base photo.png --out p {PREDICT}",
        prepare=inputs.deep_photo,
        repair=(
            'import cv2; x = cv2.imread("deep.tif", -1); '
            'cv2.imwrite("photo.png", cv2.normalize(x, None, 0, 255, cv2.NORM_MINMAX, cv2.CV_8U))'
        ),
    ),
    "leave --size out": Tried(
        f"predict run images --out p --size 96x160 {PREDICT}",
        f"predict run images --out p {PREDICT}",
        prepare=inputs.linear_run,
    ),
    "export it to ONNX (--out model.onnx)": Tried(
        "export run --out m.pt2", "export run --out m.onnx", prepare=inputs.linear_run
    ),
    "pass --scale-from reference=DEPTHS to stadia predict": Tried(
        f"predict shifted images --out p --glb a.glb {FOCAL}",
        f"predict shifted images --out p --glb a.glb --scale-from reference=true {FOCAL}",
        prepare=inputs.relative_network,
    ),
    "run stadia predict CHECKPOINT IMAGES --out FOLDER, and set data.backgrounds.teacher=FOLDER": Tried(
        f"data overlay backgrounds.path=images {OVERLAY}",
        f"data overlay backgrounds.path=images {OVERLAY} data.backgrounds.teacher=p",
        prepare=inputs.cutouts_and_camera,
        between="predict base images --out p --no-cloud --no-video",
    ),
    "predict them: stadia predict CHECKPOINT IMAGES --out FOLDER": Tried(
        f"data overlay backgrounds.path=images {OVERLAY} backgrounds.teacher=p",
        f"data overlay backgrounds.path=images {OVERLAY} backgrounds.teacher=q",
        prepare=inputs.cutouts_and_few_depths,
        between="predict base images --out q --no-cloud --no-video",
    ),
    "write one with stadia data overlay --out FOLDER, or leave data.path out": Tried(
        "check images --recipe overlay", "check composites --recipe overlay", prepare=inputs.composites
    ),
    "pass --images FOLDER to judge it; to train, reconstruct with one camera": Tried(
        "check model --only frames", "check model/sparse/0 --images model/images", prepare=inputs.colmap_of_two_cameras
    ),
    (
        "calibrate again with the board in the corners of the image, or keep the distortion: "
        "data.camera.undistort=false"
    ): Tried(
        "check images --only frames data.camera.K_file=K.json",
        "check images --only frames data.camera.K_file=K.json data.camera.undistort=false",
        prepare=inputs.bent_lens,
    ),
    "score what the network predicts (.npy, .pfm), or pass --depth-scale {} --protocol relative": Tried(
        "evaluate --depth depth_npy --reference depth_png",
        "evaluate --depth depth_npy --reference depth_png --depth-scale affine-inverse --protocol relative",
        prepare=inputs.normalized_depth,
        status=0,
    ),
    "set --metric, such as val/abs_rel": Tried(ABLATE, f"{ABLATE} --metric val/abs_rel"),
    "use images of that size, as KITTI's are, or a network that was trained with data.crop=none": Tried(
        f"predict cut images --out p {PREDICT}", f"predict run images --out q {PREDICT}", prepare=inputs.two_runs
    ),
    "run `stadia check` with a larger --seconds": Tried(
        "explain N02", "check stadia --only exposure --seconds 60", status=0
    ),
    "run `stadia check DATA --seconds {}` to check all of them": Tried(
        "check stadia --only exposure --seconds 0.001 --json",
        "check stadia --only exposure --seconds 10 --json",
        status=0,
    ),
    "then pass road.masks=MASKS": Tried(
        f"check images --recipe metric {FOCAL}",
        f"check images --recipe metric {FOCAL} road.masks=MASKS",
        prepare=inputs.masks_elsewhere,
        between="masks images --by coco.json --out MASKS",
        status=1,
    ),
    "give poses in metres (data.poses=FILE), or leave loss.speed out": Tried(
        f"train selfsup model loss.speed=1 {TRAIN}", f"train selfsup model {TRAIN}", prepare=inputs.relative_poses
    ),
    'correct the cause ({}), or train anyway with --on-stop warn (in Python on_stop="warn")': Tried(
        f"train selfsup stadia {SMALL}", f"train selfsup stadia {TRAIN}"
    ),
    f"train longer: stadia train {{}} --config {{}} start_from={{}} {LONGER}": Tried(
        f"predict run images --verbose --out p {PREDICT}",
        f"train selfsup --config run/config.json start_from=run {LONGER} --data images data.stereo=false {FOCAL} "
        "training.check_seconds=0 training.batch_size=2 --on-stop warn --dry-run",
        prepare=inputs.run_with_configuration,
        status=0,
    ),
}
