"""All settings in one class, each with an environment variable, a flag and a description.

The flags of the command line and the table in the README are built from these fields. An engine receives
the settings of the front that starts it through the environment.
"""

import os
import re
import shlex
from difflib import get_close_matches
from ipaddress import IPv4Network, IPv6Network
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, Literal

from platformdirs import user_data_path
from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from wan_mcp.schema.blanks import filled_in
from wan_mcp.schema.enums import AttentionKernel, Kind, RequestedPrecision

__all__ = ["ENV_PREFIX", "KEPT_BLANKS", "Settings", "mistyped_variables", "user_folder"]

ENV_PREFIX = "WAN_MCP_"
KEPT_BLANKS = frozenset({"image_dirs"})
"""Settings whose empty text has a meaning: no folders. Any other empty setting was left out."""
DEVICE = re.compile(r"auto|cpu|cuda|cuda:[0-9]+(,\s*(cuda:)?[0-9]+)*")
HOST_NAME = re.compile(r"(\*\.)?([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]*[a-z0-9])?")


def user_folder() -> Path | None:
    """Return the user's home directory; None for a user without one, as in some containers."""
    try:
        return Path.home()
    except RuntimeError:
        return None


def _data_folder() -> Path:
    try:
        return user_data_path("wan-mcp", appauthor=False)
    except RuntimeError:  # no home directory: refused with the reason, unless WAN_MCP_HOME is set
        return Path("~/.local/share/wan-mcp")


def _picture_folders() -> tuple[Path, ...]:
    home = user_folder()
    return tuple(home / name for name in ("Pictures", "Downloads", "Desktop", "Documents", "Videos") if home)


def _expanded(path: Path) -> Path:
    """Return the path with the home directory in place of `~`.

    Raises:
        ValueError: there is none.
    """
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise ValueError(f"there is no home directory for '{path.parts[0]}'; write an absolute path") from error


class Settings(BaseSettings):
    """The settings and their defaults."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, frozen=True, extra="ignore")

    home: Path = Field(
        default_factory=_data_folder,
        description="Folder that holds all state: the job table, media, logs and your own manifests.",
    )
    device: str = Field(
        default="auto",
        description="Devices of the engines, one for each: auto (all GPUs, else the CPU), cpu, one GPU such as cuda:0, "
        "or some such as cuda:0,2.",
    )
    gpus_per_job: Literal["auto", "1", "2", "4", "all"] = Field(
        default="auto",
        description="GPUs that work on one video at most: auto (idle ones join if no job waits for them and steps take "
        "long enough), 1, 2, 4 or all.",
    )
    precision: RequestedPrecision = Field(
        default="auto",
        description="Precision of video models: auto (FP8 where the model and the GPU can), full (bf16 on a GPU, fp32 "
        "on a CPU) or fp8.",
    )
    attention: Literal["auto", AttentionKernel] = Field(
        default="auto",
        description="Kernel of long self-attention on a GPU: auto (the fastest kernel that passes its accuracy check), "
        "or one by name.",
    )
    compile: bool = Field(
        default=True,
        description="Compile video models in the background (jobs never wait for it).",
    )
    threads: int = Field(default=0, ge=0, description="CPU threads of an engine; 0 lets torch choose.")
    video_model: str = Field(default="wan-mini", description="Default model of generate_video.")
    image_model: str = Field(default="wan-mini", description="Default model of generate_image.")
    caption_model: str = Field(default="wan-mini-caption", description="Default model of caption_image.")
    auto_download: bool = Field(
        default=True,
        description="Download a model's weights for its first job. If false, that job fails and "
        "names the download command.",
    )
    max_download_gb: float = Field(
        default=5,
        ge=0,
        description="Largest download in GB that a job starts unasked. A call that needs a larger one is refused with "
        "its size, unless it says download=true (`--download`).",
    )
    owners_may_download: bool = Field(
        default=False,
        description="Let owners of named tokens and of OAuth agree to larger downloads, too; else only the home's own "
        "user does.",
    )
    wait_s: float = Field(default=45, ge=0, description="Seconds that a tool call waits for its job by default.")
    max_wait_s: float = Field(default=3600, ge=0, description="The longest wait that a call may ask for, in seconds.")
    engine_idle_s: float = Field(
        default=600, ge=0, description="Idle seconds before the engine exits and frees its memory."
    )
    step_deadline_s: float = Field(
        default=180,
        gt=0,
        description="Seconds without progress after which a working engine counts as hung; "
        "slow models get ten times their measured step.",
    )
    load_deadline_s: float = Field(
        default=900, gt=0, description="The same for starting an engine, and for loading or compiling a model."
    )
    queue_limit: int = Field(
        default=32,
        ge=1,
        description="Maximum number of queued jobs; further ones are refused, except the first of each other client.",
    )
    max_count: int = Field(default=8, ge=1, description="Maximum `count` of one call.")
    min_free_mb: int = Field(default=200, ge=0, description="Free disk space in MB below which new jobs are refused.")
    output_dir: Path | None = Field(
        default=None,
        description="Folder in which every result is saved under a readable name as well, such as "
        "2026-11-28_a-red-star_s42.mp4.",
    )
    keep_days: float = Field(
        default=0,
        ge=0,
        le=36_500,
        description="Days after which ended jobs are deleted with their files, unless they are kept; 0 for never.",
    )
    keep_gb: float = Field(
        default=0,
        ge=0,
        description="GB that results may take; beyond it, the oldest jobs are deleted, unless they are kept; 0 for no "
        "limit.",
    )
    image_dirs: Annotated[tuple[Path, ...], NoDecode] = Field(
        default_factory=_picture_folders,
        description=f"Folders from which tools may read images, separated by '{os.pathsep}'; "
        "results of earlier jobs are always allowed.",
    )
    lora_dirs: Annotated[tuple[Path, ...], NoDecode] = Field(
        default=(),
        description="Additional folders from which tools may read LoRAs (besides HOME/loras), "
        f"separated by '{os.pathsep}'.",
    )
    image_max_mb: float = Field(
        default=20, gt=0, description="Maximum size of an input image in MB, as a file or data URI."
    )
    image_max_megapixels: float = Field(
        default=50,
        gt=0,
        description="Maximum size of an input image in megapixels. Its pixels may also take no more than 256 MB of "
        "memory while they are decoded: 64 megapixels of most formats, 15 of WebP and AVIF.",
    )
    image_urls: str = Field(
        default="off",
        description="Web addresses (https) from which calls may have images fetched: off, any, or host names separated "
        "by commas, such as 'example.com, *.example.org'.",
    )
    resource_max_kb: int = Field(
        default=384,
        ge=3,
        description="Maximum size of one resource read in KiB; larger files are read in byte ranges.",
    )
    http_token: str = Field(
        default="",
        repr=False,
        description="Bearer token that HTTP clients must send; required to listen beyond this machine.",
    )
    http_hosts: str = Field(
        default="",
        description="Extra host names and web origins that may reach the HTTP server, separated by commas.",
    )
    oauth_issuer: str = Field(
        default="",
        description="OAuth authorization server whose access tokens (JWT) the HTTP server accepts; each subject is an "
        "owner. The server then answers nobody without a token.",
    )
    oauth_audience: str = Field(
        default="",
        description="What those tokens must be for: the address of /mcp as clients know it, such as "
        "https://studio.example/mcp.",
    )
    oauth_scopes: str = Field(default="", description="Scopes that those tokens must have, separated by blanks.")
    trusted_proxies: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = Field(
        default=(),
        description="Addresses or networks of proxies, separated by commas, such as 127.0.0.1,10.0.0.0/8. Their "
        "headers (X-Forwarded-For, -Proto, -Host, or Forwarded) say who calls; all that they pass on needs a token.",
    )
    tls_cert: Path | None = Field(
        default=None,
        description="Certificate of the HTTP server in PEM, with its chain; with tls_key, it speaks HTTPS.",
    )
    tls_key: Path | None = Field(
        default=None, description="Key of tls_cert in PEM, without a password, readable by its owner only."
    )
    c2pa_cert: Path | None = Field(
        default=None,
        description="Your certificate in PEM, with its chain; with c2pa_key, results carry content credentials (C2PA) "
        "that it signs. Needs the extra c2pa.",
    )
    c2pa_key: Path | None = Field(
        default=None, description="Key of c2pa_cert in PEM, without a password, readable by its owner only."
    )
    http_page: bool = Field(default=True, description="Serve the studio page at / of the HTTP server.")
    on_done: str = Field(
        default="",
        repr=False,
        description="A command that is run when a job has ended, with a JSON notice on its standard input; or an "
        "http(s) URL that gets the notice as a signed POST.",
    )
    engine_command: str = Field(
        default="",
        description="The whole command that starts an engine, e.g. 'nice -n 10 /…/.venv/bin/wan-mcp engine'.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="Log level: DEBUG, INFO, WARNING, ERROR."
    )

    @model_validator(mode="before")
    @classmethod
    def _leave_blanks_out(cls, given: dict[str, Any]) -> dict[str, Any]:
        return filled_in(given, cls.model_fields, KEPT_BLANKS)

    @field_validator("device", "precision", "attention", mode="before")
    @classmethod
    def _in_small_letters(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value

    @field_validator("log_level", mode="before")
    @classmethod
    def _in_capitals(cls, value: Any) -> Any:
        return value.upper() if isinstance(value, str) else value

    @field_validator("http_token", mode="before")
    @classmethod
    def _as_a_header_carries_it(cls, value: Any) -> Any:
        return value.strip() if isinstance(value, str) else value  # blanks alone are no token

    @field_validator("device", mode="after")
    @classmethod
    def _known_device(cls, value: str) -> str:
        if not DEVICE.fullmatch(value):
            apple = "; Apple's GPUs (mps) are not supported, use cpu" if value.startswith("mps") else ""
            raise ValueError(f"must be auto, cpu, cuda, or cuda: with numbers, such as cuda:0 or cuda:0,2{apple}")
        numbers = [int(number) for number in re.findall(r"[0-9]+", value)]
        if twice := [number for number in numbers if numbers.count(number) > 1]:
            raise ValueError(f"names cuda:{twice[0]} twice; a GPU has one engine")
        return value

    @field_validator("on_done", mode="after")
    @classmethod
    def _runnable(cls, value: str) -> str:
        value = value.strip()
        if re.match(r"[a-z][a-z0-9+.-]*://", value, re.IGNORECASE):
            if not re.match(r"https?://[^/?#\s]+[^\s]*$", value, re.IGNORECASE):
                raise ValueError("must be a command, or a URL that begins with http:// or https:// and a host")
        elif value:
            try:
                shlex.split(value)
            except ValueError as error:
                raise ValueError(f"is not a command that can be split into words ({error})") from error
        return value

    @field_validator("image_urls", mode="after")
    @classmethod
    def _known_hosts(cls, value: str) -> str:
        names = [name.strip().lower() for name in value.split(",") if name.strip()]
        if names in (["off"], ["any"]):
            return names[0]
        for name in names:
            if not HOST_NAME.fullmatch(name):
                raise ValueError("must be off, any, or host names such as example.com or *.example.com")
        return ", ".join(names)

    @field_validator("image_dirs", "lora_dirs", mode="before")
    @classmethod
    def _split_folders(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(_expanded(Path(part)) for part in value.split(os.pathsep) if part)
        return value

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def _split_addresses(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("home", "output_dir", "tls_cert", "tls_key", "c2pa_cert", "c2pa_key", mode="after")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return None if value is None else _expanded(value).absolute()

    @property
    def database(self) -> Path:
        """Path of the job table."""
        return self.home / "jobs.db"

    @property
    def log_file(self) -> Path:
        """Path of the engines' log."""
        return self.home / "logs" / "engine.log"

    @property
    def default_models(self) -> dict[Kind, str]:
        """Default model for each kind of job."""
        return {Kind.VIDEO: self.video_model, Kind.IMAGE: self.image_model, Kind.CAPTION: self.caption_model}

    @property
    def min_free_bytes(self) -> int:
        """Free disk space in bytes that is kept in reserve."""
        return self.min_free_mb * 1_000_000

    @property
    def max_download_bytes(self) -> int | None:
        """Largest download in bytes that a job may start unasked; None for any."""
        return int(self.max_download_gb * 1e9) if isfinite(self.max_download_gb) else None

    @property
    def image_hosts(self) -> tuple[str, ...]:
        """Host names from which images may be fetched; `*` stands for any, and `*.NAME` for all below NAME."""
        match self.image_urls:
            case "off":
                return ()
            case "any":
                return ("*",)
        return tuple(self.image_urls.split(", "))

    def asked_of_engine(self) -> dict[str, Any]:
        """Return the settings that concern how an engine computes, and that differ from their defaults."""
        names = ("device", "precision", "attention", "compile", "threads")
        fields = type(self).model_fields
        return {name: value for name in names if (value := getattr(self, name)) != fields[name].default}

    def environment(self) -> dict[str, str]:
        """Return these settings as environment variables, for a process that must use the same ones."""
        variables: dict[str, str] = {}
        for name in type(self).model_fields:
            if name in ("http_token", "on_done"):  # a front's secrets, which no other process needs
                continue
            value = getattr(self, name)
            separator = "," if name == "trusted_proxies" else os.pathsep
            text = separator.join(map(str, value)) if isinstance(value, tuple) else "" if value is None else str(value)
            variables[f"{ENV_PREFIX}{name.upper()}"] = text
        return variables


def mistyped_variables() -> list[str]:
    """Return a sentence for each WAN_MCP_ variable in the environment that is not a setting."""
    known = {f"{ENV_PREFIX}{name.upper()}" for name in Settings.model_fields}
    sentences = []
    for name in sorted(os.environ):
        if name.startswith(ENV_PREFIX) and name not in known:
            near = get_close_matches(name, known, n=1)
            sentences.append(f"{name} is not a setting" + (f"; did you mean {near[0]}?" if near else ""))
    return sentences
