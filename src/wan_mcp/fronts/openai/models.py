"""The models of this server, with what one has to know to use them."""

from wan_mcp.catalog.manifest import Manifest
from wan_mcp.errors import UserError
from wan_mcp.fronts.openai.answers import Model, Models
from wan_mcp.fronts.openai.api import Call
from wan_mcp.fronts.openai.refusals import of_user_error
from wan_mcp.service.model_status import ModelStatus

__all__ = ["list_models", "retrieve_model"]


async def list_models(call: Call) -> Models:
    """Report on all models."""
    models = list(call.service.catalog.manifests.values())
    statuses = await call.service.model_statuses(models)
    return Models(data=[_shown(model, statuses[model.name]) for model in models])


async def retrieve_model(call: Call) -> Model:
    """Report on one model."""
    try:
        model = call.service.catalog.get(call.http.path_params["model"])
    except UserError as error:
        raise of_user_error(error, {"model": "model"}) from error
    return _shown(model, (await call.service.model_statuses([model]))[model.name])


def _shown(model: Manifest, status: ModelStatus) -> Model:
    rule, repository = model.frames, model.weights.repository
    seconds = [round(frames / rule.fps, 3) for frames in (rule.minimum, rule.default, rule.maximum)] if rule else None
    return Model(
        id=model.name,
        created=0,  # a manifest has no date
        owned_by=repository.partition("/")[0] if repository else "wan-mcp",
        title=model.title,
        tasks=[str(task) for task in model.tasks],
        ready=status.ready,
        fits=status.misfit is None,
        sizes=[f"{size.width}x{size.height}" for size in model.sizes.named] if model.sizes else [],
        seconds=seconds,
        fps=rule.fps if rule else None,
        presets=list(model.presets),
    )
