"""The names of tables, their columns, and the names, directions and meanings of every metric, in one place."""

import re
from dataclasses import dataclass

from editclip.errors import InputError, nearest

TABLE1 = ("method", "conditioning", "lpips", "clip", "ec2t", "clip_dir", "s_visual_dist", "ec2ec", "wr_edit", "wr_pres",
          "runtime_s", "notes")  # fmt: skip
MEASURED = ("lpips", "clip", "ec2t", "clip_dir", "s_visual_dist", "ec2ec")  # the paper's order
# Which metric of the score files stands in a column; for clip_dir the scoring card names one of two (paper eq. 11, 12).
HEADLINE = {"lpips": "lpips_alex", "clip": "clip", "ec2t": "ec2t", "s_visual_dist": "s_visual_dist", "ec2ec": "ec2ec"}
WIN_RATES = {"wr_edit": "edit", "wr_pres": "preserves"}  # the columns of votes: the question of a study behind each
VOTES = {  # whose they are, by their origin
    "oracle": "votes of an oracle, simulated raters who see the ground truth: no person judged",
    "human": "votes of people",
}
CLIP_DIR = {"clip_dir_captions": "eq11", "clip_dir_instruction": "eq12"}


@dataclass(frozen=True)
class Column:
    """How a column is shown: its label, which way is better (+1 higher, -1 lower, 0 neither) and its meaning.

    `decimals` are those of a rendering (the CSV has more); None means three significant digits.
    """

    label: str
    better: int
    meaning: str
    decimals: int | None = 3

    def text(self, value: float) -> str:
        """`value` as printed, without a negative zero."""
        if self.decimals is None:
            return f"{value:#.3g}".removesuffix(".")
        return f"{round(value, self.decimals) + 0.0:.{self.decimals}f}"


COLUMNS = {
    "lpips": Column("LPIPS", -1, "perceptual distance of output and query: how much of the query is lost"),
    "lpips_alex": Column("LPIPS (alex)", -1, "perceptual distance of output and query, AlexNet features"),
    "lpips_vgg": Column("LPIPS (vgg)", -1, "perceptual distance of output and query, VGG features"),
    "clip": Column("CLIP", +1, "cosine of output and the caption of the wanted output (paper eq. 10)"),
    "ec2t": Column("EC2T", +1, "cosine of the edit (query, output) and the instruction, in EditCLIP's space"),
    "clip_dir": Column("CLIP-Dir", +1, "cosine of the change of image and the change of text"),
    "clip_dir_captions": Column("CLIP-Dir (captions)", +1, "change of image against change of captions (paper eq. 11)"),
    "clip_dir_instruction": Column("CLIP-Dir (instruction)", +1, "change of image against instruction (paper eq. 12)"),
    "s_visual": Column("S_visual", +1, "cosine of the output's change and the exemplar's change (paper eq. 13)"),
    "s_visual_dist": Column("1 − S_visual", -1, "the same as a distance: 1 − cosine"),
    "ec2ec": Column("EC2EC", +1, "cosine of the edit (query, output) and the exemplar's edit, in EditCLIP's space"),
    "mse": Column("MSE", -1, "mean squared error of values in [0, 1], output against ground truth", 4),
    "mse_background": Column("MSE background", -1, "output against query outside the edit mask", 4),
    "psnr": Column("PSNR", +1, "dB, output against ground truth", 2),
    "closer": Column("Closer than copy", +1, "share of outputs closer to the ground truth (MSE) than the query is"),
    "ssim": Column("SSIM", +1, "structural similarity of output and ground truth"),
    "psnr_background": Column("PSNR background", +1, "dB, output against query outside the edit mask", 2),
    "psnr_inside": Column("PSNR inside", +1, "dB, output against ground truth inside the edit mask", 2),
    "sharpness": Column(
        "Sharpness",
        0,
        "log2 of the Laplacian's variance inside the edit mask, output over ground truth; "
        "0 is as sharp, noise is sharp too",
        2,
    ),
    "detail": Column("Detail", +1, "correlation of the Laplacians of output and ground truth inside the edit mask"),
    "wr_edit": Column("Win edit %", 0, "share of votes for the reference row against this one, edit quality", 1),
    "wr_pres": Column("Win pres. %", 0, "share of votes for the reference row against this one, preservation", 1),
    "runtime_s": Column("Time s", -1, "seconds per edit, by itself, preparation and plan included", None),
    "runtime_amortised_s": Column(
        "Time s (amortised)", -1, "the same, preparation shared by the exemplar's queries", None
    ),
    "method": Column("Method", 0, ""),
    "conditioning": Column("Condition", 0, "what tells the method the edit"),
    "notes": Column("Notes", 0, ""),
}


def column(name: str) -> Column:
    """How column or metric `name` is shown; an unknown one is shown under its own name."""
    return COLUMNS.get(name, Column(name, 0, ""))


def title(name: str) -> str:
    """What a table is called for people: table1 is "Table 1", lambda_lpips is "Lambda lpips"."""
    numbered = re.fullmatch(r"table(\d+)", name)
    text = f"table {numbered[1]}" if numbered else name.replace("_", " ").replace("-", " ")
    return text[:1].upper() + text[1:]


def better(name: str, place: str) -> int:
    """Which way metric `name` is better, +1 higher or -1 lower, so that votes can agree with it.

    Args:
        name: of the metric; clip_dir is whichever of its forms was scored.
        place: where the config names it, for messages.

    Raises:
        InputError: there is no such metric, or of this one neither is better.
    """
    if name not in COLUMNS:
        raise InputError(f'config value {place}: there is no metric "{name}"{nearest(name, COLUMNS)}')
    if not column(name).better:
        raise InputError(
            f'config value {place}: of "{name}" neither higher nor lower is better, so that no vote can agree with it; '
            "leave it out"
        )
    return column(name).better
