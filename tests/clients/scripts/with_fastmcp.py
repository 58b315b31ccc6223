"""FastMCP's client, which speaks the newer protocol where the server does."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastmcp import Client
from story import Json, OnProgress, answer_of, decoded, main


class FastMCP:
    def __init__(self, client: "Client") -> None:
        self._client = client

    async def tools(self) -> list[Json]:
        return [tool.model_dump(mode="json", by_alias=True) for tool in await self._client.list_tools()]

    async def call(self, name: str, arguments: Json, on_progress: OnProgress) -> Json:
        result = await self._client.call_tool_mcp(name, arguments, progress_handler=on_progress)
        return answer_of(result.model_dump(mode="json", by_alias=True))

    async def read(self, uri: str) -> "tuple[str | None, bytes]":
        [content] = await self._client.read_resource(uri)
        blob = getattr(content, "blob", None)
        return content.mime_type, decoded(blob) if blob is not None else content.text.encode()


@asynccontextmanager
async def connect(server: Json) -> AsyncIterator[FastMCP]:
    async with Client(server["url"]) as client:
        yield FastMCP(client)


if __name__ == "__main__":
    main(connect, f"fastmcp {version('fastmcp')}, mcp {version('mcp')}")
