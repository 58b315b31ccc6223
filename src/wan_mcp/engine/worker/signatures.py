"""Content credentials of results: this engine signs with the certificate of the job's caller, if it has the same one.

The engine signs a result before it saves it anywhere or adds it to the job. No trouble with signing loses a result: it
stays as it was written, and the job gets a note.
"""

import logging
from pathlib import Path

from wan_mcp.errors import UserError
from wan_mcp.jobs.cluster_devices import is_cluster_device
from wan_mcp.media.content_credentials import ContentCredentials
from wan_mcp.media.store import whole
from wan_mcp.schema.jobs import Artifact, Job
from wan_mcp.settings import Settings
from wan_mcp.text import first_line

__all__ = ["Signatures"]

log = logging.getLogger(__name__)


class Signatures:
    """The content credentials of one job's results."""

    def __init__(self, settings: Settings, job: Job) -> None:
        self._settings = settings
        self._model = job.plan.model
        self._asked = job.plan.engine.credentials if job.plan.engine is not None else None
        self._noted = False
        self._signer, self._way_out = "the engine that ran this job", "end it with 'wan-mcp engine stop'"
        if is_cluster_device(job.device or ""):
            self._signer, self._way_out = "the command 'wan-mcp cluster'", "restart it with the same certificate"

    def sign(self, artifact: Artifact) -> tuple[Artifact, str | None]:
        """Sign a finished result in place, if the job asks for it.

        Returns the artifact with its new size, and a note for the caller if it could not be signed: one for each job.
        """
        if self._asked is None:
            return artifact, None
        try:
            return self._signed(artifact), None
        except Exception as error:  # also a defect of the library: the result is whole without a signature
            reason = str(error) if isinstance(error, UserError) else first_line(error)
            log.warning("a result was not signed: %s", reason)
            noted, self._noted = self._noted, True
            return artifact, None if noted else f"not signed with content credentials: {reason}"

    def _signed(self, artifact: Artifact) -> Artifact:
        credentials = ContentCredentials.of(self._settings)
        if credentials is None or credentials.fingerprint() != self._asked:
            what = "no certificate" if credentials is None else "another certificate"
            raise UserError(f"{self._signer} has {what}; {self._way_out}, and ask again")
        file = Path(artifact.path)
        data = credentials.signed(file, artifact.mime_type, self._model)
        with whole(file) as part:
            part.write_bytes(data)
        return artifact.model_copy(update={"bytes": len(data)})
