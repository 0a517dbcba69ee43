"""Metrics: a section for each family, and what is measured of the encoders themselves."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from editclip.config.section import NUMERIC, Count, Distinct, Name, Section


def _with_alex(nets: list[str]) -> list[str]:
    if "alex" not in nets:
        raise ValueError("alex must be among them: it is the table's column")
    return nets


class LPIPS(Section):
    """Perceptual distance."""

    nets: Annotated[Distinct[Literal["alex", "vgg", "squeeze"]], AfterValidator(_with_alex)]
    """alex is the table's column"""
    trunk: Literal["random", "imagenet"]
    """imagenet (torchvision's weights) or random (fixed seed; compares with nobody else's, and tables say so)"""
    resolution: Annotated[int, Field(ge=64)]
    """smaller images are upsampled to this side; below 64 px the trunks' last maps shrink to a pixel or nothing"""


class Clip(Section):
    """CLIP score, CLIP direction and S_visual."""

    encoder: Name
    """weights of the CLIP"""
    direction: Literal["auto", "captions", "instruction"]
    """auto: eq. 11 if every sample has both captions, else eq. 12 (paper appendix A)"""
    minimum_length: Annotated[float, Field(gt=0, lt=2), NUMERIC]
    """shorter differences have no direction: undefined"""


class EditClip(Section):
    """EC2T and EC2EC."""

    encoder: Name
    """weights of the edit encoder"""


class GroundTruth(Section):
    """Pixel metrics where the ground truth is known."""


class Metrics(Section):
    """The settings of all metrics, the same for every row."""

    batch_size: Count
    """images of one encoder call"""
    lpips: LPIPS
    clip: Clip
    editclip: EditClip
    ground_truth: GroundTruth


class Representation(Section):
    """Instruction retrieval and same-edit AUC on the triplets' test split."""

    encoder: Name
    """weights of the edit encoder"""
    clips: Distinct[Name]
    """weights of plain CLIPs that it is compared with"""


class Attention(Section):
    """What an edit encoder attends to on the benchmark's exemplars, beside a plain CLIP (paper, Figure 3)."""

    clip: Name
    """weights of that plain CLIP"""


class Retrieval(Section):
    """Nearest pairs and instructions of edits of the test split, and a map of all of them."""

    queries: Count
    """edits whose neighbours are shown, the families in turn"""
    nearest: Count
    """neighbours shown of each, and the ranks up to which the split is summed up"""
    perplexity: Annotated[float, Field(ge=1), NUMERIC]
    """of the map (t-SNE), about how many neighbours of a pair it keeps near; never more than a third of its others"""
