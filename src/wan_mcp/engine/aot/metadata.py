"""The metadata of a package: what it is, what it takes, and how far it was off when it was proved."""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict

__all__ = ["Input", "PackageMetadata"]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Input(_Strict):
    """One input. A dimension that differs from call to call is a name."""

    name: str
    shape: tuple[int | str, ...]
    dtype: str
    strides: tuple[int | str, ...]
    """In elements; products of names and numbers such as `tokens*5120`."""

    @classmethod
    def contiguous(cls, name: str, shape: tuple[int | str, ...], dtype: str) -> Self:
        """An input whose last dimension is dense, and each one before it as well."""
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
    """What lies beside a package as JSON."""

    identity: dict[str, Any]
    """See `identity.cache_key_of`."""
    package_sha256: str
    inputs: tuple[Input, ...]
    dynamic: dict[str, tuple[int, int]]
    """Bounds of the named dimensions."""
    difference: float
    """Largest relative difference to the same arithmetic run eagerly, when it was proved."""
    seconds: float
    """That building and proving took."""
