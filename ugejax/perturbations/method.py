"""The settings of the perturbation, as the command line, the card and the key's records of runs describe them."""

from dataclasses import asdict, dataclass
from typing import Any

# Of the settings those that are a choice; what each name stands for is in the registry that it is looked up in.
CHOICES = {
    "norm": ("linf", "l2"),
    "parametrisation": ("class-wise", "sample-wise", "generator", "codes", "layered"),
    "start": ("stripes", "misaligned"),
    "gradient_distance": ("l2", "cosine"),
    "feature_loss": ("error-min", "error-max", "distance"),
}

# Settings by how much of the images an owner gives for protection; a form's own defaults fill in the rest.
STRENGTHS: dict[str, dict[str, Any]] = {"standard": {}, "strong": {"eps": 16 / 255, "parametrisation": "layered"}}


@dataclass(frozen=True)
class Method:
    """The settings of the perturbation.

    Attributes:
        eps: budget in units of [0, 1].
        norm: "linf" or "l2" (per image).
        parametrisation: "class-wise" (one free tensor per class, brought into the feasible set of each image),
            "sample-wise" (one per image), "generator" (a network that takes the image and its class's texture),
            "codes" (class-wise, and small patterns of a class in a few tiles at random places of an image) or "layered"
            (the same, at half the budget beside patterns of brightness all over the image).
        start: "stripes" (class-wise waves) or "misaligned" (class means pushed towards a wrong class).
        period: of the stripes' middle wave in pixels, see `class_stripes`.
        amplitude: of the start, as a multiple of eps; with norm "l2" of a value's share of it, eps / sqrt(H W C).
        epochs: passes of the update over the images; 0 keeps the start.
        step_size: signed-gradient step as a share of the same; a generator has none.
        steps_per_batch: steps an update. They share batch, snapshot and transform, hence the clean gradients, and the
            surrogates train once after them.
        batch_size: images an update; of large images as many as `ugejax.batches.at_a_time` says.
        gradient_matching: w_gm.
        gradient_distance: "l2" (relative, per layer) or "cosine" (per filter).
        feature_distance: w_fd.
        feature_loss: "error-min" (on surrogates that train on the perturbed images), or, on surrogates that train on
            the originals, "error-max" (targeted at a wrong class) or "distance" (of penultimate features).
        undistillation: w_ud.
        temperature: of the undistillation.
        surrogates: short names of the networks that the feature distance is measured on; none where it is measured in
            a common feature space alone.
        snapshots: number of snapshots of the authorized network's trajectory.
        transforms: names in `ugejax.transforms.TRANSFORMS`, one of which, drawn anew in each update, lies inside the
            optimisation; () for none.
        code_side: of a code's patterns in pixels.
        code_patterns: for each class.
        code_share: of the tiles that are laid; the class's texture fills the others.
        code_cell: side of the squares that a pattern is made of, in pixels; divides `code_side`.
    """

    eps: float = 8 / 255
    norm: str = "linf"
    parametrisation: str = "class-wise"
    start: str = "stripes"
    period: int = 14
    amplitude: float = 1.0
    epochs: int = 0
    step_size: float = 0.1
    steps_per_batch: int = 1
    batch_size: int = 64
    gradient_matching: float = 1.0
    gradient_distance: str = "l2"
    feature_distance: float = 1.0
    feature_loss: str = "error-min"
    undistillation: float = 0.0
    temperature: float = 4.0
    surrogates: tuple[str, ...] = ("res-tiny",)
    snapshots: int = 8
    transforms: tuple[str, ...] = ("crop-flip",)
    code_side: int = 4
    code_patterns: int = 1
    code_share: float = 0.15
    code_cell: int = 1

    @property
    def described(self) -> dict[str, Any]:
        """The settings by name, for cards and digests, without those that say nothing of this parametrisation."""
        return {name: value for name, value in asdict(self).items() if not self.unused(name)}

    def unused(self, name: str) -> bool:
        """Whether a setting says nothing of this parametrisation."""
        return name.startswith("code_") and self.parametrisation not in ("codes", "layered")
