"""The metadata of a package: its cache key, its inputs, and its error when it was verified."""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict

__all__ = ["Input", "PackageMetadata"]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Input(_Strict):
    """One input. A dynamic dimension is a name."""

    name: str
    shape: tuple[int | str, ...]
    dtype: str
    strides: tuple[int | str, ...]
    """In elements; products of names and numbers such as `tokens*5120`."""

    @classmethod
    def contiguous(cls, name: str, shape: tuple[int | str, ...], dtype: str) -> Self:
        """Return an input with contiguous strides."""
        strides: list[int | str] = []
        number, names = 1, list[str]()
        for size in reversed(shape):
            strides.insert(0, "*".join([*names, str(number)]) if names else number)
            if isinstance(size, str):
                names.append(size)
            else:
                number *= size
        return cls(name=name, shape=shape, dtype=dtype, strides=tuple(strides))


class PackageMetadata(_Strict):
    """The content of the JSON file next to a package."""

    identity: dict[str, Any]
    """See `cache_key.cache_key_of`."""
    package_sha256: str
    inputs: tuple[Input, ...]
    dynamic: dict[str, tuple[int, int]]
    """Bounds of the named dimensions."""
    difference: float
    """Largest relative difference from eager execution, when it was verified."""
    seconds: float
    """Duration of the build and the verification."""
