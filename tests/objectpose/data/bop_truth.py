"""The annotated poses of a BOP data set as results, which every score must call perfect."""

from stadia.objectpose.data.bop import BopImages, BopResult


def ground_truth_results(images: BopImages, at_least_visible_px: int = 1) -> list[BopResult]:
    """Return the annotated poses of visible objects as results."""
    found = []
    for index, (scene_id, im_id) in enumerate(images.ids):
        for (model, T), label in zip(images.poses(index), images.labels(index).objects, strict=True):
            if label.visible_px >= at_least_visible_px:
                found.append(BopResult(scene_id, im_id, model.obj_id, 1.0, T @ model.T_object_model))
    return found
