"""How much planning saves: an exemplar learnt once and an image foretold in one pass, against token by token.

    python benchmarks/instamanip_speed.py --run results/micro

The reference is the official procedure: for every query the whole prompt is read under the group mask, then the answer
is spoken one token at a time, all slots of its image included, up to its end. Five queries share an exemplar. Both ways
are timed in turn in this process, in CPU seconds of one thread, and must give equal features.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from transformers import DynamicCache

from baselines.instamanip.manipulator import ANSWER_LIMIT, next_tokens
from baselines.instamanip.manipulator_layout import Reader, load_manipulator
from baselines.instamanip.prompting import END, Layout, group_mask
from baselines.instamanip.vision_layout import load_vision
from editclip import stage
from editclip.data.triplets import Triplets

TARGET, TOLERANCE = 4.0, 1e-5


@torch.no_grad()
def token_by_token(reader: Reader, layout: Layout, shown: Tensor, query: Tensor) -> Tensor:
    """Features 1×slots×width of one query, as the official script foretells them.

    Args:
        reader: language model and prompts.
        layout: the prompt.
        shown: the tower's tokens of the exemplars.
        query: those of the query, 1×n×width.
    """
    manipulator, added = reader.manipulator, reader.prompter.added
    embedded = manipulator.embedded([layout], torch.cat([shown, query])[None])
    hidden = torch.zeros(group_mask([layout]).shape).masked_fill(~group_mask([layout]), torch.finfo(torch.float32).min)
    cache, inputs = DynamicCache(), embedded
    last, image = torch.tensor([layout.ids[-1]]), []
    for _ in range(ANSWER_LIMIT):
        output = manipulator.llm.model(inputs_embeds=inputs, attention_mask=hidden, past_key_values=cache)
        states = output.last_hidden_state[:, -1]
        if int(last) in added.slots:
            image.append(states)
        last = next_tokens(manipulator.llm.lm_head(states), last, added)
        if int(last) == END:
            break
        inputs = manipulator.llm.get_input_embeddings()(last)[:, None]
        hidden = torch.zeros(1, 1, 1, cache.get_seq_length() + 1)
        hidden[..., : layout.blind + 1] = torch.finfo(torch.float32).min
    return manipulator.output_resampler(torch.stack(image[: len(added.slots)], dim=1))


def seconds(call: Callable[[], Tensor]) -> float:
    """CPU seconds of one call."""
    start = time.process_time()
    call()
    return time.process_time() - start


def main() -> None:
    """Print both times (the fastest of all rounds), their ratio and the largest difference of the features."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="folder of a run, with triplets/ and weights/")
    parser.add_argument("--queries", type=int, default=5, help="queries that share the exemplar")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    reader = load_manipulator(given.run / "weights" / "instamanip")
    vision = load_vision(given.run / "weights" / "instamanip_vision")
    held_out = Triplets(given.run / "triplets", "validation", vision.sizes.image_size)
    before, after = (side.float() / 255 for side in held_out.batch(range(given.queries + 1)))
    with torch.no_grad():
        tokens = vision(vision.normalised(torch.cat([before[:1], after[:1], before[1:]])))
    shown, queries = tokens[:2], tokens[2:]
    prompter = reader.prompter
    layout = prompter.layout(prompter.parts(held_out.edit_prompts[0], 1))

    def ours() -> Tensor:
        learnt = reader.manipulator.learn(layout, shown)
        return reader.manipulator.foretell([learnt] * len(queries), queries, prompter).features

    def theirs() -> Tensor:
        return torch.cat([token_by_token(reader, layout, shown, query[None]) for query in queries])

    difference = float((ours() - theirs()).abs().max() / theirs().abs().max())  # also the warm-up
    times = [(seconds(ours), seconds(theirs)) for _ in range(given.rounds)]
    fast, slow = (min(column) for column in zip(*times, strict=True))
    print(f"token by token:                     {slow / len(queries):.3f} CPU-s a query")
    print(f"learnt once, images in one pass:    {fast / len(queries):.3f} CPU-s a query")
    print(f"ratio {slow / fast:.1f} (wanted {TARGET}); largest difference {difference:.1e} (wanted below {TOLERANCE})")
    sys.exit(0 if slow / fast >= TARGET and difference < TOLERANCE else 1)


if __name__ == "__main__":
    stage.run(main)
