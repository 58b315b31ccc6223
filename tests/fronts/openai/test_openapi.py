"""The API does what its OpenAPI document says, whatever is sent: tried by schemathesis against a running server."""

import subprocess
import sys
from pathlib import Path

import httpx2

from tests.support.http_fronts import running
from tests.support.patience import PATIENCE_S
from wan_mcp.settings import Settings

SEED = "7"


def test_the_api_does_what_its_document_says(settings: Settings, tmp_path: Path) -> None:
    token = "a long secret"
    with running(settings.model_copy(update={"queue_limit": 10_000, "http_token": token})) as front:
        schemathesis = subprocess.run(
            [
                *(sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()", "run"),
                *(f"{front.url}/openapi.json", "--header", f"Authorization: Bearer {token}", "--seed", SEED),
                # What follows the document may still be refused: models have rules that no schema can tell.
                *("--max-examples", "5", "--exclude-checks", "positive_data_acceptance"),
            ],
            cwd=tmp_path,  # where it keeps a cache
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert schemathesis.returncode == 0, schemathesis.stdout
        assert "16/16" in schemathesis.stdout
        assert "Traceback" not in front.log


def test_the_document_is_at_both_places_and_says_whether_a_token_is_needed(settings: Settings) -> None:
    with running(settings) as front:
        documents = [httpx2.get(f"{front.url}{path}").json() for path in ("/openapi.json", "/v1/openapi.json")]
    assert documents[0] == documents[1]
    assert documents[0]["openapi"] == "3.1.0"
    assert documents[0]["security"] == []
    create = documents[0]["paths"]["/v1/videos"]["post"]["requestBody"]["content"]
    assert set(create) == {"application/json", "multipart/form-data"}
