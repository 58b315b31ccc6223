"""The client of mcp 2: one object, which chooses the newest protocol era that the server has."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from mcp import Client, StdioServerParameters
from mcp.types import BlobResourceContents
from story import Json, OnProgress, answer_of, decoded, main


class Mcp2:
    def __init__(self, client: Client) -> None:
        self._client = client

    async def tools(self) -> list[Json]:
        listed = await self._client.list_tools()
        return [tool.model_dump(mode="json", by_alias=True) for tool in listed.tools]

    async def call(self, name: str, arguments: Json, on_progress: OnProgress) -> Json:
        result = await self._client.call_tool(name, arguments, progress_callback=on_progress)
        return answer_of(result.model_dump(mode="json", by_alias=True))

    async def read(self, uri: str) -> "tuple[str | None, bytes]":
        [content] = (await self._client.read_resource(uri)).contents
        data = decoded(content.blob) if isinstance(content, BlobResourceContents) else content.text.encode()
        return content.mime_type, data


@asynccontextmanager
async def connect(server: Json) -> AsyncIterator[Mcp2]:
    target = server["url"] if "url" in server else StdioServerParameters(**server)
    async with Client(target) as client:
        yield Mcp2(client)


if __name__ == "__main__":
    main(connect, f"mcp {version('mcp')}")
