"""Text files as programs write them: the numbers, and nothing but them, become x."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pyrovae import InvalidInputError, load_data

X = np.random.default_rng(0).normal(size=(60, 3)).round(4)


def lines(separator: str = ",", header: str = "a,b,c", decimal: str = ".", quote: str = "", end: str = "\n") -> str:
    rows = [separator.join(f"{quote}{value!r}{quote}".replace(".", decimal) for value in row) for row in X.tolist()]
    names = separator.join(f"{quote}{name}{quote}" for name in header.split(","))
    return end.join([names, *rows]) + end


def check(path: Path, names: tuple[str, ...] = ("a", "b", "c")) -> None:
    data = load_data(path)
    assert data.column_names == names
    assert torch.equal(data.train, torch.as_tensor(X).float()[data.train_rows])
    assert torch.equal(data.test, torch.as_tensor(X).float()[data.test_rows])


@pytest.mark.parametrize("separator", [",", ";", "\t", "|", " ", ", "])
def test_separators(tmp_path: Path, separator: str) -> None:
    (tmp_path / "x.csv").write_text(lines(separator))
    check(tmp_path / "x.csv")


@pytest.mark.parametrize("separator", [";", "\t"])
def test_decimal_commas(tmp_path: Path, separator: str) -> None:
    (tmp_path / "x.csv").write_text(lines(separator, decimal=","))
    check(tmp_path / "x.csv")


def test_quotes_comments_line_ends_and_names_behind_a_hash(tmp_path: Path) -> None:
    for number, text in enumerate([lines(quote='"'), "# exported\n" + lines(), lines(end="\r\n"), "# " + lines()]):
        path = tmp_path / f"{number}.csv"
        path.write_text(text, newline="")
        check(path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "x.csv").write_text(lines(header="größe,b,c"), encoding=encoding)
    check(tmp_path / "x.csv", ("größe", "b", "c"))


def test_other_encodings_are_named(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(lines(header="größe,b,c"), encoding="latin-1")
    with pytest.raises(InvalidInputError, match="not text in UTF-8 or UTF-16: save it as UTF-8"):
        load_data(tmp_path / "x.csv")


def test_what_pandas_writes(tmp_path: Path) -> None:
    """An index without a name is no column, and counted columns are no point."""
    pandas = pytest.importorskip("pandas")
    path, table = tmp_path / "x.csv", pandas.DataFrame(X, columns=["a", "b", "c"])
    table.to_csv(path)
    check(path)
    table[::-1].to_csv(path)  # an index in another order
    assert load_data(path).dim == 3
    pandas.DataFrame(X).to_csv(path, index=False)
    check(path, ("0", "1", "2"))
    pandas.DataFrame(X).to_csv(path)
    check(path, ("0", "1", "2"))
    table.to_csv(tmp_path / "x.csv.gz", index=False)
    check(tmp_path / "x.csv.gz")
    table.to_csv(tmp_path / "x.tsv", sep="\t", index=False)
    check(tmp_path / "x.tsv")


def test_an_unnamed_column_of_real_numbers_stays(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(lines(header=",b,c"))
    check(tmp_path / "x.csv", ("column 0", "b", "c"))


# columns of labels and of text


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    path = tmp_path / "x.csv"
    kinds = np.where(X[:, 0] > 0, "cat", "dog")
    rows = [f"{a!r},{b!r},{c!r},{kind}" for (a, b, c), kind in zip(X.tolist(), kinds, strict=True)]
    path.write_text("\n".join(["a,b,c,class", *rows]) + "\n")
    return path


def test_a_label_is_taken_out_and_travels_along(labelled: Path) -> None:
    data = load_data(labelled, label="class")
    assert (data.column_names, data.label_names, data.notes) == (("a", "b", "c"), ("cat", "dog"), ())
    assert torch.equal(data.test_labels == 0, data.test[:, 0] > 0)
    assert torch.equal(data.train_labels == 0, data.train[:, 0] > 0)
    assert load_data(labelled, drop=["class", "b"]).column_names == ("a", "c")


def test_text_is_refused_with_the_choice_and_the_choice_works(labelled: Path) -> None:
    with pytest.raises(
        InvalidInputError, match="text in column 'class': take it out with --drop class, .* --label class"
    ):
        load_data(labelled)
    with pytest.raises(
        InvalidInputError, match=r"no column 'klass' \(did you mean 'class'\?\): --label takes one of a, b, c, class"
    ):
        load_data(labelled, label="klass")
    assert load_data(labelled, drop=["class"]).dim == 3


@pytest.mark.parametrize("place", [0, 3])
def test_a_column_that_is_likely_a_label_is_said(tmp_path: Path, place: int, caplog: pytest.LogCaptureFixture) -> None:
    values = np.insert(np.random.default_rng(1).integers(0, 99, (40, 3)), place, np.arange(40) % 10, axis=1)
    names = ["age", "children", "rooms"]
    names.insert(place, "Target")
    np.savetxt(tmp_path / "x.csv", values, fmt="%d", delimiter=",", header=",".join(names), comments="")
    data = load_data(tmp_path / "x.csv")
    assert data.notes == (
        "Column 'Target' is a part of x. If it holds labels, take it out: --label Target, or --drop.",
    )
    assert data.notes[0] in caplog.text
    taken = load_data(tmp_path / "x.csv", label="Target")
    assert (taken.dim, taken.notes) == (3, ())
    assert torch.equal(taken.test_labels, torch.as_tensor(np.arange(40) % 10)[taken.test_rows])


def test_columns_of_an_array_go_by_number(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    data = load_data(tmp_path / "x.npy", drop=["1"])
    assert torch.equal(data.test, torch.as_tensor(X[:, [0, 2]]).float()[data.test_rows])
    np.savez(tmp_path / "x.npz", X=X, y=np.arange(60) % 2)
    assert torch.equal(load_data(tmp_path / "x.npz").test_labels, load_data(tmp_path / "x.npz").test_rows % 2)
