"""LangChain's adapters as their documentation starts: a new session, and over stdio a new process, for every call."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from langchain_core.tools import BaseTool
from langchain_mcp_adapters.callbacks import CallbackContext, Callbacks
from langchain_mcp_adapters.client import MultiServerMCPClient
from story import Json, OnProgress, main

SERVER = "wan"


class LangChain:
    def __init__(self, connection: Json) -> None:
        self._on_progress: OnProgress | None = None
        self._client = MultiServerMCPClient({SERVER: connection}, callbacks=Callbacks(on_progress=self._progress))
        self._tools: dict[str, BaseTool] = {}

    async def _progress(
        self, progress: float, total: "float | None", message: "str | None", context: CallbackContext
    ) -> None:
        if self._on_progress is not None:
            await self._on_progress(progress, total, message)

    async def tools(self) -> list[Json]:
        tools = await self._client.get_tools()
        self._tools = {tool.name: tool for tool in tools}
        return [{"name": tool.name, "description": tool.description, "inputSchema": tool.args_schema} for tool in tools]

    async def call(self, name: str, arguments: Json, on_progress: OnProgress) -> Json:
        if not self._tools:
            await self.tools()
        self._on_progress = on_progress
        call = {"type": "tool_call", "id": "call_1", "name": name, "args": arguments}
        message = await self._tools[name].ainvoke(call)
        blocks = [{"type": "text", "text": message.content}] if isinstance(message.content, str) else message.content
        return {
            "is_error": message.status == "error",
            "structured": (message.artifact or {}).get("structured_content"),
            "text": "\n".join(block["text"] for block in blocks if block["type"] == "text"),
            "links": [{"uri": b["url"], "mime_type": b["mime_type"]} for b in blocks if "url" in b],
            "pictures": [{"data": b["base64"], "mime_type": b["mime_type"]} for b in blocks if "base64" in b],
        }

    async def read(self, uri: str) -> "tuple[str | None, bytes]":
        [blob] = await self._client.get_resources(SERVER, uris=[uri])
        return blob.mimetype, blob.as_bytes()


@asynccontextmanager
async def connect(server: Json) -> AsyncIterator[LangChain]:
    yield LangChain({"transport": "http" if "url" in server else "stdio", **server})


if __name__ == "__main__":
    main(connect, f"langchain-mcp-adapters {version('langchain-mcp-adapters')}, mcp {version('mcp')}")
