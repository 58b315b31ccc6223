"""The families of models: ours, and those that installed packages add.

A family is code that loads and runs all models of one architecture; a manifest names one. A record here says
what a family can do, without its code: servers, which never import torch, check manifests against
it, and an engine imports the code when a job first needs it (see `engine.families.registry`).

A package adds a family by an entry point of the group `wan_mcp.families`. One that cannot be used costs
only its own family.
"""

import logging
import sys
import threading
from collections.abc import Iterable, Iterator
from importlib.metadata import EntryPoint, entry_points

from pydantic import Field, ValidationError

from wan_mcp.schema.enums import Frozen, Kind, Task
from wan_mcp.schema.refusals import phrase
from wan_mcp.text import first_line

__all__ = ["FAMILIES", "GROUP", "Capabilities", "FamilyRegistry", "FamilySpec"]

log = logging.getLogger(__name__)

GROUP = "wan_mcp.families"
"""The group of entry points; each has its family's name, and leads to a `FamilySpec`."""
HEAVY = ("torch", "diffusers", "transformers")
"""What importing a record must not import."""

_REFERENCE = r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$"


class Capabilities(Frozen):
    """What a family's models may be asked for besides their tasks; the rest is refused before it becomes a job."""

    scheduler: bool = Field(default=False, description="Runs the scheduler of pipeline.scheduler.")
    experts: bool = Field(
        default=False, description="Runs several denoisers by noise level: pipeline.experts and boundary_ratio."
    )
    loras: bool = Field(default=False, description="Puts the LoRAs of a request on its denoisers.")
    turbo: bool = Field(default=False, description="Supports sparse attention, which skips blocks.")
    step_cache: bool = Field(default=False, description="Can leave out passes of a denoiser.")
    shots: bool = Field(default=False, description="Makes videos of several shots: the `shots` of a plan.")
    shared: bool = Field(default=False, description="Several GPUs can work on one of its jobs: see `SharedRunner`.")
    preview: bool = Field(default=False, description="Shows what it denoises, by the map of pipeline.latent_rgb.")
    offload: bool = Field(
        default=False,
        description="Can leave its weights in main memory and bring them to a GPU while they work, so that a GPU "
        "needs room for a small part of them only.",
    )
    mapped: bool = Field(
        default=False,
        description="Can compute on a CPU with weights that stay in their files, so that main memory needs room for a "
        "small part of them only.",
    )


class FamilySpec(Frozen):
    """One family: its name, what it can do, and where its code is."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.\-]{0,63}$")
    tasks: frozenset[Task] = Field(
        min_length=1, description="What its code can do; a manifest lists those of them that its weights serve."
    )
    loader: str = Field(
        pattern=_REFERENCE,
        description="'package.module:function' that accepts an engine's `LoadContext` and returns a `FamilyRunner`.",
    )
    capabilities: Capabilities = Capabilities()
    aot_targets: str | None = Field(
        default=None,
        pattern=_REFERENCE,
        description="'package.module:function' that names the compiled packages that a model's blocks run in; none "
        "where its blocks are not compiled ahead of time.",
    )
    package: str = Field(default="", description="The package that it comes from, with its version; empty for ours.")

    def makes(self, kind: Kind) -> bool:
        """Check whether it does any task of that kind."""
        return any(task.kind is kind for task in self.tasks)


class FamilyRegistry:
    """Families by name. Packages are looked for when a name is asked for that is not ours; one process loads each
    record once."""

    def __init__(self, own: Iterable[FamilySpec], group: str = GROUP) -> None:
        self._own = {family.name: family for family in own}
        self._group = group
        self._installed: dict[str, FamilySpec] = {}
        self._broken: dict[str, str] = {}
        self._scanning = threading.RLock()  # an engine's downloads read manifests in a thread

    def get(self, name: str) -> FamilySpec:
        """Return the family of that name.

        Raises:
            ValueError: there is none, or its package cannot be used; says why, or names those that there are.
        """
        if name in self._own:
            return self._own[name]
        if name not in self._installed:
            self._scan()
        if name in self._installed:
            return self._installed[name]
        if name in self._broken:
            raise ValueError(self._broken[name])
        raise ValueError(f"no family '{name}'; there are: {', '.join(family.name for family in self)}")

    def __iter__(self) -> Iterator[FamilySpec]:
        """Return our families, then those of packages by name."""
        self._scan()
        yield from self._own.values()
        yield from (self._installed[name] for name in sorted(self._installed))

    @property
    def broken(self) -> dict[str, str]:
        """Why an entry point cannot be used, in a sentence, by the name of its family."""
        self._scan()
        return dict(self._broken)

    def _scan(self) -> None:
        """Load the records of packages that are new since the last time."""
        with self._scanning:
            found: dict[str, list[EntryPoint]] = {}
            for point in entry_points(group=self._group):
                found.setdefault(point.name, []).append(point)
            for name in found.keys() - self._installed.keys() - self._broken.keys():
                try:
                    self._installed[name] = self._load(name, found[name])
                except (Exception, SystemExit) as error:  # foreign code: whatever it raises costs its own family only
                    packages = " and ".join(sorted(map(_package, found[name])))
                    self._broken[name] = f"the family '{name}' of {packages} cannot be used: {_reason(error)}"
                    log.warning("%s", self._broken[name])

    def _load(self, name: str, points: list[EntryPoint]) -> FamilySpec:
        if name in self._own:
            raise ValueError("wan-mcp has a family of this name; it must have another")
        if len(points) > 1:
            raise ValueError("only one package may add a family of this name; uninstall the others")
        before = set(sys.modules)
        family = points[0].load()
        if heavy := [module for module in HEAVY if module in sys.modules and module not in before]:
            raise ValueError(f"its record imports {heavy[0]}, which servers never do; name the loader as text instead")
        if not isinstance(family, FamilySpec):
            raise TypeError(f"{points[0].value} is a {type(family).__name__}, not a FamilySpec")
        if family.name != name:
            raise ValueError(f"its record has another name: '{family.name}'")
        return family.model_copy(update={"package": _package(points[0])})


def _package(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else point.value


def _reason(error: BaseException) -> str:
    if isinstance(error, ValidationError):
        return "; ".join(f"{'.'.join(map(str, problem['loc']))}: {phrase(dict(problem))}" for problem in error.errors())
    return str(error) if type(error) is ValueError else first_line(error)


_IMAGE_LOADER = "wan_mcp.engine.families.image.pipeline:load_image_family"
_CAPTION_LOADER = "wan_mcp.engine.families.caption.captioner:load_captioner"


def _image_family(name: str, *tasks: Task) -> FamilySpec:
    return FamilySpec(
        name=name,
        tasks=frozenset(tasks),
        loader=_IMAGE_LOADER,
        capabilities=Capabilities(offload=True, mapped=True, preview=True),
    )


def _caption_family(name: str) -> FamilySpec:
    return FamilySpec(name=name, tasks=frozenset({Task.IMAGE_TO_TEXT}), loader=_CAPTION_LOADER)


FAMILIES = FamilyRegistry(
    [
        FamilySpec(
            name="wan",
            tasks=frozenset(
                {
                    Task.TEXT_TO_VIDEO,
                    Task.IMAGE_TO_VIDEO,
                    Task.FIRST_LAST_FRAME_TO_VIDEO,
                    Task.TEXT_TO_IMAGE,
                    Task.IMAGE_TO_IMAGE,
                }
            ),
            loader="wan_mcp.engine.families.wan.entry:load_wan_family",
            capabilities=Capabilities(
                scheduler=True,
                experts=True,
                loras=True,
                turbo=True,
                step_cache=True,
                shots=True,
                shared=True,
                offload=True,
                mapped=True,
                preview=True,
            ),
            aot_targets="wan_mcp.engine.families.wan.aot_targets:aot_targets",
        ),
        _image_family("z-image", Task.TEXT_TO_IMAGE, Task.IMAGE_TO_IMAGE),
        _image_family("flux2-klein", Task.TEXT_TO_IMAGE, Task.IMAGE_TO_IMAGE),
        _image_family("qwen-image", Task.TEXT_TO_IMAGE, Task.IMAGE_TO_IMAGE),
        _image_family("qwen-image-edit", Task.IMAGE_TO_IMAGE),
        _caption_family("blip"),
        _caption_family("florence"),
        _caption_family("chat"),
    ]
)
"""The families of this process."""
