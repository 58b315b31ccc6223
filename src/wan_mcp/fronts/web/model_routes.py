"""The endpoints of models: the catalogue, downloads with their progress, and removal."""

import hashlib
import logging
from collections.abc import Callable
from dataclasses import asdict

from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import Response
from starlette.staticfiles import NotModifiedResponse, StaticFiles

from wan_mcp.catalog.manifest import Manifest
from wan_mcp.errors import BadRequest, HomeUnusable
from wan_mcp.fronts.web.answers import Answers, Refusal, require_home_user
from wan_mcp.fronts.web.catalogue import CatalogueSource
from wan_mcp.fronts.web.shapes import DiskCard, DownloadCard, ModelsAnswer, Removed
from wan_mcp.schema.enums import JobState
from wan_mcp.service.model_downloads import ModelDownload, ModelDownloads
from wan_mcp.service.service import JobService
from wan_mcp.weights.hub import Hub
from wan_mcp.weights.hub_cache import free_bytes
from wan_mcp.weights.removal import bytes_of, remove_weights

__all__ = ["ModelRoutes", "download_card"]

log = logging.getLogger(__name__)
CONDITIONS = StaticFiles()  # for its check of If-None-Match


def download_card(download: ModelDownload) -> DownloadCard:
    """Return a download as the page shows it."""
    return DownloadCard(**asdict(download))


class ModelRoutes:
    """The endpoints of models."""

    def __init__(self, service: JobService, answers: Answers, on_download: Callable[[ModelDownload], None]) -> None:
        self._service, self._answers = service, answers
        self._catalogue = CatalogueSource(service)
        self.downloads = ModelDownloads(service.settings, on_download)

    async def catalogue(self, request: Request) -> Response:
        """Return everything that can be chosen; 304 if the page has it."""
        response = self._answers.json(request, await self._catalogue.get())
        response.headers["ETag"] = f'"{hashlib.sha256(response.body).hexdigest()[:32]}"'
        response.headers["Cache-Control"] = "private, no-cache"
        if CONDITIONS.is_not_modified(response.headers, request.headers):
            return NotModifiedResponse(response.headers)
        return response

    async def disk(self, request: Request) -> Response:
        """Return the downloads, and what models take on the disk."""
        manifests = list(self._service.catalog.manifests.values())
        return self._answers.json(request, await run_sync(self._disk, manifests))

    def _disk(self, manifests: list[Manifest]) -> ModelsAnswer:
        home = self._service.settings.home
        used = {each.name: size for each in manifests if (size := bytes_of(each, home))}
        disk = DiskCard(free_bytes=free_bytes(Hub.from_environment().cache), home_free_bytes=free_bytes(home))
        return ModelsAnswer(
            downloads=[download_card(each) for each in self.downloads.all()], used_bytes=used, disk=disk
        )

    async def get(self, request: Request) -> Response:
        """Begin to download a model."""
        manifest = self._manifest(request)
        if manifest.weights.repository is None:
            raise BadRequest(f"'{manifest.name}' comes with wan-mcp: there is nothing to download")
        begun = await run_sync(self.downloads.start, manifest)
        return self._answers.json(request, download_card(begun), 202)

    async def stop(self, request: Request) -> Response:
        """Stop a download; what has come stays."""
        require_home_user(request)
        stopped = await run_sync(self.downloads.stop, self._manifest(request).name)
        return self._answers.json(request, download_card(stopped), 202)

    async def remove(self, request: Request) -> Response:
        """Remove a model's weights from this machine."""
        require_home_user(request)
        manifest = self._manifest(request)
        if manifest.weights.repository is None:
            raise BadRequest(f"'{manifest.name}' comes with wan-mcp and cannot be removed")
        if self.downloads.under_way(manifest.name):
            raise Refusal(409, "downloading", f"'{manifest.name}' is being downloaded; stop the download first.")
        active = await self._service.find(model=manifest.name, states=(JobState.QUEUED, JobState.RUNNING), limit=1)
        if active.jobs:
            raise Refusal(
                409, "in_use", f"Job {active.jobs[0].id} needs '{manifest.name}'; wait for it, or cancel it first."
            )
        return self._answers.json(request, Removed(freed_bytes=await run_sync(self._remove, manifest)))

    def _remove(self, manifest: Manifest) -> int:
        others = self._service.catalog.manifests.values()
        try:
            return remove_weights(manifest, self._service.settings.home, others)
        except OSError as error:
            raise HomeUnusable(f"the weights of '{manifest.name}' cannot be removed: {error.strerror}") from error

    def _manifest(self, request: Request) -> Manifest:
        return self._service.catalog.get(request.path_params["model"])
