"""One row a method: its naive form, and what must hold for it beyond that.

To add a method, write it with loops in `reference.py` from its paper, and give it a row here.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from . import properties, reference


@dataclass(frozen=True)
class MethodCase:
    name: str
    naive: Callable
    holds: tuple[Callable, ...] = ()
    options: dict[str, str] = field(default_factory=dict)

    def __str__(self):
        return "-".join([self.name, *self.options.values()])


CASES = [
    MethodCase("cam", reference.cam, (properties.mean_is_the_score,)),
    MethodCase("gradcam", reference.gradcam, (properties.equals_cam,)),
    MethodCase("gradcam++", reference.gradcam_plus_plus, (properties.one_alpha_behind_pooling,)),
    MethodCase(
        "gradcam++",
        reference.gradcam_plus_plus_normalised,
        (properties.equals_positive_gradcam_behind_pooling,),
        {"alpha": "normalised"},
    ),
    MethodCase("xgradcam", reference.xgradcam, (properties.equals_cam,)),
    MethodCase("hirescam", reference.hirescam, (properties.equals_cam, properties.completeness)),
    MethodCase("gradcamelementwise", reference.gradcam_elementwise, (properties.completeness_of_positive_weights,)),
    MethodCase("layercam", reference.layercam, (properties.completeness_of_positive_weights,)),
    MethodCase("eigencam", reference.eigencam, (properties.finds_the_pattern, properties.ties_follow_the_mean)),
    MethodCase("eigengradcam", reference.eigengradcam, (properties.finds_the_pattern,)),
    MethodCase("scorecam", reference.scorecam_softmax, (properties.constant_channels_mask_all,)),
    MethodCase(
        "scorecam",
        reference.scorecam_probability,
        (properties.constant_channels_are_left_out,),
        {"weights": "probability"},
    ),
    MethodCase("random", reference.random, (properties.never_looks, properties.is_uniform)),
]
