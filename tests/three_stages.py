"""An example of a method of three stages, which tests put into `baselines/`.

What is planned for each sample, here by the length of its instruction, is how much of its exemplar's change of colour
is added to the query.
"""

import os

import numpy as np
import torch

from editclip.editing import noise_generators, to_images

LABEL = "Three stages"
PAPER = ""
LICENSE = "Apache-2.0"
CONDITIONING = "exemplar"
NEEDS = ("exemplar", "instruction")
STAGES = ("prepare", "plan", "edit")
WEIGHTS = ()
RESOLUTION = None
GPU_GB = 0
DETERMINISTIC = True
TRAINED_ON = ()
OPTIONS = {"noise": 0.02}


def note(what):
    if "TOY_LOG" in os.environ:
        with open(os.environ["TOY_LOG"], "a") as file:
            file.write(what + "\n")


def pixels(image):
    return torch.from_numpy(np.asarray(image, dtype=np.float32) / 255)


class Preparer:
    def prepare(self, exemplar):
        note("prepare")
        return {"change": (pixels(exemplar.after) - pixels(exemplar.before)).mean((0, 1))}


class Planner:
    def plan(self, request):
        note(f"plan {request.seed} {sorted(request.planned)}")
        if request.instruction in os.environ.get("TOY_BAD", "-"):
            raise RuntimeError("cannot plan")
        length = len(request.require("instruction"))
        return {"added": request.prepared["change"] * length / 20, "length": torch.tensor(length)}


class Editor:
    def __init__(self, noise):
        self.noise = noise

    def edit(self, requests):
        edited = []
        for request, generator in zip(requests, noise_generators(requests), strict=True):
            note(f"edit {request.seed}")
            query = pixels(request.query)
            noise = self.noise * torch.randn(query.shape, generator=generator)
            edited.append(query + request.planned["added"] + noise)
        return to_images(torch.stack(edited).numpy())


def load(weights, options, device, stage):
    note("load " + stage)
    return {"prepare": Preparer, "plan": Planner}[stage]() if stage != "edit" else Editor(options["noise"])
