# syntax=docker/dockerfile:1
# The whole server: the page, MCP at /mcp and the HTTP APIs, on port 7860. TORCH is cuda (as on the index) or cpu.
FROM python:3.12.11-slim-bookworm

ARG TORCH=cuda
ARG TORCH_VERSION=2.13.0
# The index that has the CPU builds of torch; needed with TORCH=cpu only.
ARG TORCH_INDEX=

ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PYTHONUNBUFFERED=1 \
    WAN_MCP_HOME=/data

WORKDIR /app
COPY pyproject.toml hatch_build.py constraints.txt README.md LICENSE NOTICE ./
COPY manifests manifests
COPY src src

RUN if [ "$TORCH" = cpu ]; then \
      pip install "torch==$TORCH_VERSION" --index-url "$TORCH_INDEX"; \
    fi \
    && pip install -c constraints.txt . \
    && useradd --uid 1000 --create-home wan \
    && install -d -o wan -g wan -m 700 /data

USER 1000
VOLUME /data
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
  CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(u.Request('http://127.0.0.1:7860/healthz', headers={'Authorization': 'Bearer ' + os.environ.get('WAN_MCP_HTTP_TOKEN', '')}), timeout=4)"]
CMD ["wan-mcp", "http", "--host", "0.0.0.0", "--port", "7860"]
