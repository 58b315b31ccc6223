"""The client of mcp 1: a session over two streams, with the handshake of the older protocol era."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version

from mcp import ClientSession, StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import BlobResourceContents
from pydantic import AnyUrl
from story import Json, OnProgress, answer_of, decoded, main


class Mcp1:
    def __init__(self, session: ClientSession) -> None:
        self._session = session

    async def tools(self) -> list[Json]:
        listed = await self._session.list_tools()
        return [tool.model_dump(mode="json", by_alias=True) for tool in listed.tools]

    async def call(self, name: str, arguments: Json, on_progress: OnProgress) -> Json:
        result = await self._session.call_tool(name, arguments, progress_callback=on_progress)
        return answer_of(result.model_dump(mode="json", by_alias=True))

    async def read(self, uri: str) -> "tuple[str | None, bytes]":
        [content] = (await self._session.read_resource(AnyUrl(uri))).contents
        data = decoded(content.blob) if isinstance(content, BlobResourceContents) else content.text.encode()
        return content.mimeType, data


@asynccontextmanager
async def connect(server: Json) -> AsyncIterator[Mcp1]:
    async with AsyncExitStack() as stack:
        if "url" in server:
            reads, writes, _ = await stack.enter_async_context(streamable_http_client(server["url"]))
        else:
            reads, writes = await stack.enter_async_context(stdio_client(StdioServerParameters(**server)))
        session = await stack.enter_async_context(ClientSession(reads, writes))
        await session.initialize()
        yield Mcp1(session)


if __name__ == "__main__":
    main(connect, f"mcp {version('mcp')}")
