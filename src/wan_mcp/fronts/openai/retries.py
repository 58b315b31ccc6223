"""Retries of the same call: an answer that got lost never makes a second job.

A client that sends `Idempotency-Key` is safe for as long as the job table has the job. The official client sends none
by itself, but numbers its attempts (`x-stainless-retry-count`): a repeated attempt belongs to the newest first attempt
of the same caller with the same request, as long as nobody has read that job's answer.
"""

import hashlib
import time
import uuid
from collections import OrderedDict
from dataclasses import dataclass

from starlette.requests import Request as HttpRequest

from wan_mcp.fronts.openai.refusals import ApiError
from wan_mcp.schema.requests import Request

__all__ = ["Retries"]

KEY_HEADER = "Idempotency-Key"
COUNT_HEADER = "x-stainless-retry-count"
MAX_KEY_LENGTH = 255  # characters, as other APIs of this kind
REMEMBERED_S = 3600.0  # longer than the official client goes on: three attempts of ten minutes
SENT_S = 60.0  # an answer that was sent may still be lost, and the official client tries again within 8 s
REMEMBERED = 1000  # calls


@dataclass
class _Call:
    request_id: str
    until: float
    job_id: str | None = None


class Retries:
    """The calls of the last hour whose answers may have got lost."""

    def __init__(self) -> None:
        self._calls: OrderedDict[str, _Call] = OrderedDict()

    def request_id(self, http: HttpRequest, request: Request) -> str:
        """Return the request id for the job table: the same for every attempt of one call.

        Raises:
            ApiError: The Idempotency-Key cannot be one.
        """
        key = http.headers.get(KEY_HEADER)
        if key is not None:
            if not 0 < len(key) <= MAX_KEY_LENGTH or not key.isprintable():
                raise ApiError(
                    400,
                    f"{KEY_HEADER} must have 1 to {MAX_KEY_LENGTH} printable characters.",
                    code="invalid_value",
                    param=KEY_HEADER,
                )
            return f"v1:{key}"
        call = self._fingerprint(http, request)
        self._forget_old()
        known = self._calls.get(call)
        if known is not None and http.headers.get(COUNT_HEADER, "0") != "0":
            return known.request_id
        self._calls[call] = made = _Call(f"v1-call:{uuid.uuid4()}", time.monotonic() + REMEMBERED_S)
        self._calls.move_to_end(call)
        return made.request_id

    def note_job(self, request_id: str, job_id: str) -> None:
        """Note which job a call has made."""
        for call in self._calls.values():
            if call.request_id == request_id:
                call.job_id = job_id

    def note_sent(self, job_id: str) -> None:
        """Note that all of an answer was sent: attempts that come much later belong to another call."""
        for call in self._calls.values():
            if call.job_id == job_id:
                call.until = time.monotonic() + SENT_S

    def note_answered(self, job_id: str) -> None:
        """Note that a client knows a job: an equal request after this is another one."""
        for key in [key for key, call in self._calls.items() if call.job_id == job_id]:
            del self._calls[key]

    def _fingerprint(self, http: HttpRequest, request: Request) -> str:
        client = http.client.host if http.client else ""
        parts = (http.url.path, client, http.headers.get("user-agent", ""), request.model_dump_json())
        return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()

    def _forget_old(self) -> None:
        now = time.monotonic()
        for key in [key for key, call in self._calls.items() if call.until < now]:
            del self._calls[key]
        while len(self._calls) >= REMEMBERED:
            self._calls.popitem(last=False)
