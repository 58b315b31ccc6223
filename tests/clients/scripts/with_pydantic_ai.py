"""Pydantic AI's MCP toolset without a model, by the calls that it relays for an app: they return whole results."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from pydantic_ai.mcp import MCPToolset
from story import Json, OnProgress, answer_of, main


class PydanticAI:
    def __init__(self, toolset: "MCPToolset") -> None:
        self._toolset = toolset

    async def tools(self) -> list[Json]:
        return [tool.model_dump(mode="json", by_alias=True) for tool in await self._toolset.list_tools()]

    async def call(self, name: str, arguments: Json, on_progress: OnProgress) -> Json:
        return answer_of(await self._toolset.call_tool_for_app(name, arguments))

    async def read(self, uri: str) -> "tuple[str | None, bytes]":
        content = await self._toolset.read_resource(uri)
        assert not isinstance(content, list)
        return (None, content.encode()) if isinstance(content, str) else (content.media_type, content.data)


@asynccontextmanager
async def connect(server: Json) -> AsyncIterator[PydanticAI]:
    async with MCPToolset(server["url"], read_timeout=300) as toolset:
        yield PydanticAI(toolset)


if __name__ == "__main__":
    main(connect, f"pydantic-ai {version('pydantic-ai-slim')}, mcp {version('mcp')}")
