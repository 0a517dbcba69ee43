"""EditCLIP's own editor: the pipeline, exemplar by exemplar and image by image."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from editing_toys import entry

from editclip.conditioning import Conditioning
from editclip.data.bench import Bench
from editclip.editing import check_pipeline_options, to_images
from editclip.editing.cards import parse_method
from editclip.editing.requests import Requests
from editclip.errors import InputError
from editclip.pipeline import EditCLIPPipeline
from editclip.storage import path_digest

OPTIONS = {"num_inference_steps": 3}


def test_defaults_are_the_official_evaluation_settings() -> None:
    options = parse_method(entry("editclip.method")).options
    settings = (options["num_inference_steps"], options["guidance_scale"], options["image_guidance_scale"])
    assert settings == (50, 7.0, 1.5)  # official evaluation script


def test_batch_of_different_exemplars_equals_single_pipeline_calls(bench: Bench, weights: dict[str, Path]) -> None:
    method = parse_method(entry("editclip.method", options=OPTIONS))
    preparer, editor = (method.load(weights, "cpu", stage) for stage in method.card.stages)
    requests, samples = Requests(bench, method, 0), bench.samples[::5]
    asked = [requests.request(s, preparer.prepare(requests.exemplar(s.exemplar_id)), 0) for s in samples]
    images = editor.edit(asked)
    pipeline = EditCLIPPipeline.from_released(
        editclip_ip2p=weights["editclip_ip2p"], editclip=weights["editclip"], base=weights["ip2p"]
    )
    pipeline.set_progress_bar_config(disable=True)
    for sample, request, image in zip(samples, asked, images, strict=True):
        expected = pipeline(
            image=bench.image(sample.query),
            exemplar=(bench.image(sample.exemplar_before), bench.image(sample.exemplar_after)),
            guidance_scale=7.0,
            image_guidance_scale=1.5,
            num_inference_steps=3,
            generator=[torch.Generator().manual_seed(request.seed)],
        ).images[0]
        assert np.abs(np.asarray(image, int) - np.asarray(expected, int)).max() <= 1


@pytest.mark.parametrize("name", ["editclip.method", "baselines.ip2p"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"guidance_scale": 1.0}, "leaves guidance out"),
        ({"image_guidance_scale": 0.9}, "leaves guidance out"),
        ({"num_inference_steps": 0}, "must be at least 1"),
        ({"precision": "half"}, "must be one of float32, float16, bfloat16"),
    ],
)
def test_settings_the_pipeline_would_misread_are_refused(
    weights: dict[str, Path], name: str, options: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        parse_method(entry(name, options=options)).load(weights, "cpu", "edit")


def test_weights_trained_with_another_encoder_are_refused(weights: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "editclip_ip2p"
    shutil.copytree(weights["editclip_ip2p"], folder)
    Conditioning("edit", "hidden", path_digest(weights["clip"])).save(folder)
    with pytest.raises(InputError, match="was trained with the encoder"):
        parse_method(entry("editclip.method")).load(weights | {"editclip_ip2p": folder}, "cpu", "prepare")


def test_both_guidance_weights_may_be_one() -> None:
    check_pipeline_options(
        {"guidance_scale": 1, "image_guidance_scale": 1, "num_inference_steps": 1, "precision": "float32"}
    )


def test_pixels_are_rounded_and_must_be_finite() -> None:
    image = to_images(np.array([0.0, 0.5, 1.0]).reshape(1, 1, 1, 3))[0]
    assert image.getpixel((0, 0)) == (0, 128, 255)
    with pytest.raises(FloatingPointError, match="not finite"):
        to_images(np.full((1, 2, 2, 3), np.nan))


@pytest.mark.parametrize(("stage", "role"), [("prepare", "editclip_ip2p.ip2p"), ("edit", "editclip_ip2p.encoder")])
def test_what_only_the_other_stage_needs_is_not_loaded(weights: dict[str, Path], stage: str, role: str) -> None:
    method, emptied = parse_method(entry("editclip.method")), weights | {role: weights["ip2p"] / "scheduler"}
    assert callable(getattr(method.load(emptied, "cpu", stage), stage))
    (other,) = {"prepare", "edit"} - {stage}
    with pytest.raises(InputError, match="scheduler"):
        method.load(emptied, "cpu", other)
