"""The Space: a Gradio page over the job table. `python app.py`

A click submits a job and returns; a timer follows the row. Gradio's queue holds nothing back, so position and time left
are those of the job table. A visitor is a random name kept in the browser: a reload finds the running job again, and
nobody sees another's jobs. The engine is the ordinary process of wan-mcp; on ZeroGPU it is what `zerogpu.py` says.
"""

import base64
import html
import os
import random
import secrets
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

try:
    import spaces  # before anything that may import torch
except ImportError:  # elsewhere it is not needed
    spaces = None

import gradio as gr
from anyio.from_thread import BlockingPortal, start_blocking_portal

from wan_mcp.errors import UserError
from wan_mcp.schema.enums import JobState, Kind, Task
from wan_mcp.schema.jobs import Job
from wan_mcp.schema.requests import CaptionRequest, ImageRequest, Request, VideoRequest
from wan_mcp.service.describe import fraction_of, sentence
from wan_mcp.service.owners import acting_for
from wan_mcp.service.previews import live_preview
from wan_mcp.service.service import JobService, JobView, serving
from wan_mcp.settings import Settings

if TYPE_CHECKING:
    from zerogpu import GpuCalls

CLIENT = "Space"
TICK_S = 1.0
LOOKED_AT = 50  # of a visitor's newest jobs
SHOWN = 12  # results in the gallery
MOST_SEED = 2**31 - 1
EXAMPLES = {
    Kind.VIDEO: [
        "a large orange star moves to the right on a navy background",
        "a small green ring grows on a white background",
        "a red circle bounces on a teal background",
    ],
    Kind.IMAGE: ["a blue diamond on a yellow background", "a large pink star on a black background"],
}


def owner_of(visitor: str) -> str:
    """The owner of a visitor's jobs: never that of another front's, whatever a browser sends."""
    return f"space:{visitor}"


class Studio:
    """What the page does with jobs: the one place that talks to the job service, from any of Gradio's threads."""

    def __init__(self, service: JobService, portal: BlockingPortal, calls: "GpuCalls | None" = None) -> None:
        """`calls` is what runs jobs on ZeroGPU."""
        self.service = service
        self._portal = portal
        self._calls = calls

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run a coroutine function of the service; what it refuses is shown to the visitor."""
        try:
            return self._portal.call(function, *arguments)
        except UserError as error:
            raise gr.Error(str(error), title="Not possible") from error

    def submit(self, request: Request, visitor: str) -> str:
        """Queue a job of a visitor; returns its id."""

        request_id = secrets.token_hex(16)
        if self._calls is not None:
            self._calls.expect(request_id, self.run(self.service.estimate, request).seconds)

        async def submit() -> JobView:
            with acting_for(owner_of(visitor)):
                picture = getattr(request, "image", None)  # a file of Gradio's, which an owner may not name
                images = {picture: await self.service.admission.ingest_named(picture, [])} if picture else {}
                return await self.service.submit(request, request_id, client=CLIENT, images=images)

        return str(self.run(submit).job.id)

    def jobs_of(self, visitor: str) -> list[Job]:
        """The newest jobs of a visitor."""

        async def find() -> list[Job]:
            return (await self.service.find(owner=owner_of(visitor), limit=LOOKED_AT)).jobs

        return list(self.run(find))

    def view(self, job_id: str, visitor: str) -> tuple[JobView, bytes | None] | None:
        """A visitor's job with its live preview; None if it is not theirs, or gone."""

        async def look() -> tuple[JobView, bytes | None] | None:
            view = await self.service.view(job_id)
            if view.job.owner != owner_of(visitor):
                return None
            return view, await live_preview(self.service, view.job)

        try:
            return self._portal.call(look)
        except UserError:
            return None

    def cancel(self, job_id: str, visitor: str) -> None:
        """Stop a visitor's job."""
        if job_id and self.view(job_id, visitor) is not None:
            self.run(self.service.cancel, job_id)


def status_of(view: JobView, preview: bytes | None) -> str:
    """A job's state, its bar and what it has come to, as HTML."""
    job = view.job
    percent = round(100 * fraction_of(job))
    parts = [f'<div class="words" role="status">{html.escape(sentence(view))}</div>']
    if not job.state.final:
        parts.append(f'<progress max="100" value="{percent}" aria-label="progress"></progress>')
    if preview is not None:
        data = base64.b64encode(preview).decode()
        parts.append(f'<img class="preview" alt="what is denoised" src="data:image/jpeg;base64,{data}">')
    parts += [f'<div class="note">{html.escape(note)}.</div>' for note in (*job.plan.notes, *job.notes)]
    return "".join(parts)


def shown(studio: Studio, job_id: str, visitor: str) -> list[Any]:
    """The values of the outputs that follow a job: status, video, image, caption, stop, timer, gallery."""
    found = studio.view(job_id, visitor) if job_id else None
    if found is None:
        return ["", None, None, "", gr.Button(interactive=False), gr.Timer(active=False), gr.skip()]
    view, preview = found
    job = view.job
    status = status_of(view, preview)
    if not job.state.final:
        return [status, gr.skip(), gr.skip(), gr.skip(), gr.Button(interactive=True), gr.Timer(active=True), gr.skip()]
    paths = [artifact.path for artifact in job.artifacts]
    first = paths[0] if job.state is JobState.SUCCEEDED and paths else None
    kind = job.plan.kind
    return [
        status,
        gr.Video(first if kind is Kind.VIDEO else None, visible=kind is Kind.VIDEO),
        gr.Image(first if kind is Kind.IMAGE else None, visible=kind is Kind.IMAGE),
        gr.Textbox(job.caption or "", visible=kind is Kind.CAPTION),
        gr.Button(interactive=False),
        gr.Timer(active=False),
        gallery_of(studio.jobs_of(visitor)),
    ]


def gallery_of(jobs: list[Job]) -> list[tuple[str, str]]:
    """The newest results, each with its prompt."""
    made = [(artifact.path, job.plan.prompt or "") for job in jobs for artifact in job.artifacts]
    return made[:SHOWN]


def advanced(*, experts: bool) -> dict[str, Any]:
    """The controls that few need, by the names of a request."""
    with gr.Accordion("Advanced", open=False):
        controls: dict[str, Any] = {
            "negative_prompt": gr.Textbox(label="Negative prompt", placeholder="as the model's authors use it"),
            "seed": gr.Number(label="Seed", value=42, precision=0, minimum=0, maximum=MOST_SEED),
            "randomise": gr.Checkbox(label="Randomise seed", value=True),
            "guidance_scale": gr.Slider(0, 12, value=0, step=0.1, label="Guidance (0: the model's own)"),
        }
        if experts:
            controls["guidance_scale_2"] = gr.Slider(
                0, 12, value=0, step=0.1, label="Guidance of the second expert (0: the model's own)"
            )
    return controls


def request_of(kind: Kind, values: dict[str, Any]) -> Request:
    """A request of a tab's values; what is left alone is the model's choice.

    Raises:
        gr.Error: something that is needed is missing.
    """
    given = {key: value for key, value in values.items() if value not in (None, "", 0) or key == "seed"}
    if kind is Kind.CAPTION:
        if "image" not in given:
            raise gr.Error("Drop a picture first.", title="No picture")
        return CaptionRequest(**{key: given[key] for key in ("image", "prompt") if key in given})
    if "prompt" not in given:
        raise gr.Error("Write what should be seen.", title="No prompt")
    return VideoRequest(**given) if kind is Kind.VIDEO else ImageRequest(**given)


def video_tab(studio: Studio, *, picture: bool) -> dict[str, Any]:
    """The controls of a tab that makes videos."""
    service = studio.service
    manifest = service.catalog.get(service.settings.video_model, Kind.VIDEO)
    rule = manifest.frames
    assert rule is not None, "a model of videos has a rule of frames"

    def hint(seconds: float) -> str:
        return f"{rule.nearest(seconds * rule.fps)} frames at {rule.fps:g} fps"

    controls: dict[str, Any] = {}
    if picture:
        controls["image"] = gr.Image(
            label="First picture", type="filepath", sources=["upload", "clipboard"], height=220
        )
    controls["prompt"] = gr.Textbox(label="Prompt", lines=2, value=EXAMPLES[Kind.VIDEO][0])
    usual = round(rule.default / rule.fps, 2)
    controls["seconds"] = gr.Slider(
        rule.shortest_s, rule.longest_s, value=usual, step=0.1, label="Duration (seconds)", info=hint(usual)
    )
    controls["seconds"].change(
        lambda seconds: gr.Slider(info=hint(seconds)), controls["seconds"], controls["seconds"], queue=False,
        show_progress="hidden", api_visibility="private",
    )  # fmt: skip
    low, high = manifest.limits.steps
    controls["steps"] = gr.Slider(low, high, value=manifest.defaults.steps, step=1, label="Steps")
    if not picture:
        gr.Examples([[text] for text in EXAMPLES[Kind.VIDEO]], [controls["prompt"]])
    return controls | advanced(experts=manifest.pipeline.boundary_ratio is not None)


def image_tab(studio: Studio) -> dict[str, Any]:
    """The controls of the tab that makes pictures."""
    service = studio.service
    manifest = service.catalog.get(service.settings.image_model, Kind.IMAGE)
    low, high = manifest.limits.steps
    controls: dict[str, Any] = {"prompt": gr.Textbox(label="Prompt", lines=2, value=EXAMPLES[Kind.IMAGE][0])}
    controls["steps"] = gr.Slider(low, high, value=manifest.defaults.steps, step=1, label="Steps")
    gr.Examples([[text] for text in EXAMPLES[Kind.IMAGE]], [controls["prompt"]])
    return controls | advanced(experts=False)


def caption_tab() -> dict[str, Any]:
    """The controls of the tab that describes pictures."""
    return {
        "image": gr.Image(label="Picture", type="filepath", sources=["upload", "clipboard"], height=260),
        "prompt": gr.Textbox(label="Your own instruction", placeholder="only for models that take one"),
    }


def build(studio: Studio) -> gr.Blocks:
    """The page."""
    service = studio.service
    manifest = service.catalog.get(service.settings.video_model, Kind.VIDEO)
    with gr.Blocks(title="wan-mcp", analytics_enabled=False) as page:
        gr.Markdown("# Videos, pictures and captions")
        visitor = gr.BrowserState("", storage_key="wan-mcp-visitor", secret=os.environ.get("SPACE_SECRET") or None)
        current = gr.State("")
        timer = gr.Timer(TICK_S, active=False)
        with gr.Row():
            with gr.Column():
                tabs: list[tuple[str, Kind, dict[str, Any], gr.Button]] = []

                def tab(name: str, kind: Kind, controls: Callable[[], dict[str, Any]]) -> None:
                    with gr.Tab(name):
                        made = controls()
                        tabs.append((name, kind, made, gr.Button("Generate", variant="primary")))

                tab("Text to video", Kind.VIDEO, lambda: video_tab(studio, picture=False))
                if Task.IMAGE_TO_VIDEO in manifest.tasks:
                    tab("Image to video", Kind.VIDEO, lambda: video_tab(studio, picture=True))
                tab("Text to image", Kind.IMAGE, lambda: image_tab(studio))
                tab("Caption", Kind.CAPTION, caption_tab)
            with gr.Column():
                status = gr.HTML(label="Job", padding=True)
                stop = gr.Button("Stop", variant="stop", interactive=False)
                video = gr.Video(label="Video", autoplay=True, loop=True, height=320)
                image = gr.Image(label="Image", interactive=False, height=320, visible=False)
                caption = gr.Textbox(label="Caption", interactive=False, lines=3, visible=False)
        gallery = gr.Gallery(label="Your results", columns=4, height=280, object_fit="contain")
        follow = [status, video, image, caption, stop, timer, gallery]

        def starter(name: str, kind: Kind, names: list[str]) -> Callable[..., list[Any]]:
            def start(who: str, *values: Any) -> list[Any]:
                given = dict(zip(names, values, strict=True))
                seed = given.get("seed")
                if given.pop("randomise", False):
                    seed = given["seed"] = random.randint(0, MOST_SEED)
                if "seconds" in given:
                    rule = manifest.frames
                    assert rule is not None
                    given["num_frames"] = rule.nearest(given.pop("seconds") * rule.fps)
                if name == "Image to video" and not given.get("image"):
                    raise gr.Error("Drop a picture first.", title="No picture")
                who = who or secrets.token_hex(16)
                job_id = studio.submit(request_of(kind, given), who)
                used = [] if "seed" not in names else [seed]
                return [who, job_id, *used, *shown(studio, job_id, who)]

            return start

        quiet: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
        for name, kind, controls, button in tabs:
            used = [controls["seed"]] if "seed" in controls else []
            gr.on(
                [button.click, controls["prompt"].submit], starter(name, kind, list(controls)),
                [visitor, *controls.values()], [visitor, current, *used, *follow],
                queue=False, show_progress="hidden", api_name=name.lower().replace(" ", "_"),
            )  # fmt: skip
        timer.tick(lambda job_id, who: shown(studio, job_id, who), [current, visitor], follow, **quiet)
        stop.click(lambda job_id, who: studio.cancel(job_id, who), [current, visitor], None, **quiet)

        def restore(who: str) -> list[Any]:
            """Find the job that was running, or the last one, and the results of this browser."""
            jobs = studio.jobs_of(who)
            open_jobs = [job for job in jobs if not job.state.final]
            job_id = next((job.id for job in (*open_jobs, *jobs)), "")
            *values, _ = shown(studio, job_id, who)
            return [who or secrets.token_hex(16), job_id, *values, gallery_of(jobs)]

        page.load(restore, [visitor], [visitor, current, *follow], **quiet)
    return page


STYLE = """
progress { width: 100%; height: 10px; } .preview { width: 100%; border-radius: 6px; margin-top: 8px; }
.words { font-weight: 600; } .note { opacity: .8; font-size: .9em; }
"""


def main() -> None:
    """Serve the page until the process is told to stop."""
    taken_in = Path(os.environ.setdefault("GRADIO_TEMP_DIR", str(Path(tempfile.gettempdir(), "gradio"))))
    taken_in.mkdir(parents=True, exist_ok=True)
    settings = Settings().model_copy(update={"image_dirs": (taken_in,)})  # where Gradio puts visitors' pictures
    calls = None
    if spaces is not None and os.environ.get("SPACES_ZERO_GPU"):
        from zerogpu import calls_of

        settings, calls = calls_of(settings, spaces.GPU)
    with start_blocking_portal() as portal:
        running: AbstractContextManager[JobService] = portal.wrap_async_context_manager(
            serving(settings, processes=calls)
        )
        with running as service:
            build(Studio(service, portal, calls)).launch(
                allowed_paths=[str(settings.home / "media" / kind) for kind in ("videos", "images")],
                css=STYLE,
                show_error=True,
            )


if __name__ == "__main__":
    main()
