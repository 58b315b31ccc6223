"""The answer of a call with `dry_run`: what it would do and take, in the frame of every answer about a job."""

from typing import Any

from anyio.to_thread import run_sync
from mcp.types import CallToolResult, TextContent

from wan_mcp.fronts.mcp.results import JobOutline
from wan_mcp.schema.enums import Kind
from wan_mcp.schema.jobs import JobError
from wan_mcp.service.estimate import Estimate
from wan_mcp.service.estimate_in_words import estimate_facts, estimate_lines, request_as_it_would_run
from wan_mcp.service.service import JobService

__all__ = ["dry_run_result"]

STATUS = "dry_run"
NO_JOB = ""


class DryRun(JobOutline):
    """What a call would do. It has no job: `job_id` is empty."""

    status: str  # type: ignore[assignment]
    kind: Kind
    seed: int | None
    request: dict[str, Any]
    estimate: dict[str, Any]


async def dry_run_result(service: JobService, found: Estimate) -> CallToolResult:
    """Return the result of a call that was only estimated."""
    plan = found.plan
    manifest = service.catalog.manifests.get(plan.model)
    message = "\n".join([*estimate_lines(found), _next_step(found)])
    facts = DryRun(
        job_id=NO_JOB,
        status=STATUS,
        progress=0.0,
        message=message,
        error=None if found.misfit is None else JobError(code="too_large_for_device", message=found.misfit),
        artifacts=[],
        caption=None,
        notes=list(plan.notes),
        kind=plan.kind,
        seed=plan.seed,
        request=await run_sync(request_as_it_would_run, plan, manifest, service.settings.home),
        estimate=estimate_facts(found),
    )
    return CallToolResult(
        content=[TextContent(type="text", text=message)], structured_content=facts.model_dump(mode="json")
    )


def _next_step(found: Estimate) -> str:
    if found.misfit is not None:
        return "To run something like it, choose what fits; list_resolutions lists the models."
    if found.download is not None and not found.download.allowed:
        return f"To run it, ask the user to run 'wan-mcp pull {found.plan.model}' first."
    if found.download is not None and found.download.needs_consent and not found.download.agreeable:
        return "To run it, ask the user of this server's home to download the model, or choose another model."
    if found.download is not None and found.download.needs_consent:
        return "To run it, ask the user about the download; then call again with download=true, without dry_run."
    return "To run it, call again without dry_run."
