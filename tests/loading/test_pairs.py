import re
from pathlib import Path

import pyro
import pyro.distributions as dist
import pytest
import torch

import pyrovae
from pyrovae import InvalidInputError, available, load
from pyrovae.loading.pairs import plain
from pyrovae.runs import run as runs

MINE = '''"""A plain Gaussian: x ~ N(loc, 1).

More words.
"""
import pyro, pyro.distributions as dist, torch
TRAINING_DEFAULTS = {"epochs": 3}
class Scale:
    def __init__(self, value=1.0): self.value = value
def pair(dim, width=1.0, sizes=(3,), kind: type = Scale, note="plain"):
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(dim), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, width).to_event(1), obs=x)
    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x / 2, 0.5).to_event(1))
    return model, guide
'''


def write(path: Path, text: str = MINE) -> Path:
    path.write_text(text)
    return path


def refusal(call, *args, **kwargs) -> str:
    with pytest.raises(InvalidInputError) as caught:
        call(*args, **kwargs)
    return str(caught.value)


def test_every_built_in_loads_by_name() -> None:
    assert {"gmm", "ppca", "vae", "bernoulli_mixture", "bernoulli_pca"} <= set(available())
    for name in available():
        pair = load(name)
        assert (pair.name, pair.file) == (name, None)
        assert " ~ " in pair.summary or " = " in pair.summary  # its equation
        assert all(map(callable, pair(5)))


def test_options_reach_the_pair() -> None:
    model, guide = load("ppca")(6, latent=2, guide=pyrovae.guides.LinearGaussian)
    assert model.W.shape == (6, 2)
    assert isinstance(guide, pyrovae.guides.LinearGaussian)


def test_a_file_is_loaded_with_its_recipe_and_summary(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.py")
    pair = load(path)
    assert (pair.name, pair.file, pair.recipe) == ("mine", path.resolve(), {"epochs": 3})
    assert pair.summary == "A plain Gaussian: x ~ N(loc, 1)."
    assert list(pair.options) == ["width", "sizes", "kind", "note"]
    x = torch.randn(4, 2)
    assert load(str(path))(2, width=0.5)[0](x) is None


def test_a_file_without_docstring_or_recipe(tmp_path: Path) -> None:
    pair = load(write(tmp_path / "bare.py", "def pair(dim): return print, print\n"))
    assert pair.summary == "(the file has no docstring)"
    assert pair.recipe == {}


def test_unknown_model_suggests_the_nearest() -> None:
    message = refusal(load, "ppcca")
    assert "There is no model 'ppcca' (did you mean 'ppca'?)" in message
    assert "pca, ppca, vae" in message
    assert "did you mean" not in refusal(load, "zzz")


def test_files_that_are_no_models(tmp_path: Path) -> None:
    assert "There is no model file" in refusal(load, tmp_path / "none.py")
    assert "does not define pair: add a function pair(dim" in refusal(load, write(tmp_path / "a.py", "x = 1\n"))
    assert "does not define pair" in refusal(load, write(tmp_path / "b.py", "pair = 3\n"))
    assert "cannot be run: ZeroDivisionError: division by zero" in refusal(load, write(tmp_path / "c.py", "1 / 0\n"))
    assert "cannot be run: SyntaxError" in refusal(load, write(tmp_path / "d.py", "def pair(:\n"))
    assert "is not a Python file" in refusal(load, str(write(tmp_path / "e.txt", "")))


@pytest.mark.parametrize("returned", ["None", "print", "(print,)", "(print, 3)", "[print, print]"])
def test_pair_that_returns_something_else(tmp_path: Path, returned: str) -> None:
    pair = load(write(tmp_path / "mine.py", f"def pair(dim): return {returned}\n"))
    assert "pair(dim, **options) of mine must return (model, guide), two callables" in refusal(pair, 3)


def test_pair_that_cannot_be_built(tmp_path: Path) -> None:
    pair = load(write(tmp_path / "mine.py", "def pair(dim, n=1): return 1 / n\n"))
    assert "Building mine for x of 3 numbers with n=0 failed: ZeroDivisionError" in refusal(pair, 3, n=0)
    pair = load(write(tmp_path / "mine.py", "def pair(): return print, print\n"))
    assert "Building mine for x of 3 numbers with its own options failed: TypeError" in refusal(pair, 3)
    pair = load(
        write(tmp_path / "mine.py", "import pyrovae\ndef pair(dim): raise pyrovae.InvalidInputError('dim is odd')\n")
    )
    assert refusal(pair, 3) == "dim is odd"


def test_unknown_option_lists_the_known_ones(tmp_path: Path) -> None:
    message = refusal(load("ppca"), 4, laten=3)
    assert "ppca has no option 'laten' (did you mean 'latent'?); its options are: latent=" in message
    assert "guide=ExactPosterior" in message
    pair = load(write(tmp_path / "mine.py", "def pair(dim): return print, print\n"))
    assert "its options are: none." in refusal(pair, 3, n=0)


def test_a_pair_may_take_any_option(tmp_path: Path) -> None:
    text = "def pair(dim, **options): return (lambda x: options), print\n"
    model, _ = load(write(tmp_path / "mine.py", text))(3, width=5)
    assert model(None) == {"width": 5}


def test_two_pairs_of_one_file_share_nothing(tmp_path: Path) -> None:
    text = """import pyrovae, torch
class Model(pyrovae.Module):
    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.zeros(1))
def pair(dim): return Model(), print
"""
    pair = load(write(tmp_path / "mine.py", text))
    assert pair(3)[0].w is not pair(3)[0].w


# --set name=value


def parse(*settings: str, model: str = "vae") -> dict:
    return load(model).parse(settings)


def test_numbers_and_tuples() -> None:
    assert parse("latent=20", "hidden=200,100") == {"latent": 20, "hidden": (200, 100)}
    assert parse("hidden=200") == {"hidden": (200,)}
    assert parse("hidden=()") == {"hidden": ()}
    assert parse(" latent = 2 ") == {"latent": 2}
    assert parse("floor=1e-4", model="gmm") == {"floor": 1e-4}


def test_classes_by_name() -> None:
    assert parse("guide=FullCovariance") == {"guide": pyrovae.guides.FullCovariance}
    assert parse("covariance=Tied", model="gmm") == {"covariance": pyrovae.likelihoods.Tied}


def test_likelihoods_are_objects() -> None:
    options = parse("likelihood=FixedNormal(0.1)")
    assert isinstance(options["likelihood"], pyrovae.likelihoods.FixedNormal)
    assert options["likelihood"].sigma.item() == pytest.approx(0.1)
    assert isinstance(parse("likelihood=Bernoulli")["likelihood"], pyrovae.likelihoods.Bernoulli)
    assert parse("likelihood=PixelNormal(floor=0.5)")["likelihood"].floor == 0.5


def test_classes_and_words_of_the_users_file(tmp_path: Path) -> None:
    pair = load(write(tmp_path / "mine.py"))
    options = pair.parse(["kind=Scale(2.5)", "note=some words", "width=2"])
    assert (options["kind"].value, options["note"], options["width"]) == (2.5, "some words", 2)


def test_not_an_option() -> None:
    assert refusal(parse, "latent") == "'latent' is not an option: write name=value, for example latent=20."


@pytest.mark.parametrize(
    ("setting", "fragment"),
    [
        (
            "guide=FullCovarianc",
            "guide=FullCovarianc: 'FullCovarianc' is no number, and there is no class of that name (did you mean 'FullCovariance'?)",
        ),
        ("likelihood=Bernouli", "no class of that name (did you mean 'Bernoulli'?)"),
        ("likelihood=FixdNormal(0.1)", "no class of that name (did you mean 'FixedNormal'?)"),
        ("latent=twenty", "latent=twenty: 'twenty' is not a number"),
        ("hidden=wide", "hidden=wide: 'wide' is not a number; write hidden=200,200"),
        ("likelihood=FixedNormal", "'FixedNormal' cannot be made"),
        ("likelihood=FixedNormal()", "it is called as FixedNormal(sigma)"),
        ("likelihood=FixedNormal(0.1, 0.2)", "it is called as FixedNormal(sigma)"),
        ("likelihood=FixedNormal('a')", "'FixedNormal('a')' cannot be made"),
        ("likelihood=Normal(width=1)", "it is called as Normal(floor=0.0001)"),
        ("likelihood=Normal(latent)", "must be called with plain values, such as Normal(0.1)"),
        ("likelihood=Normal(*[1])", "must be called with plain values"),
        (
            "guide=FullCovariance,MeanField",
            "'FullCovariance,MeanField' is no number, and there is no class of that name",
        ),
        ("likelihood=Gaussian", "there is no class of that name; give one of Bernoulli, BernoulliMean, Categorical, "),
        ("likelihood=MeanField", "likelihood=MeanField: MeanField is no likelihood; give one of Bernoulli, "),
        ("likelihood=0.1", "likelihood=0.1: 0.1 is no likelihood; give one of Bernoulli, "),
        ("guide=Normal", "guide=Normal: Normal is no guide; give one of AffineCoupling, "),
        ("guide=MLP", "guide=MLP: MLP is no guide; give one of AffineCoupling, "),
        ("guide=3", "guide=3: 3 is no guide; give one of AffineCoupling, "),
        (
            "prior=IAF",
            "prior=IAF: IAF is no prior; give one of FlowPrior, MixtureOfGaussians, StandardNormal, VampPrior.",
        ),
        ("hidden=200,wide", "hidden=200,wide: '200,wide' is not a number"),
    ],
)
def test_settings_that_mean_nothing(setting: str, fragment: str) -> None:
    message = refusal(lambda: load("vae")(4, **parse(setting)))
    assert fragment in message


@pytest.mark.parametrize(
    ("setting", "fragment"),
    [
        ("latent=-1", "latent is -1: give a whole number, at least 1."),
        ("latent=2.5", "latent is 2.5: give a whole number, at least 1."),
        ("latent=MeanField", "'MeanField' cannot be made"),
        ("hidden=0.5", "layers of 16, 0.5, 8 units cannot be built: widths are whole numbers above 0"),
        ("prior=FixedNormal(3)", "prior=FixedNormal(3): FixedNormal(3) is no prior"),
        ("likelihood=FixedNormal(-1)", "sigma=-1 is no standard deviation"),
        ("likelihood=Normal(0)", "floor=0 is no floor of variances"),
    ],
)
def test_settings_of_which_no_model_can_be_made(setting: str, fragment: str) -> None:
    assert fragment in refusal(lambda: load("vae")(4, **parse(setting)))


@pytest.mark.parametrize("recipe", ["5", "{'learning_rate': 1}"])
def test_recipes_that_fit_does_not_know(tmp_path: Path, recipe: str) -> None:
    pair = load(write(tmp_path / "mine.py", f"TRAINING_DEFAULTS = {recipe}\ndef pair(dim): ..."))
    assert "TRAINING_DEFAULTS of mine must be a dictionary of batch_size, epochs, lr, steps" in refusal(
        lambda: pair.recipe
    )


def test_the_suffix_that_was_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("")
    assert "did you mean 'mine.py'?" in refusal(load, "mine")


OWN = """import pyrovae
class Mine(pyrovae.guides.MeanField): pass
class Wide:
    def __init__(self, width): self.width = width
number = 3
"""


def test_classes_of_a_file_of_ones_own(tmp_path: Path) -> None:
    path = write(tmp_path / "own.py", OWN)
    guide = parse(f"guide={path}:Mine")["guide"]
    assert issubclass(guide, pyrovae.guides.MeanField)
    assert guide.__name__ == "Mine"
    assert parse(f"likelihood={path}:Wide(2)")["likelihood"].width == 2
    assert parse(f"likelihood={path}:Wide(width=0.5)")["likelihood"].width == 0.5
    assert isinstance(load("vae")(4, guide=guide)[1], guide)


@pytest.mark.parametrize(
    ("setting", "fragment"),
    [
        ("guide=own.py:Mien", "own.py has no class 'Mien' (did you mean 'Mine'?)"),
        ("guide=own.py:number", "own.py has no class 'number'"),
        ("guide=own.py:MeanField", "own.py has no class 'MeanField'"),  # pyrovae's: no file before it
        ("guide=own.py", "guide=own.py names a file: write the class too, guide=own.py:Name."),
        ("guide=none.py:Mine", "There is no file none.py."),
        ("guide=broken.py:Mine", "broken.py cannot be run: ZeroDivisionError: division by zero"),
        ("likelihood=own.py:Wide", "'own.py:Wide' cannot be made: "),
        ("likelihood=own.py:Wide(latent)", "must be called with plain values"),
    ],
)
def test_files_that_do_not_have_the_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str, fragment: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "own.py", OWN)
    write(tmp_path / "broken.py", "1 / 0\n")
    assert fragment in refusal(parse, setting)


def test_an_option_that_the_pair_does_not_have_is_said_before_its_value_is_read() -> None:
    message = refusal(lambda: parse("likelihood=Gaussian", model="ppca"))
    assert "ppca has no option 'likelihood'; its options are: latent=" in message
    assert "mixture_ppca has no option 'guide'" in refusal(lambda: parse("guide=MeanField", model="mixture_ppca"))


REAL = "AffineCoupling, FullCovariance, IAF, LowRank, MeanField, Mixture, NeuralSpline"


@pytest.mark.parametrize(
    ("name", "guide", "taken"),
    [
        ("gmm", "MeanField", "AmortisedCategorical, ExactPosterior"),
        ("vae", "AmortisedCategorical", REAL),
        ("vae", "ExactPosterior", REAL),
        ("vae", "PerPoint", REAL),
        ("hierarchical_vae", "MeanField", "BottomUp, Ladder"),
        (
            "ppca",
            "AmortisedCategorical",
            REAL.replace("FullCovariance", "ExactPosterior, FullCovariance").replace(
                "LowRank", "LinearGaussian, LowRank"
            ),
        ),
    ],
)
def test_a_guide_that_the_pair_does_not_take_and_those_that_it_does(name: str, guide: str, taken: str) -> None:
    message = refusal(lambda: prepared(name, f"guide={guide}"))
    assert message == f"{name} takes no guide={guide}: it takes {taken}."
    for other in taken.split(", "):
        prepared(name, f"guide={other}")  # each of them is taken indeed


def test_what_else_is_wrong_is_not_laid_on_the_guide(tmp_path: Path) -> None:
    path = write(tmp_path / "own.py", OWN.replace(": pass", ":\n    def distribution(self, outputs): return 1 / 0"))
    assert "division by zero" in refusal(lambda: prepared("vae", f"guide={path}:Mine"))
    assert "latent is -1: give" in refusal(lambda: prepared("vae", "guide=LowRank", "latent=-1"))


def prepared(name: str, *options: str) -> runs.Run:
    told = {"source": "digits", "transform": None, "root": None, "seed": 0, "epochs": 1}
    return runs.prepare_run(load(name), pyrovae.load_data("digits"), options=list(options), **told)


def test_nothing_is_executed(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError):
        parse(f"likelihood=__import__('os').mkdir('{tmp_path / 'mark'}')")
    assert not (tmp_path / "mark").exists()


def test_plain_writes_what_parse_reads() -> None:
    assert [plain(v) for v in (20, (200, 100), pyrovae.likelihoods.Full, None)] == ["20", "200,100", "Full", "None"]


def test_a_loaded_pair_has_the_weights_of_its_definition(tmp_path: Path) -> None:
    """z ~ N(0, I), x|z ~ N(z, I), q the exact posterior N(x/2, I/2) up to its width: against N(x | 0, 2I)."""
    text = MINE.replace("dist.Normal(x / 2, 0.5)", "dist.Normal(x / 2, 0.5**0.5)")
    model, guide = load(write(tmp_path / "mine.py", text))(2)
    x = torch.randn(5, 2)
    exact = dist.Normal(0.0, 2**0.5).log_prob(x).sum(-1)
    assert torch.allclose(pyrovae.log_weights(model, guide, x, 3), exact.expand(3, 5), atol=1e-5)
    assert len(pyro.get_param_store()) == 0


@pytest.mark.parametrize(
    ("name", "text", "example"),
    [
        ("likelihood", "bernoulli", "likelihood=pyrovae.likelihoods.Bernoulli()"),
        ("prior", "flow", "prior=pyrovae.priors.FlowPrior()"),
        ("guide", "fullcovariance", "guide=pyrovae.guides.FullCovariance"),
    ],
)
def test_a_text_for_an_object_names_the_object(name, text, example):
    with pytest.raises(pyrovae.InvalidInputError, match=re.escape(f"such as {example}.")):
        pyrovae.load("vae")(4, **{name: text})


def test_an_option_of_your_own_may_be_a_text(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("def pair(dim, likelihood='normal'):\n    return (lambda x: None), (lambda x: None)\n")
    pyrovae.load(file)(4, likelihood="other")
