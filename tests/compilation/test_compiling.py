"""Machine code from recorded operations."""

import platform
import shutil

import pytest
import torch
from processes import Script

from pyrovae.compilation.compiling import compiler, options

needs_compiler = pytest.mark.skipif(not compiler(), reason="there is no C++ compiler")

TWICE = """
import torch
from torch._dynamo.utils import counters
from pyrovae.compilation.compiling import compile_graph

x = torch.linspace(0, 1, 24).reshape(4, 6)
spread = torch.eye(3)
for _ in range(2):
    compile_graph(lambda s: torch.linalg.cholesky_ex(s), [spread])
    function = compile_graph(lambda x: (x.sin().sum(0), x @ x.mT), [x])
    for found, expected in zip(function(x), (x.sin().sum(0), x @ x.mT)):
        torch.testing.assert_close(found, expected)
print(counters["inductor"]["fxgraph_cache_miss"], counters["inductor"]["fxgraph_cache_hit"])
"""


@pytest.mark.slow
@needs_compiler
def test_what_was_compiled_before_is_read_from_the_disk(tmp_path):
    """For other vector instructions it is compiled anew."""
    (tmp_path / "twice.py").write_text(TWICE)
    for number, (capability, counts) in enumerate((("", "2 2"), ("default", "2 2"))):
        environment = {"TORCHINDUCTOR_CACHE_DIR": tmp_path / "cache"}
        if capability:
            environment["ATEN_CPU_CAPABILITY"] = capability
        script = Script(tmp_path / "twice.py", out=tmp_path / f"{number}.txt", **environment)
        assert script.end() == 0, script.errors()
        assert script.printed().split() == counts.split()
        assert "c-shim" not in script.errors()


@needs_compiler
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the options are those of x86")
def test_an_older_compiler_is_tried_by_torch(tmp_path, monkeypatch):
    """Vectors are taken for granted only where the compiler knows their options, and where the user has not said otherwise."""
    from torch._inductor import config, cpu_vec_isa

    known = shutil.which(compiler()[0])
    trials: list[bool | None] = []

    def pick() -> cpu_vec_isa.VecISA:
        trials.append(config.cpp.vec_isa_ok)
        return cpu_vec_isa.InvalidVecISA()

    monkeypatch.setattr(cpu_vec_isa, "pick_vec_isa", pick)
    older = tmp_path / "older"
    older.write_text(f'#!/bin/sh\ncase "$*" in *-mno-such-thing*-mavx512f*) exit 1;; esac\nexec "{known}" "$@"\n')
    older.chmod(0o755)
    for command, said, expected in (
        (f"{older}", None, True),
        (f"{older} -mno-such-thing", None, None),
        (f"{older}", False, None),
    ):
        monkeypatch.setenv("CXX", command)
        with config.patch({"cpp.vec_isa_ok": said}):
            assert options(torch.device("cpu")).get("cpp.vec_isa_ok") is expected
            assert config.cpp.vec_isa_ok is said
    assert trials == [True, None, False]
    monkeypatch.setenv("CXX", f"{tmp_path / 'none'} -O2")
    assert compiler() == []
