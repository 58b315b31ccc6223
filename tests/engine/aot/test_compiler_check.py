"""The proof that the C++ compiler fits torch finds the one that does not, by what happens to the process."""

from pathlib import Path

import pytest

from wan_mcp.engine.aot.compiler_check import check_compiler

pytestmark = pytest.mark.timeout(1800)  # see test_arithmetic
CRASHING = """#!/bin/sh
# A compiler that works, and whose libraries end the process that loads them.
case "$*" in
    *-shared*) exec g++ "$@" {crash} ;;
    *) exec g++ "$@" ;;
esac
"""
CRASH = "#include <csignal>\n__attribute__((constructor)) static void crash() {{ raise(SIGSEGV); }}\n".replace(
    "{{", "{"
)


def test_a_compiler_is_proved_once_for_each_torch(proved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wan_mcp.engine.aot.compiler_check.PROBE", "nowhere")  # whatever is tried now fails
    assert check_compiler(proved).good
    monkeypatch.setattr("wan_mcp.engine.aot.compiler_check.version", lambda _: "99.0")
    assert not check_compiler(proved, alternative="").good


def test_a_compiler_whose_packages_crash_is_found_out(
    proved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, wrapper = tmp_path / "crash.cpp", tmp_path / "other-g++"
    source.write_text(CRASH.replace("}}", "}"))
    wrapper.write_text(CRASHING.format(crash=source))
    wrapper.chmod(0o755)
    monkeypatch.setenv("CXX", str(wrapper))
    proof = check_compiler(proved, alternative="")
    assert not proof.good
    assert "died of SIGSEGV" in proof.says and str(wrapper) in proof.says


def test_without_a_compiler_it_says_what_to_set(proved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "/nowhere/g++")
    monkeypatch.setattr(
        "wan_mcp.engine.aot.compiler_check._fault", lambda _, compiler, __: None if compiler else "none"
    )
    proof = check_compiler(proved, alternative="/bin/sh")
    assert not proof.good and "set CXX=/bin/sh" in proof.says
