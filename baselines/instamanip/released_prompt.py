"""The released wording, read from a checkout of InstaManip and never run.

    git clone https://github.com/BolinLai/InstaManip checkout
    python -m baselines.instamanip.released_prompt --from checkout --out wording

What the released weights were trained to read is a literal in a repository that states no licence, so it is not kept
here. `wording/wording.json` then goes into the conversion of the weights (`baselines.instamanip.convert`).
"""

import ast
import hashlib
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from baselines.instamanip.architecture import RELEASED_MANIPULATOR, RELEASED_VISION, Wording
from baselines.instamanip.prompting import AddedTokens, Prompter, WordTokens
from editclip import stage
from editclip.errors import InputError
from editclip.storage import write_json

SCRIPT = Path("src/inference/run_model_multishot.py")
# SHA-256 of the prompt for the instruction "Make it sepia toned", by exemplar pairs and text mode: what the release
# was seen to make of its own literal
DIGESTS = {
    (1, "instruction"): "c8333b449d781cb1957a8794cf0e9de0f05dd03f08eff9007a74f4aa1ff1a294",
    (2, "instruction"): "ba60e38695c586b7e7411016cf8f4bb16abb9cf67f62136a69655eb0b4c09363",
    (3, "instruction"): "9f3a1850fc9f11dd8977fbe9622ec14f28c0f138b447fd3bb765bc11ad787e2a",
    (1, "dropped"): "e49e412eb15130922790e5575990b955c523091f456db403fa4ff6419911b968",
}
SEPIA = "Make it sepia toned"


def digests(wording: Wording) -> dict[tuple[int, str], str]:
    """SHA-256 of the prompts that `DIGESTS` lists, in the release's tokens."""
    added = AddedTokens.released(RELEASED_VISION.slots, RELEASED_MANIPULATOR.edit_tokens)
    prompter = Prompter(wording, WordTokens([]), added)
    texts = {(pairs, mode): prompter.rendered(prompter.parts(SEPIA, pairs, mode)) for pairs, mode in DIGESTS}
    return {case: hashlib.sha256(text.encode()).hexdigest() for case, text in texts.items()}


def check_released(wording: Wording, source: Path) -> None:
    """Refuse a wording that is not the released one.

    Raises:
        InputError: a prompt has another digest.
    """
    for (pairs, mode), found in digests(wording).items():
        if found != DIGESTS[pairs, mode]:
            raise InputError(
                f"{source}: its prompt with {pairs} exemplar(s), text {mode}, has the digest {found}, not the released "
                f"{DIGESTS[pairs, mode]}; take the wording from an unchanged checkout of BolinLai/InstaManip (be99202)"
            )


def read_released(checkout: Path) -> Wording:
    """The wording in a checkout.

    Raises:
        InputError: the script is not there, is no Python, or has no such literals.
    """
    script = checkout / SCRIPT
    try:
        tree = ast.parse(script.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{script} cannot be read ({error}); give a checkout of BolinLai/InstaManip") from error
    assigned = {
        node.targets[0].id: node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    around, prompt, pair = (assigned.get(name) for name in ("instruction_prompt", "icl_instruction", "snippet"))
    if isinstance(pair, ast.BinOp):  # repeated for each exemplar
        pair = pair.left
    try:
        before, after = ast.literal_eval(around).split("{instruction}")  # type: ignore[arg-type]
        opening, pairs, manipulation, query, end = _pieces(prompt, 4)
        source, target, rest = _pieces(pair, 2)
        if rest:
            raise ValueError("text after an exemplar")
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(
            f"{script} does not hold the prompt as expected ({error}); give a checkout of BolinLai/InstaManip (be99202)"
        ) from error
    return Wording(
        opening=before + opening,
        pairs=pairs,
        source=source,
        target=target,
        manipulation=manipulation,
        query=query,
        closing=end + after,
    )


def _pieces(node: ast.expr | None, holes: int) -> Sequence[str]:
    """The text around the holes of a formatted literal.

    Raises:
        ValueError: it is none, or has another number of holes.
    """
    if not isinstance(node, ast.JoinedStr):
        raise ValueError("no formatted text")
    pieces = [""]
    for value in node.values:
        if isinstance(value, ast.Constant):
            pieces[-1] += str(value.value)
        else:
            pieces.append("")
    if len(pieces) != holes + 1:
        raise ValueError(f"{len(pieces) - 1} holes instead of {holes}")
    return pieces


def main() -> None:
    """Read it from the command line."""
    parser: ArgumentParser = stage.parser(__doc__)
    parser.add_argument("--from", dest="checkout", type=Path, required=True, help="checkout of BolinLai/InstaManip")
    given = parser.parse_args()
    wording = read_released(given.checkout)
    check_released(wording, given.checkout / SCRIPT)
    inputs = {"script": given.checkout / SCRIPT}
    module = "baselines.instamanip.released_prompt"
    with stage.output_folder(given.out, module=module, config=None, inputs=inputs, force=given.force) as folder:
        write_json(folder / "wording.json", wording.model_dump())


if __name__ == "__main__":
    stage.run(main)
