"""The MCP client of the OpenAI Agents SDK, without a model. Its time-out is lifted, as docs/clients.md says."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from agents.mcp import MCPServerStreamableHttp
from story import Json, OnProgress, answer_of, decoded, main


class Agents:
    def __init__(self, server: MCPServerStreamableHttp) -> None:
        self._server = server

    async def tools(self) -> list[Json]:
        return [tool.model_dump(mode="json", by_alias=True) for tool in await self._server.list_tools()]

    async def call(self, name: str, arguments: Json, on_progress: OnProgress) -> Json:
        result = await self._server.call_tool(name, arguments)
        return answer_of(result.model_dump(mode="json", by_alias=True))

    async def read(self, uri: str) -> "tuple[str | None, bytes]":
        [content] = (await self._server.read_resource(uri)).contents
        blob = getattr(content, "blob", None)
        return content.mime_type, decoded(blob) if blob is not None else content.text.encode()


@asynccontextmanager
async def connect(server: Json) -> AsyncIterator[Agents]:
    async with MCPServerStreamableHttp({"url": server["url"]}, client_session_timeout_seconds=300) as client:
        yield Agents(client)


if __name__ == "__main__":
    main(connect, f"openai-agents {version('openai-agents')}, mcp {version('mcp')}")
