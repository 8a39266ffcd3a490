"""Sentences of public texts have at most 25 words. The ceilings count those that are longer; they may only go down."""

from pathlib import Path

import pytest
from sentences import long_sentences, num_words, sentences

CEILINGS = {"README.md": 0, "CHANGELOG.md": 0, "CONTRIBUTING.md": 0, "docs/": 0, "docstrings": 0, "help texts": 0}
ROOT = Path(__file__).parent.parent

if not (ROOT / "README.md").exists():
    pytest.skip("the tests run outside a clone, without its texts", allow_module_level=True)


def test_sentences_are_told_apart():
    text = """Compare models (Neal et al. 2001). It needs `a b c` only.

Args:
    x, y: Two points. Rows.

- One item
- another

```python
not counted
```
"""
    assert list(filter(None, sentences(text))) == [
        "Compare models (Neal et al. 2001).",
        "It needs `code` only.",
        "Two points.",
        "Rows.",
        "One item",
        "another",
    ]
    assert num_words("log p(x) ≤ 0, in nats") == 4  # a sign and a number are no words


@pytest.mark.parametrize(("kind", "ceiling"), CEILINGS.items())
def test_long_sentences_become_fewer(kind: str, ceiling: int, found: dict[str, list[tuple[str, str]]]):
    new = "\n".join(f"{place}: {sentence}" for place, sentence in found[kind])
    assert len(found[kind]) <= ceiling, f"split those that are new, at 25 words or fewer:\n{new}"
    assert len(found[kind]) >= ceiling - 10, f"fewer are left: lower the ceiling of {kind} to {len(found[kind])}"


@pytest.fixture(scope="module")
def found() -> dict[str, list[tuple[str, str]]]:
    return long_sentences(ROOT)
