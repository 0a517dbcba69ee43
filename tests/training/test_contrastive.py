"""EditCLIP's pre-training: one step against transformers' own loss, what is trained and how fast, and the batches."""

import copy
import json
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import tiny_models as tiny
import torch
import torch.multiprocessing
import training_toys as toys
from accelerate import PartialState
from safetensors.torch import load_file

from editclip.config.section import checked
from editclip.errors import InputError
from editclip.model import Clip, EditCLIP, clip_pixels, widened
from editclip.training import contrastive

RECIPE: dict[str, Any] = {
    **toys.TRAINING,
    "steps": 1,
    "batch_size": 6,
    "learning_rate": 1e-3,
    "warmup_steps": 1,
    "betas": [0.9, 0.98],
    "epsilon": 1e-6,
    "weight_decay": 0.02,
    "max_grad_norm": None,
    "log_every": 1,
    "patience": None,
    "checkpoint_seconds": 0,
    "conv_learning_rate": 1e-2,
    "logit_scale": None,
    "logit_scale_learning_rate": None,
    "batches": "shuffled",
    "frequency_power": 1.0,
}
COLOURS = ("red", "green", "blue", "yellow", "white", "black", "pink", "grey")


class Pairs:
    """Triplets' interface over pictures made here."""

    def __init__(self, count: int, edit_ids: list[str] | None = None) -> None:
        self.edit_prompts = [f"make it {COLOURS[i % 8]}" for i in range(count)]
        self.edit_ids = edit_ids

    def __len__(self) -> int:
        return len(self.edit_prompts)

    def batch(self, indices: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        return tuple(tiny.pixels([tiny.image(shift + i) for i in indices]) for shift in (0, 1000))


def recipe(**changes: Any) -> contrastive.ContrastiveRecipe:
    return checked(contrastive.ContrastiveRecipe, {**RECIPE, **changes})


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    tiny.save_clip(folder)
    return folder


@pytest.fixture
def encoder(clip_folder: Path) -> EditCLIP:
    clip = Clip.load(clip_folder)
    return EditCLIP(widened(clip.model), clip.tokenizer, clip.processor)


def trained(encoder: EditCLIP, folder: Path, pairs: Pairs, **changes: Any) -> dict[str, torch.Tensor]:
    """Change of every tensor in a training."""
    before = {name: tensor.clone() for name, tensor in encoder.model.state_dict().items()}
    contrastive.train(encoder, recipe(**changes), pairs, pairs, 3, checkpoints=folder, logs=folder / "logs")
    return {name: tensor - before[name] for name, tensor in encoder.model.state_dict().items()}


def test_one_step_equals_transformers_loss_and_a_plain_optimiser(encoder: EditCLIP, tmp_path: Path) -> None:
    pairs = Pairs(6)
    model = copy.deepcopy(encoder.model)
    before, after = pairs.batch(range(6))
    values = torch.cat([clip_pixels(before, encoder.processor), clip_pixels(after, encoder.processor)], 1)
    tokens = encoder.tokenizer(pairs.edit_prompts, padding=True, return_tensors="pt")["input_ids"]
    loss = model(input_ids=tokens, pixel_values=values, return_loss=True).loss
    loss.backward()
    named = [(n, p) for n, p in model.named_parameters() if n.startswith(("vision_model", "visual_projection"))]
    flat = [p for _, p in named if p.ndim < 2]
    conv = [p for n, p in named if "patch_embedding" in n]
    rest = [p for n, p in named if p.ndim >= 2 and "patch_embedding" not in n]
    torch.optim.AdamW(
        [
            {"params": flat, "weight_decay": 0.0},
            {"params": rest, "weight_decay": 0.5},
            {"params": conv, "weight_decay": 0.5, "lr": 1e-2},
        ],
        lr=1e-3,
        betas=(0.9, 0.98),
        eps=1e-2,  # so large that rounding errors in tiny gradients do not decide about whole steps
    ).step()
    trained(encoder, tmp_path, pairs, weight_decay=0.5, epsilon=1e-2)
    logged = json.loads((tmp_path / "logs" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert logged["loss"] == pytest.approx(loss.item(), abs=1e-5)
    state = encoder.model.state_dict()
    for name, tensor in model.state_dict().items():
        assert (tensor - state[name]).abs().max() < 1e-6, name
    assert len(flat) + len(rest) + len(conv) == len(named)


def test_only_the_image_tower_is_trained(encoder: EditCLIP, tmp_path: Path) -> None:
    change = trained(encoder, tmp_path, Pairs(8), steps=2)
    for name, difference in change.items():
        moved = bool(difference.any())
        assert moved == name.startswith(("vision_model", "visual_projection")), name


@pytest.mark.parametrize(("rate", "ratio"), [(1e-2, 10.0), (None, 1.0)])
def test_first_step_moves_weights_by_their_learning_rates(
    encoder: EditCLIP, tmp_path: Path, rate: float | None, ratio: float
) -> None:
    change = trained(encoder, tmp_path, Pairs(6), conv_learning_rate=rate, weight_decay=0.0)
    conv = change["vision_model.embeddings.patch_embedding.weight"].abs().median()
    others = change["vision_model.encoder.layers.0.mlp.fc1.weight"].abs().median()
    assert float(others) == pytest.approx(
        1e-3, rel=0.05
    )  # Adam's first step is the learning rate, whatever the gradient
    assert float(conv / others) == pytest.approx(ratio, rel=0.1)


def test_scale_is_fixed_unless_it_has_a_learning_rate(encoder: EditCLIP, tmp_path: Path) -> None:
    fixed = trained(encoder, tmp_path / "a", Pairs(8), logit_scale=30.0)
    assert float(encoder.model.logit_scale.exp()) == pytest.approx(30, rel=1e-5)
    assert fixed["logit_scale"] != 0
    learned = trained(encoder, tmp_path / "b", Pairs(8), logit_scale=None, logit_scale_learning_rate=0.01)
    assert float(learned["logit_scale"].abs()) == pytest.approx(0.01, rel=1e-2)


def test_cached_text_features_are_those_of_the_text_tower(encoder: EditCLIP) -> None:
    pairs = Pairs(20)
    instructions = contrastive.Instructions(encoder, pairs)
    assert len(instructions.texts) == 8
    again = torch.cat([encoder.encode_text([text]) for text in pairs.edit_prompts])
    assert (instructions.features[instructions.numbers] - again).abs().max() < 1e-6


def test_training_learns_to_tell_edits_apart(encoder: EditCLIP, tmp_path: Path) -> None:
    pairs = Pairs(8)
    options = {"steps": 40, "batch_size": 8, "learning_rate": 3e-3, "logit_scale": 20.0, "log_every": 40}
    trained(encoder, tmp_path, pairs, **options)
    logged = json.loads((tmp_path / "logs" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    assert logged["validation/edit_to_text_recall_at_1"] == 1
    assert logged["validation/loss"] < 0.5  # chance is ln 8 = 2.08


def test_batches_cannot_be_cut(encoder: EditCLIP, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="microbatch_size must be null"):
        trained(encoder, tmp_path, Pairs(8), microbatch_size=2)


def test_distinct_batches_never_hold_an_edit_twice() -> None:
    edits = ["a"] * 50 + ["b"] * 5 + ["c"] * 5 + ["d"] * 2
    draw = contrastive.distinct_batches(edits, 3, 1.0, seed=0)
    batches = [draw(step).tolist() for step in range(300)]
    assert all(len({edits[i] for i in batch}) == 3 for batch in batches)
    assert draw(17).tolist() == batches[17]
    assert {i for batch in batches for i in batch} == set(range(len(edits)))
    with pytest.raises(InputError, match="4 distinct edits"):
        contrastive.distinct_batches(edits, 5, 1.0, seed=0)


def test_frequency_power_sets_how_often_an_edit_is_drawn() -> None:
    edits = ["often"] * 90 + ["seldom"] * 10
    for power, share in ((1.0, 0.9), (0.5, 0.75), (0.0, 0.5)):  # √90 / (√90 + √10) = 0.75
        draw = contrastive.distinct_batches(edits, 1, power, seed=0)
        found = sum(edits[int(draw(step))] == "often" for step in range(600)) / 600
        assert found == pytest.approx(share, abs=0.06)


def test_retrieval_counts_ranks_of_the_first_right_answer() -> None:
    texts = torch.eye(4)
    edits = torch.tensor([[0.9, 0.1, 0.0, 0.0], [0.8, 0.5, 0.2, 0.0], [0.1, 0.2, 0.3, 0.9]])
    correct = torch.tensor([[1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 1, 0]]).bool()
    correct[0, 3] = True  # every text belongs to some edit
    found = contrastive.retrieval(edits, texts, correct)
    assert found["edit_to_text_recall_at_1"] == pytest.approx(1 / 3)  # ranks 1, 2, 2
    assert found["edit_to_text_recall_at_5"] == 1
    assert found["edit_to_text_mean_rank"] == pytest.approx(5 / 3)
    assert found["edit_to_text_median_rank"] == 2
    assert found["text_to_edit_recall_at_1"] == pytest.approx(3 / 4)  # the last text prefers edit 2 to its own, edit 0
    assert found["text_to_edit_mean_rank"] == pytest.approx((1 + 1 + 1 + 2) / 4)


def test_every_wording_of_an_edit_is_a_right_answer(encoder: EditCLIP) -> None:
    one_edit = contrastive.validation(encoder, Pairs(8, edit_ids=["same"] * 8))()
    own_text = contrastive.validation(encoder, Pairs(8))()
    assert one_edit["edit_to_text_recall_at_1"] == 1
    assert own_text["edit_to_text_recall_at_1"] < 1


def _worker(rank: int, port: int, folder: str, clip_folder: str) -> None:
    PartialState._reset_state()  # forked: forget that the parent was alone
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    torch.set_num_threads(1)
    PartialState(cpu=True)
    _train_sgd(Path(folder), Path(clip_folder), f"rank{rank}")


def _train_sgd(folder: Path, clip_folder: Path, name: str) -> None:
    """One step whose update is in proportion to the gradient: Adam with a huge epsilon."""
    clip = Clip.load(clip_folder)
    encoder = EditCLIP(widened(clip.model), clip.tokenizer, clip.processor)
    trained(
        encoder, folder / name, Pairs(6), epsilon=1e3, learning_rate=10.0, conv_learning_rate=None, weight_decay=0.0
    )
    torch.save(encoder.model.state_dict(), folder / f"{name}.pt")


def test_two_processes_train_as_one(clip_folder: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = (port, str(tmp_path), str(clip_folder))
    torch.multiprocessing.start_processes(_worker, arguments, nprocs=2, start_method="fork")  # no second import
    _train_sgd(tmp_path, clip_folder, "alone")
    states = [torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("rank0", "rank1", "alone")]
    start = widened(Clip.load(clip_folder).model).state_dict()
    for name, alone in states[2].items():
        assert torch.equal(states[0][name], states[1][name]), name
        moved = (alone - start[name]).abs().max()
        assert (states[0][name] - alone).abs().max() <= 1e-3 * moved + 1e-7, name


def test_command_line_writes_a_loadable_folder(train: Any, triplets: Path, foundations: Path, tmp_path: Path) -> None:
    changes = {"steps": 2, "batch_size": 8, "batches": "distinct"}
    out = train(contrastive, {**RECIPE, **changes}, tmp_path / "editclip", triplets=triplets, clip=foundations / "clip")
    loaded = EditCLIP.load(out)
    tensor = load_file(out / "model.safetensors")["vision_model.embeddings.patch_embedding.weight"]
    assert tensor.shape[1] == 6
    assert tensor[:, 3:].any()
    assert json.loads((out / "config.json").read_text(encoding="utf-8"))["vision_config"]["num_channels"] == 6
    assert loaded.encode_edit([tiny.image(0)], [tiny.image(1)]).shape == (1, 16)
    assert (out / "logs" / "metrics.jsonl").is_file()
