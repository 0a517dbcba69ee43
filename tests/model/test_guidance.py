"""Guided rows that cancel out are not computed."""

import pytest
import tiny_models
import torch
from torch import Tensor

from editclip.guidance import without_cancelled_rows


@pytest.mark.parametrize(("scales", "computed"), [((7, 1), 4), ((1.2, 1), 4), ((7, 1.5), 6), ((1, 1), 6)])
def test_an_image_guidance_of_one_leaves_out_the_last_third(scales: tuple[float, float], computed: int) -> None:
    unet, rows = tiny_models.unet(8), []
    generator = torch.Generator().manual_seed(0)
    sample, context = (torch.randn(6, *shape, generator=generator) for shape in ((8, 8, 8), (5, tiny_models.WIDTH)))
    unet.conv_in.register_forward_hook(lambda module, given, result: rows.append(len(given[0])))

    def called() -> Tensor:
        with torch.no_grad():
            return unet(sample, 500, encoder_hidden_states=context, return_dict=False)[0]

    whole = called()
    with without_cancelled_rows(unet, *scales):
        found = called()
    assert rows == [6, computed]
    torch.testing.assert_close(found[:4], whole[:4])
    last = found[2:4] if computed == 4 else whole[4:]
    torch.testing.assert_close(found[4:], last)
    assert torch.equal(called(), whole), "afterwards all is as it was"
