"""What a request has to pass before it becomes a job: its model, its input images, its plan, and room on the disk."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType

import anyio
from anyio.to_thread import run_sync

from wan_mcp.catalog.catalog import Catalog
from wan_mcp.errors import BadRequest, OutOfSpace, about
from wan_mcp.files import require_writable
from wan_mcp.hardware.machine import Machine
from wan_mcp.media.content_credentials import ContentCredentials
from wan_mcp.media.image_urls import ImageUrls, is_url
from wan_mcp.media.ingest import InputImages
from wan_mcp.media.input_videos import InputVideos, name_of_video
from wan_mcp.media.kept_uris import KeptUris
from wan_mcp.media.sources import scheme_of
from wan_mcp.media.store import MediaName, MediaStore
from wan_mcp.media.video_frames import FIRST, LAST
from wan_mcp.planning.planner import Choice, Planner
from wan_mcp.schema.plans import CaptionPlan, EngineSettings, InputImage, InputVideo, Plan
from wan_mcp.schema.requests import CaptionRequest, Request, VideoRequest
from wan_mcp.service.input_quota import InputQuota
from wan_mcp.service.needed_download import may_agree, needed_download, require_consent
from wan_mcp.settings import Settings
from wan_mcp.text import in_bytes

__all__ = ["NO_IMAGES", "Admission", "frame_of", "named"]


@dataclass(frozen=True)
class _Reader:
    """What reads an image by how a request names it, or its bytes: with and without writing it into the home."""

    named: Callable[[str, list[str], str | None, str], InputImage]
    data: Callable[[bytes, list[str], str | None, str], InputImage]


NO_IMAGES: Mapping[str, InputImage] = MappingProxyType({})


@dataclass(frozen=True)
class _Asked:
    """An input image as a request names it."""

    what: str
    source: str | None
    frame: str | None
    default: str
    """The frame of a video, if the request names none."""


def _image(request: Request) -> _Asked:
    """Ask for the image; of another video, its last frame for a video that continues it, else its first."""
    if isinstance(request, VideoRequest):
        if request.extend is not None:
            with about("extend"):
                return _Asked("extend", name_of_video(request.extend).uri, None, LAST)
        return _Asked("image", request.image, request.frame, LAST)
    return _Asked("image", request.image, request.frame, FIRST)


def _last_image(request: VideoRequest) -> _Asked:
    """Ask for the last image; of another video, its first frame: a video ends where that one begins."""
    return _Asked("last_image", request.last_image, request.last_image_frame, FIRST)


def frame_of(image: str) -> str:
    """Return the parameter that names the frame of an image which is a video."""
    return "frame" if image == "image" else f"{image}_frame"


def named(source: str, frame: str | None) -> str:
    """Return by what an image is known that was ingested already: what a request says for it, and of which frame."""
    return source if frame is None else f"{source} frame {frame}"


def _with_frames(plan: Plan, later: tuple[InputImage, ...]) -> Plan:
    return plan.model_copy(update={"more_frames": later}) if later else plan


class Admission:
    """Turns requests into plans. Nothing is queued here."""

    def __init__(
        self,
        settings: Settings,
        catalog: Catalog,
        media: MediaStore,
        require_own: Callable[[MediaName], Awaitable[None]] | None = None,
        *,
        any_image_folder: bool,
    ) -> None:
        """Admit results as inputs that `require_own` lets pass: it refuses with `BadRequest` what is not the caller's.

        Without it, there are no owners. `any_image_folder` lets images come from any folder of this machine.
        """
        self._settings, self._catalog, self._media, self._require_own = settings, catalog, media, require_own
        self.uris = KeptUris(settings.home)
        self.large_work = anyio.CapacityLimiter(1)
        """What takes much memory goes one by one: to read a message that carries an image, and to decode one. It must
        not fill the pool of threads that answers everything else meanwhile either."""
        self.planner = Planner(settings, catalog, any_folder=any_image_folder)
        self._credentials = ContentCredentials.of(settings)
        self._videos = InputVideos(media, settings.image_max_megapixels)
        self._inputs = InputImages(
            media,
            settings.image_dirs,
            settings.image_max_mb,
            settings.image_max_megapixels,
            any_folder=any_image_folder,
            uris=self.uris,
        )
        self.urls = ImageUrls(settings.image_hosts, settings.image_max_mb)
        quota = InputQuota(settings.home)
        self._take = _Reader(quota.counted(self._inputs.take), quota.counted(self._inputs.take_data))
        self._look = _Reader(self._inputs.look, self._inputs.look_at_data)

    def open_folders(self, folders: Iterable[Path]) -> None:
        """Let images be read from further folders, which the one client of this front has open."""
        self._inputs.open_folders(folders)

    async def settle(
        self, request: Request, machine: Machine | None, images: Mapping[str, InputImage] = NO_IMAGES
    ) -> Plan:
        """Return the plan of a request on `machine` (None if it is not known yet); input images are ingested.

        `images` are those that are here already, by how the request names each: see `named`.

        Raises:
            UserError: the request is refused; the message says what is wrong and what to do.
        """
        choice = await self._choose(request)
        notes: list[str] = []
        image, last = await self._images(request, images, self._take, notes)
        extends = await self._video(request, self._videos.take)
        later = await self._later_frames(request, choice, image, self._take, notes)

        def resolve() -> Plan:
            plan = self.planner.resolve(request, image, last, machine, choice=choice, notes=notes, extends=extends)
            return self._to_be_signed(_with_frames(plan, later))

        return await run_sync(resolve)

    async def look(self, request: Request, images: Mapping[str, InputImage] = NO_IMAGES) -> Plan:
        """Return the plan that `settle` would, also of a request that is too large for this machine; keep no image.

        Raises:
            UserError: the request is refused; the message says what is wrong and what to do.
        """
        choice = await self._choose(request)
        notes: list[str] = []
        image, last = await self._images(request, images, self._look, notes)
        extends = await self._video(request, self._videos.look)
        later = await self._later_frames(request, choice, image, self._look, notes)

        def plan() -> Plan:
            made = self.planner.plan(request, image, last, choice=choice, extends=extends)
            made = made.model_copy(update={"notes": (*notes, *made.notes)})
            return self._to_be_signed(_with_frames(made, later))

        return await run_sync(plan)

    def _to_be_signed(self, plan: Plan) -> Plan:
        """Return a plan that says by which certificate its results are to be signed, if the owner has set one.

        Raises:
            UserError: nothing can be signed with it; the message says why.
        """
        if self._credentials is None or isinstance(plan, CaptionPlan):
            return plan
        engine = plan.engine or EngineSettings()
        asked = engine.model_copy(update={"credentials": self._credentials.require_usable()})
        return plan.model_copy(update={"engine": asked})

    async def _choose(self, request: Request) -> Choice:
        """Choose the model: an unknown one is refused before any image is read."""

        def choose() -> Choice:
            self._catalog.refresh()
            return self.planner.choose(request)

        return await run_sync(choose)

    def download_limit(self, plan: Plan, agreed: bool) -> int | None:
        """Return how many bytes a job of a plan may download; None for any number. `agreed` if its caller consents.

        Raises:
            ConsentNeeded: its download may not start unasked.
            DownloadNotAllowed: nor may the caller agree to it.
        """
        manifest = self._catalog.get(plan.model)
        if (agreed and may_agree(self._settings)) or manifest.weights.embedded is not None:
            return None
        require_consent(needed_download(manifest, self._settings))
        return self._settings.max_download_bytes

    async def ingest(self, data: bytes, notes: list[str], frame: str | None = None) -> InputImage:
        """Ingest the bytes of an image file, or a frame of a video; what was left out or converted is in `notes`.

        Raises:
            BadImage: It is too large, or not an image; the message says which.
        """
        return await run_sync(self._take.data, data, notes, frame, FIRST, limiter=self.large_work)

    async def ingest_named(self, address: str, notes: list[str], frame: str | None = None) -> InputImage:
        """Ingest what the wan:// address of a result or a URL names; as `ingest` otherwise.

        Raises:
            BadImage, BadRequest: There is no such result or image, or no such frame.
        """
        if self.urls.allowed and is_url(address):
            return await self.ingest(await self.urls.fetch(address), notes, frame)
        await self._require_own_result(address)
        return await run_sync(self._take.named, address, notes, frame, FIRST, limiter=self.large_work)

    async def ingested(self, sha256: str) -> InputImage:
        """Return an image that was ingested before, by its hash.

        Raises:
            BadImage: There is none.
        """
        return await run_sync(self._inputs.taken, sha256)

    async def _video(self, request: Request, read: Callable[[str], InputVideo]) -> InputVideo | None:
        """Return the video that a request extends, as `read` returns it."""
        if not isinstance(request, VideoRequest) or request.extend is None:
            return None
        with about("extend"):
            if self._require_own is not None:
                await self._require_own(name_of_video(request.extend))
            return await run_sync(read, request.extend, limiter=self.large_work)

    async def _images(
        self, request: Request, known: Mapping[str, InputImage], reader: _Reader, notes: list[str]
    ) -> tuple[InputImage | None, InputImage | None]:
        """Return the first and the last image of a request: those that are known, or what `reader` returns for them."""

        async def image_of(asked: _Asked) -> InputImage | None:
            return known.get(named(asked.source or "", asked.frame)) or await self._read(asked, reader, notes)

        image = await image_of(_image(request))
        return image, await image_of(_last_image(request)) if isinstance(request, VideoRequest) else None

    async def _later_frames(
        self, request: Request, choice: Choice, image: InputImage | None, reader: _Reader, notes: list[str]
    ) -> tuple[InputImage, ...]:
        """Return the frames after the first of a video that a captioner looks at as a whole; `notes` then say so."""
        spec = choice.manifest.caption
        if not isinstance(request, CaptionRequest) or request.frame is not None or spec is None:
            return ()
        if spec.video_frames == 1 or image is None or image.frame is None or is_url(request.image):
            return ()  # also of a URL: each fetch could bring another video, and the first one has gone
        with about("image"):

            async def frame(which: str) -> InputImage:
                return await run_sync(reader.named, request.image, [], which, FIRST, limiter=self.large_work)

            last = await frame(LAST)
            count = min(spec.video_frames, (last.frame or 0) + 1)
            between = [round(at * (last.frame or 0) / (count - 1)) for at in range(1, count - 1)]
            later = [await frame(str(number)) for number in between] + [last] * (count > 1)
        if later:
            notes[:] = [note for note in notes if not note.startswith("image: frame 0 ")]
            notes.append(f"image: {count} frames of the video are looked at, from 0 to {last.frame}")
        return tuple(later)

    async def _read(self, asked: _Asked, reader: _Reader, notes: list[str]) -> InputImage | None:
        if not asked.source:
            if asked.frame is not None:
                with about(parameter := frame_of(asked.what)):
                    raise BadRequest(f"{parameter} needs {asked.what}, a video; it says which frame is used")
            return None
        of_image: list[str] = []
        with about(asked.what):
            await self._require_own_result(asked.source)
            read: Callable[[], InputImage] = partial(reader.named, asked.source, of_image, asked.frame, asked.default)
            if self.urls.allowed and is_url(asked.source):
                # Fetched before the job is queued: a job never depends on the network, nor on what is there later.
                fetched = await self.urls.fetch(asked.source)
                read = partial(reader.data, fetched, of_image, asked.frame, asked.default)
            image = await run_sync(read, limiter=self.large_work)
        notes += [f"{asked.what}: {note}" for note in of_image]
        return image

    async def _require_own_result(self, source: str) -> None:
        """Refuse the result of another owner as an image; all else is judged where it is read."""
        if self._require_own is None or scheme_of(source) != "wan":
            return
        try:
            name = MediaName.parse("wan" + source.strip()[len("wan") :])
        except BadRequest:
            return
        await self._require_own(name)

    def check_home(self) -> None:
        """Refuse a job that nothing could be written for.

        Raises:
            HomeUnusable: a folder may not be written; the message names it.
            OutOfSpace: the disk is nearly full.
        """
        settings = self._settings
        self._media.require_writable()
        require_writable(settings.log_file, settings.home / "engines")
        free = self._media.free_bytes()
        if free < settings.min_free_bytes:
            raise OutOfSpace(
                f"only {in_bytes(free)} are free on the disk of {settings.home}; "
                f"{in_bytes(settings.min_free_bytes)} must stay free. Free some space and try again"
            )
