"""VISII: its loss, gradients and updates against a loop written here from the method's description, in float64."""

import copy
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionInstructPix2PixPipeline
from editing_toys import entry, photo
from torch import Tensor
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTextModel, CLIPTokenizer

from baselines.visii.inversion import Objective, Start, invert, start, visits
from baselines.visii.method import OPTIONS, VISII
from editclip.data.bench import Bench
from editclip.editing import EditRequest, Exemplar, JointPreparer
from editclip.editing.cards import parse_method
from editclip.editing.prepared import prepare
from editclip.editing.requests import Requests
from editclip.editing.work import Work
from editclip.errors import InputError

STEPS = 20
QUICK = {"caption": "snow", "steps": STEPS, "num_inference_steps": 3, "checkpoint": "last"}
LEARNT = slice(1, 5)  # the tests' tokenizer makes every letter a token: start, s, n, o, w, end


def load(weights: Mapping[str, Path], **options: Any) -> VISII:
    editor = parse_method(entry("baselines.visii", options=QUICK | options)).load(weights, "cpu", "prepare")
    assert isinstance(editor, VISII) and isinstance(editor, JointPreparer)
    return editor


def test_to_edit_no_clip_is_loaded(weights: Mapping[str, Path], bench: Bench) -> None:
    method = parse_method(entry("baselines.visii", options=QUICK))
    preparer, editor = (method.load(weights, "cpu", stage) for stage in method.card.stages)
    assert editor.clip is None
    request = Requests(bench, method, 0).request(bench.samples[0], preparer.prepare(exemplar(0)), 0)
    assert editor.edit([request])[0].tobytes() == preparer.edit([request])[0].tobytes()


def exemplar(number: int, pairs: int = 1) -> Exemplar:
    images = tuple((photo(100 * number + 2 * k), photo(100 * number + 2 * k + 1)) for k in range(pairs))
    return Exemplar(f"e{number}", images, None, number)


@pytest.fixture(scope="module")
def editor(weights: dict[str, Path]) -> VISII:
    return load(weights)


@pytest.fixture(scope="module")
def exact(weights: dict[str, Path]) -> VISII:
    """The same in float64."""
    editor = load(weights)
    editor.pipeline.to(torch.float64)
    editor.clip.model.double()
    return editor


class Reference:
    """One inversion step after another, three guided rows in one call with gradient, as the description says it."""

    image_guidance = 1.5

    def __init__(self, weights: Mapping[str, Path], shown: Exemplar, prompt: str) -> None:
        pipe = StableDiffusionInstructPix2PixPipeline.from_pretrained(weights["ip2p"], safety_checker=None)
        self.unet, vae = pipe.unet.double(), pipe.vae.double()
        clip = CLIPModel.from_pretrained(weights["clip"]).double()
        tokenizer = CLIPTokenizer.from_pretrained(weights["ip2p"] / "tokenizer")
        encoder = CLIPTextModel.from_pretrained(weights["ip2p"] / "text_encoder").double()
        with torch.no_grad():
            # rows [text, image only, neither]
            ids = tokenizer([prompt, "", ""], padding="max_length", max_length=77, return_tensors="pt").input_ids
            self.initial = encoder(ids).last_hidden_state
            self.eos = ids[0].tolist().index(tokenizer.eos_token_id)
            sides = [list(side) for side in zip(*shown.pairs, strict=True)]
            processor = CLIPImageProcessorPil.from_pretrained(weights["clip"])
            pixels = [processor(side, return_tensors="pt")["pixel_values"].double() for side in sides]
            features = [clip.get_image_features(p).pooler_output.mean(0) for p in pixels]
            self.direction = (features[1] - features[0]) / (features[1] - features[0]).norm()
            codes = [vae.encode(pipe.image_processor.preprocess(s).double()).latent_dist.mode() for s in sides]
        self.before, self.after = codes[0], 0.18215 * codes[1]
        self.projection = clip.text_projection.weight.detach()
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2  # scaled linear
        self.kept = torch.cumprod(1 - betas, 0).double()
        self.unet.requires_grad_(False)

    def loss(self, embeddings: Tensor, t: int, noise: Tensor) -> tuple[Tensor, Tensor]:
        c, z = self.before[[t % len(self.before)]], self.after[[t % len(self.after)]]
        noisy = self.kept[t].sqrt() * z + (1 - self.kept[t]).sqrt() * noise
        images = torch.cat([c, c, torch.zeros_like(c)])
        rows = torch.cat([noisy.expand(3, -1, -1, -1), images], 1)
        text, image, null = self.unet(rows, t, encoder_hidden_states=embeddings).sample.chunk(3)
        mse = ((null + 7.5 * (text - image) + self.image_guidance * (image - null) - noise) ** 2).mean()
        pooled = self.projection @ embeddings[0].mean(0)
        cosine = torch.clamp(self.direction @ pooled / pooled.norm(), -1, 0.5)
        return 4 * mse - 0.1 * cosine, mse

    def steps(
        self, seen: Sequence[tuple[int, Tensor]], scale: float
    ) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """Loss, error, gradient of row 0 and row 0 after the update, of every step."""
        embeddings = self.initial.clone().requires_grad_()
        optimiser = torch.optim.AdamW([embeddings], lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
        for t, noise in seen:
            optimiser.zero_grad()
            loss, mse = self.loss(embeddings, t, noise)
            (loss * scale).backward()
            assert embeddings.grad is not None
            gradient = embeddings.grad[0].clone() / scale
            torch.nn.utils.clip_grad_value_([embeddings], float(self.initial.max()))
            optimiser.step()
            with torch.no_grad():
                embeddings[1:] = self.initial[1:]
                embeddings[0, 0] = self.initial[0, 0]
                embeddings[0, self.eos :] = self.initial[0, self.eos :]
            yield loss.detach(), mse.detach(), gradient, embeddings[0].detach().clone()


def begun(editor: VISII, shown: Exemplar) -> Start:
    return start(editor.pipeline, editor.clip, shown, editor.options)


def seen_by(editor: VISII, shown: Exemplar, steps: int = STEPS) -> list[tuple[int, Tensor]]:
    """Timestep and noise of every step."""
    return [(int(t), noise) for t, _, _, noise in visits([begun(editor, shown)], steps, 1000)]


def inverted(editor: VISII, shown: Exemplar, **options: Any) -> dict[str, Tensor]:
    objective = Objective(editor.pipeline, editor.clip, editor.options | options)
    return invert(objective, [begun(editor, shown)], 1000, editor.options | options)[0]


@pytest.mark.parametrize(("pairs", "image_guidance"), [(1, 1.5), (2, 1.5), (2, 1.0)])
def test_first_loss_and_every_tokens_gradient(
    exact: VISII, weights: dict[str, Path], pairs: int, image_guidance: float
) -> None:
    shown = exemplar(1, pairs)
    reference = Reference(weights, shown, "snow")
    reference.image_guidance = image_guidance
    begin, (t, before, after, noise) = begun(exact, shown), next(visits([begun(exact, shown)], STEPS, 1000))
    embedding = begin.embedding.clone().requires_grad_()
    options = exact.options | {"training_image_guidance_scale": image_guidance}
    objective = Objective(exact.pipeline, exact.clip, options)
    _, only, neither = objective.guided_rows(before, before, t, embedding)
    assert torch.equal(only, neither) == (image_guidance == 1), "what cancels out is not computed"
    error, cosine = objective.terms(embedding, (before, after), noise, t, begin.direction[None])
    loss = objective.loss(error, cosine)
    (gradient,) = torch.autograd.grad(loss.sum(), embedding)
    loss, error = loss.detach(), error.detach()
    expected, mse, wanted, _ = next(reference.steps([(int(t), noise)], 1.0))
    assert float(loss) == pytest.approx(float(expected), rel=1e-8) and float(error) == pytest.approx(float(mse))
    assert wanted.norm(dim=-1).min() > 0, "every token's gradient is looked at"
    assert ((gradient[0] - wanted).norm(dim=-1) <= 1e-8 * wanted.norm(dim=-1)).all()


@pytest.mark.parametrize("loss_scale", [1.0, 65536.0])
@pytest.mark.parametrize("pairs", [1, 2])
def test_embeddings_after_twenty_steps(exact: VISII, weights: dict[str, Path], pairs: int, loss_scale: float) -> None:
    shown = exemplar(2, pairs)
    reference = Reference(weights, shown, "snow")
    expected = list(reference.steps(seen_by(exact, shown), loss_scale))
    learnt = inverted(exact, shown, loss_scale=loss_scale)
    moved = (expected[-1][3] - reference.initial[0]).norm()
    assert moved > 0.05  # 20 steps of 1e-3 in 4 × 16 numbers: at most 0.16
    assert (learnt["embedding"][0] - expected[-1][3]).norm() <= 1e-8 * moved
    assert torch.allclose(learnt["mse"], torch.stack([mse for _, mse, _, _ in expected]), rtol=1e-8)


def test_only_the_tokens_between_start_and_end_move(editor: VISII) -> None:
    learnt = editor.prepare(exemplar(3))
    change = (learnt["embedding"] - learnt["initial_embedding"])[0].abs()
    assert int(learnt["eos"]) == LEARNT.stop and (change[LEARNT] > 0).any(1).all()
    change[LEARNT] = 0
    assert (change == 0).all()


def test_the_gradient_clip_acts_on_scaled_gradients_only(exact: VISII) -> None:
    shown = exemplar(2)
    plain, scaled = (inverted(exact, shown, loss_scale=scale)["embedding"] for scale in (1.0, 65536.0))
    assert not torch.allclose(plain, scaled, rtol=1e-6)


def test_which_step_is_kept(exact: VISII, weights: dict[str, Path]) -> None:
    shown, few = exemplar(4), {"steps": 6}
    steps = list(Reference(weights, shown, "snow").steps(seen_by(exact, shown, 6), 65536.0))
    best = int(torch.stack([mse for _, mse, _, _ in steps]).argmin())
    assert best not in (1, 5)
    for checkpoint, step in (("best", best), ("last", 5), ("2", 1)):
        kept = inverted(exact, shown, checkpoint=checkpoint, **few)["embedding"][0]
        assert torch.allclose(kept, steps[step][3], rtol=0, atol=1e-10), checkpoint


def test_every_timestep_is_visited_once_with_its_own_noise(exact: VISII) -> None:
    begin = begun(exact, exemplar(5))
    seen = list(visits([begin], 1000, 1000))
    times = [int(t) for t, *_ in seen]
    assert sorted(times) == list(range(1000)) and times != sorted(times)
    assert len({float(noise.sum()) for *_, noise in seen}) == 1000
    some = sorted(int(t) for t, *_ in visits([begin], 150, 1000))
    assert len(set(some)) == 150 and {b - a for a, b in zip(some, some[1:], strict=False)} == {6, 7}


def test_pairs_alternate_with_the_timestep(exact: VISII) -> None:
    begin = begun(exact, exemplar(6, pairs=3))
    for t, before, after, _ in visits([begin], STEPS, 1000):
        assert torch.equal(before[0], begin.before[int(t) % 3]) and torch.equal(after[0], begin.after[int(t) % 3])


def test_velocity_is_compared_with_velocity(exact: VISII) -> None:
    """ε from v is √ᾱ v + √(1-ᾱ) z_t, so that errors differ by the factor ᾱ."""
    pipeline = copy.copy(exact.pipeline)
    pipeline.scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config, prediction_type="v_prediction")
    begin, (t, before, after, noise) = begun(exact, exemplar(7)), next(visits([begun(exact, exemplar(7))], STEPS, 1000))
    objective = Objective(pipeline, exact.clip, exact.options)
    error, _ = objective.terms(begin.embedding, (before, after), noise, t, begin.direction[None])
    kept = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2, 0).double()[t]
    noisy = kept.sqrt() * after + (1 - kept).sqrt() * noise
    rows = torch.cat([noisy.expand(3, -1, -1, -1), torch.cat([before, before, 0 * before])], 1)
    context = torch.cat([begin.embedding, objective.null, objective.null])
    with torch.no_grad():
        full, image, null = exact.pipeline.unet(rows, t, encoder_hidden_states=context).sample.chunk(3)
    velocity = null + 7.5 * (full - image) + 1.5 * (image - null)
    predicted = kept.sqrt() * velocity + (1 - kept).sqrt() * noisy
    assert float(error * kept) == pytest.approx(float((predicted - noise).square().mean()), rel=1e-6)


def test_who_shares_the_calls_does_not_matter(editor: VISII) -> None:
    shown = [exemplar(0), exemplar(1, pairs=2), exemplar(2)]
    together = editor.prepare_many(shown)
    for one, shared in zip(shown, together, strict=True):
        alone = editor.prepare(one)
        assert torch.equal(alone["timesteps"], shared["timesteps"])
        learnt = (alone["embedding"] - alone["initial_embedding"]).norm()
        assert (alone["embedding"] - shared["embedding"]).norm() <= 1e-2 * learnt


def test_the_stock_pipeline_fed_the_learnt_embedding(editor: VISII, weights: dict[str, Path]) -> None:
    stock = StableDiffusionInstructPix2PixPipeline.from_pretrained(weights["ip2p"], safety_checker=None)
    stock.set_progress_bar_config(disable=True)
    empty = stock.tokenizer("", padding="max_length", max_length=77, return_tensors="pt").input_ids
    asked = [request(editor, exemplar(number), number) for number in (8, 9)]
    for image, one in zip(editor.edit(asked), asked, strict=True):
        expected = stock(
            prompt_embeds=one.prepared["embedding"],
            negative_prompt_embeds=stock.text_encoder(empty)[0].detach(),
            image=one.query,
            num_inference_steps=3,
            guidance_scale=8,
            image_guidance_scale=1.5,
            generator=torch.Generator().manual_seed(one.seed),
        ).images[0]
        assert np.abs(np.asarray(image, int) - np.asarray(expected, int)).max() <= 1
    other = replace(asked[0], prepared=asked[1].prepared)
    assert editor.edit([other])[0].tobytes() != editor.edit(asked[:1])[0].tobytes()


def request(editor: VISII, shown: Exemplar, number: int) -> EditRequest:
    return EditRequest(photo(500 + number), shown, editor.prepare(shown), None, None, None, None, number)


def test_words_are_appended_to_the_learnt_instruction(weights: dict[str, Path], editor: VISII) -> None:
    hybrid = load(weights, hybrid_instruction="red")
    plain = request(hybrid, exemplar(10), 10)
    tokenizer = CLIPTokenizer.from_pretrained(weights["ip2p"] / "tokenizer")
    encoder = CLIPTextModel.from_pretrained(weights["ip2p"] / "text_encoder")
    with torch.no_grad():
        said = encoder(tokenizer("red", padding="max_length", max_length=77, return_tensors="pt").input_ids)[0]
    expected = plain.prepared["embedding"].clone()
    expected[:, 7:11] = said[:, :4]  # start, r, e, d; the learnt instruction's end token is at 5
    by_hand = replace(plain, prepared={"embedding": expected})
    assert hybrid.edit([plain])[0].tobytes() == editor.edit([by_hand])[0].tobytes()
    assert hybrid.edit([plain])[0].tobytes() != editor.edit([plain])[0].tobytes()
    with pytest.raises(InputError, match="takes 71 tokens, but 70 are free"):
        load(weights, hybrid_instruction="r" * 70).edit([plain])


def test_the_caption_search_finds_better_captions(weights: dict[str, Path]) -> None:
    few, many = (load(weights, caption="", caption_steps=steps, steps=1) for steps in (1, 60))
    clip = many.clip
    target = clip.encode_image([exemplar(11).after])[0]

    def score(editor: VISII) -> float:
        caption = bytes(editor.prepare(exemplar(11))["caption"].tolist()).decode()
        assert 10 <= len(caption.replace(" ", "")) <= 20  # ten tokens, most of them one letter long
        return float(clip.encode_text([caption])[0] @ target)

    assert score(many) > score(few) + 0.01


def test_exemplars_that_cannot_be_inverted_are_refused(editor: VISII) -> None:
    same = replace(exemplar(12), pairs=((photo(1), photo(1)),))
    with pytest.raises(InputError, match="exemplar e12: before and after are identical"):
        editor.prepare(same)
    with pytest.raises(InputError, match="e12 has no pair of images"):
        editor.prepare(replace(same, pairs=()))


@pytest.mark.parametrize("checkpoint", ["last", "best", "1"])
def test_a_diverged_inversion_raises(weights: dict[str, Path], checkpoint: str) -> None:
    with pytest.raises(FloatingPointError, match="the inversion diverged"):
        load(weights, learning_rate=1e30, steps=4, checkpoint=checkpoint).prepare(exemplar(14))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 1001}, "steps 1001 must not exceed the 1000 timesteps"),
        ({"steps": 0}, "steps 0 must be at least 1"),
        ({"checkpoint": "21"}, "checkpoint '21' must be best, last or the number of a step from 1 to 20"),
        ({"training_guidance_scale": 1.0}, "training_guidance_scale 1.0 must be above 1"),
        ({"guidance_scale": 1.0}, "guidance_scale 1.0 must be above 1"),
    ],
)
def test_options_that_cannot_be_followed_are_refused(
    weights: dict[str, Path], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        load(weights, **options)


def test_a_caption_without_tokens_is_refused(editor: VISII) -> None:
    with pytest.raises(InputError, match="the caption ' ' has no token to learn"):
        start(editor.pipeline, editor.clip, exemplar(13), editor.options | {"caption": " "})


def test_towers_of_different_width_are_refused(weights: dict[str, Path], tmp_path: Path) -> None:
    from tiny_models import save_clip

    save_clip(tmp_path / "wide")
    with pytest.raises(InputError, match="its text encoder is 16 wide, but CLIP's text projection .* takes 32"):
        load(weights | {"clip": tmp_path / "wide"})


def test_a_killed_preparation_goes_on_where_it_stopped(
    weights: dict[str, Path], bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = parse_method(entry("baselines.visii", options=QUICK | {"steps": 2, "prepare_batch_size": 2}))
    log, whole = tmp_path / "calls.txt", VISII.prepare_many

    def counted(editor: VISII, exemplars: Sequence[Exemplar]) -> list[dict[str, Tensor]]:
        with log.open("a") as file:
            file.write(" ".join(e.exemplar_id for e in exemplars) + "\n")
        if len(log.read_text().splitlines()) == 3 and os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return whole(editor, exemplars)

    def run(name: str) -> None:
        (tmp_path / name).mkdir()
        prepare(Work(method, bench, weights, 0, "cpu"), (0, 1), tmp_path / name)

    parent = os.getpid()
    monkeypatch.setattr(VISII, "prepare_many", counted)
    monkeypatch.setenv("EDITCLIP_CACHE", str(tmp_path / "cache"))
    child = os.fork()
    if child == 0:
        run("killed")
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert not (tmp_path / "killed" / "prepared.csv").exists()
    run("resumed")
    ids = sorted({sample.exemplar_id for sample in bench.samples})
    pairs = [" ".join(ids[first : first + 2]) for first in (0, 2, 4)]
    assert log.read_text().splitlines() == [*pairs, pairs[2]]  # only what was being made is made again
    monkeypatch.setenv("EDITCLIP_CACHE", str(tmp_path / "fresh"))
    run("whole")
    for path in (tmp_path / "whole").glob("*.safetensors"):
        assert path.read_bytes() == (tmp_path / "resumed" / path.name).read_bytes()


def test_one_bad_exemplar_does_not_take_its_batch_with_it(
    weights: dict[str, Path], bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDITCLIP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("editclip.failures.MAXIMUM_FAILED", 0.5)
    monkeypatch.setattr("baselines.visii.inversion.start", _refusing(start, "g-red-e1"))
    method = parse_method(entry("baselines.visii", options=QUICK | {"steps": 2, "prepare_batch_size": 4}))
    prepare(Work(method, bench, weights, 0, "cpu"), (0, 1), tmp_path)
    status = [line.split(",") for line in (tmp_path / "prepared.csv").read_text().splitlines()[1:]]
    assert {row[0]: row[4] for row in status} == {
        exemplar_id: "failed" if exemplar_id == "g-red-e1" else "ok"
        for exemplar_id in Requests(bench, method, 0).fed.values()
    }
    assert next(row[5] for row in status if row[0] == "g-red-e1") == "InputError: cannot be inverted"


def _refusing(original: Any, name: str) -> Any:
    def replacement(pipeline: Any, clip: Any, shown: Exemplar, options: Any) -> Start:
        if shown.exemplar_id == name:
            raise InputError("cannot be inverted")
        return original(pipeline, clip, shown, options)

    return replacement


def test_defaults_are_the_official_values() -> None:
    official = {
        "caption_tokens": 10, "caption_steps": 3000, "caption_learning_rate": 0.1, "caption_weight_decay": 0.1,
        "steps": 1000, "learning_rate": 1e-3, "weight_decay": 1e-2, "mse_weight": 4, "clip_weight": 0.1,
        "training_guidance_scale": 7.5, "training_image_guidance_scale": 1.5, "checkpoint": "best",
        "num_inference_steps": 20, "guidance_scale": 8, "image_guidance_scale": 1.5,
    }  # fmt: skip
    assert {name: OPTIONS[name] for name in official} == official
