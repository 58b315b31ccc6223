"""Plain diffusers with image models, with which benchmarks compare: it makes of a plan what a job makes."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from tests.fixtures.served_models import IMAGE_MODELS, Place
from tests.support.image_jobs import model_of, pixels, request
from wan_mcp.catalog.manifest import Manifest
from wan_mcp.engine.families.image.plain import load_plain_image_model
from wan_mcp.schema.plans import ImagePlan


@pytest.mark.parametrize("name", IMAGE_MODELS)
def test_an_image_is_that_of_a_job(name: str, place: Place, served: Callable[[str], Manifest]) -> None:
    job = place.run(request(name, served(name).tasks[0]))
    plan = job.plan
    assert isinstance(plan, ImagePlan)
    pipeline, placement, arguments = load_plain_image_model(model_of(place).context, plan)
    assert placement == "to(device)"
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator("cpu").manual_seed(plan.seed)
    [made] = pipeline(**arguments(plan), generator=generator, output_type="np", return_dict=False)[0]
    ours = np.frombuffer(pixels(job.artifacts[0].path), np.uint8).reshape(made.shape).astype(int)
    assert np.abs(ours - (made * 255).round()).max() <= 1  # convolutions of the VAE are computed in another order
