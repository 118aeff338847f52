"""Published depth networks by short names: what each predicts, its licence, its paper and its score. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from stadia.core.types import DepthScale

FORBIDS_COMMERCIAL_USE = ("CC-BY-NC", "Apple-AMLR", "research only")
"""Parts of the names of licences that forbid commercial use."""

PACKAGES: Mapping[str, str] = {
    "moge": "pip install git+https://github.com/microsoft/MoGe.git",
    "depth_anything_3": "pip install depth-anything-3",
}
"""Packages of authors that run their networks, and how each is installed; transformers runs the others."""


@dataclass(frozen=True, kw_only=True)
class PublishedNetwork:
    """A published network and what its authors state about it.

    repository: on the Hugging Face hub.
    millions: parameters in millions.
    output: scale of its depth.
    focal: fx / width of the images for which its metres hold; None where it predicts no metres, or the authors do not
        state it. With another camera depth is scaled by the ratio of focal lengths.
    licence: of the weights.
    data: that trained it, with licences.
    paper: arXiv number.
    score: as published; "" where none of a usual benchmark is.
    package: that runs it, of PACKAGES; "" for transformers.
    focal_unit_px: its depth times the focal length in pixels of its image over this is metres; None where it is metres.
    """

    repository: str
    millions: float
    output: DepthScale
    licence: str
    data: str
    paper: str
    focal: float | None = None
    score: str = ""
    package: str = ""
    focal_unit_px: float | None = None

    @property
    def title(self) -> str:
        """Return one line for `stadia list networks`."""
        focal = "" if self.focal is None else f" at fx / width {self.focal:.3g}"
        if self.focal_unit_px is not None:
            focal = f": output times the focal length in pixels over {self.focal_unit_px:g}"
        score = f"; {self.score}" if self.score else ""
        package = f"; by the package {self.package}" if self.package else ""
        return (
            f"{self.millions:g} M parameters; {self.output}{focal}; weights {self.licence}; trained on {self.data};"
            f" arXiv {self.paper}{score}; hf:{self.repository}{package}"
        )


_AFFINE, _METRES = DepthScale.AFFINE_INVERSE, DepthScale.METRES
_NC = "CC-BY-NC-4.0"
_V2_DATA = "synthetic images and 62 M pseudo-labelled ones"
_V1_DATA = "1.5 M labelled and 62 M pseudo-labelled images"
_VKITTI = "Virtual KITTI 2 (CC-BY-NC-SA-3.0)"
_HYPERSIM = "Hypersim (CC-BY-SA-3.0)"
_KITTI_FOCAL, _VKITTI_FOCAL, _HYPERSIM_FOCAL, _NYU_FOCAL = 721.5377 / 1242, 725.0087 / 1242, 886.81 / 1024, 518.86 / 640


def _depth_anything_v2(size: str, millions: float, licence: str, score: str) -> dict[str, PublishedNetwork]:
    """Return the relative network of Depth Anything V2 of a size, and its two metric ones."""
    hub, name = "depth-anything/Depth-Anything-V2", size.lower()
    metric = {"licence": licence, "millions": millions, "paper": "2406.09414", "output": _METRES}
    return {
        f"depth-anything-v2-{name}": PublishedNetwork(
            repository=f"{hub}-{size}-hf",
            millions=millions,
            output=_AFFINE,
            licence=licence,
            data=_V2_DATA,
            paper="2406.09414",
            score=score,
        ),
        f"depth-anything-v2-metric-outdoor-{name}": PublishedNetwork(
            repository=f"{hub}-Metric-Outdoor-{size}-hf",
            data=_VKITTI,
            focal=_VKITTI_FOCAL,
            **metric,  # type: ignore[arg-type]
        ),
        f"depth-anything-v2-metric-indoor-{name}": PublishedNetwork(
            repository=f"{hub}-Metric-Indoor-{size}-hf",
            data=_HYPERSIM,
            focal=_HYPERSIM_FOCAL,
            **metric,  # type: ignore[arg-type]
        ),
    }


def _depth_anything_v1(size: str, millions: float, score: str) -> PublishedNetwork:
    return PublishedNetwork(
        repository=f"LiheYoung/depth-anything-{size}-hf",
        millions=millions,
        output=_AFFINE,
        licence="Apache-2.0",
        data=_V1_DATA,
        paper="2401.10891",
        score=score,
    )


def _dpt(name: str, millions: float, score: str) -> PublishedNetwork:
    return PublishedNetwork(
        repository=f"Intel/{name}",
        millions=millions,
        output=_AFFINE,
        licence="Apache-2.0",
        data="MIX 6, 1.4 M images of ten data sets",
        paper="2103.13413",
        score=score,
    )


def _glpn(data: str, focal: float, score: str) -> PublishedNetwork:
    return PublishedNetwork(
        repository=f"vinvino02/glpn-{data}",
        millions=61.2,
        output=_METRES,
        licence="Apache-2.0",
        data={"kitti": "KITTI (CC-BY-NC-SA-3.0)", "nyu": "NYU Depth v2"}[data],
        paper="2201.07436",
        focal=focal,
        score=score,
    )


def _zoedepth(name: str, data: str, focal: float | None) -> PublishedNetwork:
    return PublishedNetwork(
        repository=f"Intel/zoedepth-{name}",
        millions=345,
        output=_METRES,
        licence="MIT",
        data=f"twelve data sets, then {data}",
        paper="2302.12288",
        focal=focal,
    )


def _moge(name: str, millions: float, output: DepthScale) -> dict[str, PublishedNetwork]:
    is_second = name.startswith("moge-2")
    return {
        name: PublishedNetwork(
            repository=f"Ruicheng/{name}",
            millions=millions,
            output=output,
            licence="MIT",
            data=f"{24 if is_second else 21} real and synthetic data sets",
            paper="2507.02546" if is_second else "2410.19115",
            package="moge",
        )
    }


def _depth_anything_3(name: str, millions: float, output: DepthScale, licence: str) -> dict[str, PublishedNetwork]:
    is_metric = name == "da3metric-large"
    return {
        name: PublishedNetwork(
            repository=f"depth-anything/{name.upper()}",
            millions=millions,
            output=output,
            licence=licence,
            data="public academic data sets",
            paper="2511.10647",
            package="depth_anything_3",
            focal=1.0 if is_metric else None,  # any: its unit follows the focal length
            focal_unit_px=300.0 if is_metric else None,
        )
    }


PUBLISHED_NETWORKS: Mapping[str, PublishedNetwork] = {
    **_depth_anything_v2("Small", 24.8, "Apache-2.0", "aligned AbsRel KITTI .078, NYU .053"),
    **_depth_anything_v2("Base", 97.5, _NC, "aligned AbsRel KITTI .078, NYU .049"),
    **_depth_anything_v2("Large", 335.3, _NC, "aligned AbsRel KITTI .074, NYU .045"),
    "depth-anything-small": _depth_anything_v1("small", 24.8, "aligned AbsRel KITTI .080, NYU .053"),
    "depth-anything-base": _depth_anything_v1("base", 97.5, "aligned AbsRel KITTI .080, NYU .046"),
    "depth-anything-large": _depth_anything_v1("large", 335.3, "aligned AbsRel KITTI .076, NYU .043"),
    "depth-pro": PublishedNetwork(
        repository="apple/DepthPro-hf",
        millions=952,
        output=_METRES,
        licence="Apple-AMLR (research only)",
        data="synthetic and real data sets",
        paper="2410.02073",
        focal=1.0,  # it predicts inverse depth times fx / width
        score="unaligned d1 ETH3D .415, Sun-RGBD .890",
    ),
    "dpt-large": _dpt("dpt-large", 343, "aligned d1 KITTI .915, NYU .917; AbsRel ETH3D .089"),
    "dpt-hybrid": _dpt("dpt-hybrid-midas", 123, "aligned d1 KITTI .884, NYU .913; AbsRel ETH3D .093"),
    "glpn-kitti": _glpn("kitti", _KITTI_FOCAL, "unaligned AbsRel KITTI .057"),
    "glpn-nyu": _glpn("nyu", _NYU_FOCAL, "unaligned AbsRel NYU .098"),
    "zoedepth-nyu": _zoedepth("nyu", "NYU Depth v2", _NYU_FOCAL),
    "zoedepth-kitti": _zoedepth("kitti", "KITTI (CC-BY-NC-SA-3.0)", _KITTI_FOCAL),
    "zoedepth-nyu-kitti": _zoedepth("nyu-kitti", "NYU Depth v2 and KITTI (CC-BY-NC-SA-3.0)", None),
    "prompt-depth-anything-small": PublishedNetwork(
        repository="depth-anything/prompt-depth-anything-vits-hf",
        millions=25,
        output=DepthScale.AFFINE_DEPTH,
        licence="Apache-2.0",
        data="Hypersim, ScanNet++ and ARKitScenes",
        paper="2412.14015",
    ),
    "tipsv2-b14-dpt": PublishedNetwork(
        repository="google/tipsv2-b14-dpt",
        millions=100,
        output=_METRES,
        licence="Apache-2.0",
        data="NYU Depth v2, on a frozen backbone",
        paper="2604.12012",
        focal=_NYU_FOCAL,
    ),
    "chmv2": PublishedNetwork(
        repository="facebook/dinov3-vitl16-chmv2-dpt-head",
        millions=330,
        output=DepthScale.AFFINE_DEPTH,  # heights of trees seen from above
        licence="DINOv3 License",
        data="satellite images and airborne laser scans",
        paper="2603.06382",
    ),
    **_moge("moge-vitl", 314, DepthScale.UP_TO_SCALE),
    **_moge("moge-2-vitl", 326, _METRES),
    **_moge("moge-2-vits-normal", 35, _METRES),
    **_moge("moge-2-vitb-normal", 104, _METRES),
    **_moge("moge-2-vitl-normal", 331, _METRES),
    **_depth_anything_3("da3-small", 26, DepthScale.UP_TO_SCALE, "Apache-2.0"),
    **_depth_anything_3("da3-base", 120, DepthScale.UP_TO_SCALE, "Apache-2.0"),
    **_depth_anything_3("da3-large-1.1", 350, DepthScale.UP_TO_SCALE, _NC),
    **_depth_anything_3("da3-giant-1.1", 1150, DepthScale.UP_TO_SCALE, _NC),
    **_depth_anything_3("da3metric-large", 350, _METRES, "Apache-2.0"),
    **_depth_anything_3("da3mono-large", 350, DepthScale.AFFINE_DEPTH, "Apache-2.0"),
    **_depth_anything_3("da3nested-giant-large-1.1", 1400, _METRES, _NC),
}
"""By the name that a command takes."""


def find_by_repository(repository: str) -> PublishedNetwork | None:
    """Return the entry of a repository of the hub; None where the table has none.

    Examples:
        >>> find_by_repository("apple/DepthPro-hf").licence
        'Apple-AMLR (research only)'
    """
    return next((entry for entry in PUBLISHED_NETWORKS.values() if entry.repository == repository), None)


def is_non_commercial(licence: str) -> bool:
    """Return whether a licence forbids commercial use.

    Examples:
        >>> is_non_commercial("CC-BY-NC-4.0"), is_non_commercial("Apache-2.0")
        (True, False)
    """
    return any(part.lower() in licence.lower() for part in FORBIDS_COMMERCIAL_USE)


def describe_licence(licence: str) -> str:
    """Return one line about the licence of weights; "" where it is not known."""
    if not licence:
        return ""
    ban = ": it forbids commercial use" if is_non_commercial(licence) else ""
    return f"licence of the weights: {licence}{ban}"
