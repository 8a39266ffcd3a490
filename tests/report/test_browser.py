"""The page in a real browser: it loads without a request, sorts, follows mouse and keyboard, fits a phone and paper.

axe looks for what keeps people from using it, where it is installed: `npm install --no-save axe-core` in the clone.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import Browser, browser, program
from command_line import said

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(program() is None, reason="there is no Chromium: apt-get install chromium"),
]
NAMES = (
    "[...document.querySelectorAll('table.comparison tbody th')].map((cell) => cell.textContent.replace('best ', ''))"
)
VALUES = "[...document.querySelectorAll('table.comparison tbody tr')].map((row) => Number(row.cells[1].dataset.value))"
STATUS = "document.querySelector('.status').textContent"
AXE = Path(__file__).parents[2] / "node_modules" / "axe-core" / "axe.min.js"
FAULTS = (
    "axe.run(document).then((result) => result.violations.filter((found) => ['serious', 'critical'].includes(found.impact))"
    ".map((found) => `${found.id}: ${found.help}: ${found.nodes[0].html}`))"
)
PIXELS = "[...document.querySelector('canvas.image').getContext('2d').getImageData(0, 0, 8, 8).data].join()"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browser")
    models = "gaussian,vae(latent=3),ppca(latent=2)"
    said("compare", "--models", models, "--epochs", 3, "--num-samples", 20, "--out", folder / "out")
    return folder / "out" / "report.html"


@pytest.fixture
def opened(page: Path, tmp_path: Path) -> Iterator[Browser]:
    with browser(tmp_path / "profile") as found:
        found.emulate(1200, 900)
        found.open(page)
        yield found
        assert found.problems() == []


def test_the_table_sorts_by_any_column(opened: Browser) -> None:
    values = opened.run(VALUES)
    assert len(values) == 3
    button = "document.querySelectorAll('table.comparison th button')[%d]"
    opened.run(f"{button % 1}.click()")
    assert opened.run(VALUES) == sorted(values, reverse=True)
    opened.run(f"{button % 1}.focus()")
    opened.press("Enter")
    assert opened.run(VALUES) == sorted(values)
    assert (
        opened.run("document.querySelectorAll('table.comparison thead th')[1].getAttribute('aria-sort')") == "ascending"
    )
    opened.run(f"{button % 0}.click()")
    assert opened.run(NAMES) == ["vae(latent=3)", "ppca(latent=2)", "gaussian"]


def test_the_decoded_image_follows_keys_sliders_and_the_mouse(opened: Browser) -> None:
    seen = [opened.run(PIXELS)]
    opened.run("document.querySelector('canvas.plane').focus()")
    for _ in range(10):
        opened.press("ArrowRight")
    seen.append(opened.run(PIXELS))
    opened.run("document.querySelector('.sliders input').focus()")
    for _ in range(20):
        opened.press("ArrowLeft")
    seen.append(opened.run(PIXELS))
    place = opened.run(
        "(() => { const b = document.querySelector('canvas.plane'); b.scrollIntoView(); "
        "const r = b.getBoundingClientRect(); return [r.left + 40, r.top + 40]; })()"
    )
    for kind in ("mousePressed", "mouseReleased"):
        opened.send("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1)
    seen.append(opened.run(PIXELS))
    assert len(set(seen)) == len(seen)
    opened.run("document.querySelector('canvas.plane').focus()")
    opened.press("n")
    nearest = opened.run(STATUS)
    assert "nearest is point " in nearest
    assert ", label " in nearest


def test_a_walk_between_two_points_ends_at_the_second(opened: Browser) -> None:
    walk = (
        "(() => { const w = [...document.querySelectorAll('fieldset input')]; w[0].value = 4; w[1].value = 9; "
        "w[2].value = %s; w[2].dispatchEvent(new Event('input')); })()"
    )
    opened.run(walk % "1")
    assert "nearest is point 9," in opened.run(STATUS)
    opened.run(walk % "0")
    assert "nearest is point 4," in opened.run(STATUS)


def test_another_model_can_be_chosen(opened: Browser) -> None:
    first = opened.run(PIXELS)
    opened.run(
        "(() => { const c = document.getElementById('explored'); c.value = 1; c.dispatchEvent(new Event('change')); })()"
    )
    assert opened.run(PIXELS) != first
    assert opened.run("document.querySelectorAll('.sliders > label').length") == 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_runs_over_the_edge_of_a_phone(opened: Browser, scheme: str) -> None:
    opened.emulate(390, 844, phone=True, prefers_color_scheme=scheme)
    assert opened.run("document.documentElement.scrollWidth") == 390
    paper, ink = (opened.run(f"getComputedStyle(document.body).{name}") for name in ("backgroundColor", "color"))
    bright = [sum(map(int, colour.removeprefix("rgb(").removesuffix(")").split(","))) for colour in (paper, ink)]
    assert (bright[0] > bright[1]) == (scheme == "light")
    captions = "[...document.querySelectorAll('caption')].map((part) => part.getBoundingClientRect().right)"
    assert max(opened.run(captions)) <= opened.run("document.body.clientWidth")


@pytest.mark.skipif(not AXE.exists(), reason="there is no axe: npm install --no-save axe-core")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault_and_would_find_one(opened: Browser, scheme: str) -> None:
    opened.emulate(1200, 900, prefers_color_scheme=scheme)
    opened.run(f"{AXE.read_text()};0")
    assert opened.run(FAULTS) == []
    opened.run("document.querySelector('figure img').removeAttribute('alt')")
    assert [fault.split(":")[0] for fault in opened.run(FAULTS)] == ["image-alt"]


def test_every_part_has_its_heading_and_an_id_of_its_own(opened: Browser) -> None:
    """The explorer takes a place of its own: it does not replace the heading above it."""
    assert opened.run("[...document.querySelectorAll('main > section')].every((part) => part.querySelector('h2'))")
    ids = opened.run("[...document.querySelectorAll('[id]')].map((part) => part.id)")
    assert len(ids) == len(set(ids))


def test_paper_has_all_options_and_nothing_to_click(opened: Browser) -> None:
    assert not opened.run("[...document.querySelectorAll('details')].some((part) => part.open)")
    paper = opened.send("Page.printToPDF", paperWidth=8.27, paperHeight=11.69)["data"]
    assert len(paper) > 10_000
    assert opened.run("[...document.querySelectorAll('details')].every((part) => part.open)")
    opened.send("Emulation.setEmulatedMedia", media="print")
    hidden = "getComputedStyle(document.querySelector('%s')).display"
    assert [opened.run(hidden % part) for part in ("nav", "#explorer", "th button")] == ["none"] * 3
    assert opened.run("document.querySelector('table.comparison').scrollWidth <= document.body.clientWidth")
