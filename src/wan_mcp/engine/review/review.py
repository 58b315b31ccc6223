"""Compare each result of a job with its prompt, and keep the best where that was asked for.

The captioner is given as a `Looker`; which one, and where it runs, is the runner's choice.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wan_mcp.catalog.captions import CaptionSpec, CheckSpec
from wan_mcp.catalog.manifest import Manifest
from wan_mcp.engine.families.protocol import Looker
from wan_mcp.engine.review.moving_shapes import moving_shapes
from wan_mcp.engine.review.words import Thing, compare, things_in
from wan_mcp.engine.worker.reporter import Reporter
from wan_mcp.media.input_videos import frames_of
from wan_mcp.media.store import MediaName, MediaStore
from wan_mcp.schema.enums import Kind
from wan_mcp.schema.jobs import Artifact, Check
from wan_mcp.schema.plans import ImagePlan, InputVideo, VideoPlan
from wan_mcp.text import one_line, shortened

__all__ = ["made_results", "review"]

log = logging.getLogger(__name__)

FRAMES_MEASURED = 17  # of a video whose motions are measured
ANSWER_SHOWN = 200  # characters of what a captioner says is missing
NOTHING = ("nothing", "none", "no ")
Frames = NDArray[np.uint8]


def made_results(artifacts: Sequence[Artifact], count: int) -> bool:
    """Check whether all results of an earlier attempt are there: all that were made, or the one that was picked."""
    there = [Path(artifact.path).is_file() for artifact in artifacts]
    return bool(there) and all(there) and (len(there) == count or all(each.check for each in artifacts))


def review(
    plan: VideoPlan | ImagePlan, artifacts: Sequence[Artifact], manifest: Manifest, looker: Looker, report: Reporter,
    home: Path,
) -> None:  # fmt: skip
    """Check the results that have no check yet, one by one, then pick; each finding is in the row at once.

    Args:
        plan: of the job.
        artifacts: its results.
        manifest: of the captioner.
        looker: the captioner.
        report: of this attempt.
        home: the home folder.

    Raises:
        OSError, JobFailed: a file cannot be read.
        JobCancelled, LeaseLost, EngineShutdown: from `report`.
    """
    spec = manifest.caption or CaptionSpec()
    checked = list(artifacts)
    for at, artifact in enumerate(checked):
        if artifact.check is not None:
            continue
        report.tell(f"comparing result {at + 1} of {len(checked)} with its prompt", slow=True)
        check = _check(plan, artifact, manifest.name, spec, looker, report, home)
        checked[at] = artifact.model_copy(update={"check": check})
        if plan.pick is None:
            report.note(_in_words(check, at + 1 if len(checked) > 1 else None))
            report.replace(checked)
    if plan.pick is not None:
        _pick(checked, report, home)


def _check(
    plan: VideoPlan | ImagePlan, artifact: Artifact, name: str, spec: CaptionSpec, looker: Looker, report: Reporter,
    home: Path,
) -> Check:  # fmt: skip
    rule = spec.check or CheckSpec(nouns={})
    frames = _frames(artifact, home, spec.video_frames if rule.ask is not None else FRAMES_MEASURED)
    # As they were asked for: a style is not something that a result shows.
    prompts = [plan.prompt_asked]
    if isinstance(plan, VideoPlan):
        prompts += [shot.prompt_asked for shot in plan.shots]
    if rule.ask is not None and rule.score is not None:
        return _by_question(" Then: ".join(prompts), plan.kind, frames, name, rule, looker, report)
    asked = [thing for prompt in prompts for thing in things_in(prompt, rule)]
    says, seen = _described(frames, rule, looker, report)
    found = compare(asked, seen, moves=plan.kind is Kind.VIDEO)
    return Check(captioner=name, says=says, missing=found.missing, score=found.score)


def _in_words(check: Check, number: int | None) -> str:
    """Return a finding in one line; `number` is that of one of several results."""
    which = "" if number is None else f" of result {number}"
    if check.score is None:
        return f"check{which} by '{check.captioner}': it knows none of the prompt's words"
    found = f"missing: {'; '.join(check.missing)}" if check.missing else "all that the prompt names is there"
    return f"check{which} by '{check.captioner}': {found} (score {check.score:.2f})"


def _by_question(
    prompt: str, kind: Kind, frames: Frames, name: str, rule: CheckSpec, looker: Looker, report: Reporter
) -> Check:
    pictures = [Image.fromarray(frame) for frame in frames]
    words = {"{prompt}": prompt, "{kind}": kind.value}
    answer = looker.describe(pictures, _filled(rule.ask or "", words), report)
    score = looker.agreement(pictures, _filled(rule.score or "", words), report)
    line = shortened(one_line(answer.strip().partition("\n")[0]).strip().rstrip("."), ANSWER_SHOWN)
    nothing = not line or line.lower().startswith(NOTHING)
    return Check(captioner=name, says=line, missing=() if nothing else (line,), score=round(score, 3))


def _filled(text: str, words: dict[str, str]) -> str:
    # The prompt last: what it says about {kind} stays its own.
    return text.replace("{kind}", words["{kind}"]).replace("{prompt}", words["{prompt}"])


def _described(frames: Frames, rule: CheckSpec, looker: Looker, report: Reporter) -> tuple[str, list[Thing]]:
    """Return the caption of the first frame, and what is seen: by it, and of a video by what moves there."""
    caption = looker.describe([Image.fromarray(frames[0])], None, report)
    seen = things_in(caption, rule)
    if len(frames) == 1:
        return caption, seen
    moving: list[Thing] = []
    said = []
    for shape in moving_shapes(frames):
        alone = things_in(looker.describe([Image.fromarray(shape.alone)], None, report), rule)
        thing = next((each for each in alone if each.noun and each.noun != "background"), None)
        if thing is not None:
            moving.append(Thing(thing.noun, thing.adjectives, frozenset({shape.motion})))
            said.append(f"{thing.noun}: {shape.motion}")
    if not moving:
        return caption, seen
    grounds = [each for each in seen if each.noun == "background"]
    return f"{caption} ({', '.join(said)})", [*moving, *grounds]


def _frames(artifact: Artifact, home: Path, most: int) -> Frames:
    """Return frames of a result, the first and the last among them, evenly between."""
    path = Path(artifact.path)
    if artifact.frames is None or artifact.fps is None:
        with Image.open(path) as opened:
            return np.asarray(opened.convert("RGB"))[None]
    video = InputVideo(
        sha256="", file=str(path.relative_to(home)), width=artifact.width, height=artifact.height,
        frames=artifact.frames, fps=artifact.fps, source=artifact.uri,
    )  # fmt: skip
    wanted = set(np.linspace(0, artifact.frames - 1, min(most, artifact.frames)).round().astype(int).tolist())
    kept, begin = [], 0
    for part in frames_of(home, video):
        kept += [part[at - begin].copy() for at in range(begin, begin + len(part)) if at in wanted]
        begin += len(part)
    return np.stack(kept)


def _pick(checked: Sequence[Artifact], report: Reporter, home: Path) -> None:
    """Keep the result with the highest score, the first of equals, and remove the files of the others."""
    scores = [each.check.score if each.check else None for each in checked]
    if len(checked) < 2:
        report.replace(checked)
        return
    if any(score is None for score in scores):
        report.note("none was picked, because nothing of the prompt could be compared; all results are kept")
        report.replace(checked)
        return
    best = max(range(len(checked)), key=lambda at: scores[at] or 0.0)
    others = [f"seed {each.seed} ({score:.2f})" for at, (each, score) in enumerate(zip(checked, scores, strict=True))
              if at != best]  # fmt: skip
    report.note(
        f"picked result {best + 1} of {len(checked)}, seed {checked[best].seed} ({scores[best]:.2f}); the files of the "
        f"others are removed, and the same seed makes each of them again: {', '.join(others)}"
    )
    if (check := checked[best].check) is not None:
        report.note(_in_words(check, None))
    report.replace([checked[best]])
    media = MediaStore(home)
    for at, each in enumerate(checked):
        if at != best:
            name = MediaName.parse(each.uri)
            for file in (media.sheet(name), media.poster(name), media.path(name)):
                file.unlink(missing_ok=True)
