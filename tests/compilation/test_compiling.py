"""Machine code from recorded operations."""

import pytest
from processes import Script

from pyrovae.compilation.compiling import compiler

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
@pytest.mark.skipif(compiler() is None, reason="there is no C++ compiler")
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
