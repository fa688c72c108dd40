"""What is written beside every number: the revision of the code that made it."""

import subprocess

import pytest

from recbole_genci.utils import provenance

CODE = [
    "recbole_genci/run.py",
    "recbole_genci/new.py",
    "properties/overall.yaml",
    "run.py",
    "benchmarks/speed.py",
]
NOT_CODE = ["benchmarks/experiments/runs.jsonl", "benchmarks/experiments/new.jsonl", "README.md"]


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout with one commit of code, properties and records, from which ``provenance``
    believes to run.
    """
    for name in (
        "recbole_genci/run.py",
        "properties/overall.yaml",
        "benchmarks/experiments/runs.jsonl",
        "benchmarks/speed.py",
        "run.py",
        "README.md",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("one\n")

    def git(*words):
        return subprocess.run(
            ["git", "-C", tmp_path, "-c", "user.name=a", "-c", "user.email=a@b", *words],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()

    git("init")
    assert (tmp_path / ".git").exists()
    monkeypatch.setattr(
        provenance, "__file__", str(tmp_path / "recbole_genci" / "utils" / "provenance.py")
    )
    assert provenance.git_revision() is None  # no commit yet
    git("add", ".")
    git("commit", "-m", "one")
    return tmp_path, git("rev-parse", "HEAD")


def test_a_clean_checkout_has_its_revision(checkout):
    assert provenance.git_revision() == checkout[1]


@pytest.mark.parametrize("name", CODE)
def test_changed_or_new_code_is_said(checkout, name):
    folder, revision = checkout
    (folder / name).write_text("two\n")
    assert provenance.git_revision() == f"{revision}+changes"


@pytest.mark.parametrize("name", NOT_CODE)
def test_records_and_documents_are_no_changes_of_the_code(checkout, name):
    folder, revision = checkout
    (folder / name).write_text("two\n")
    assert provenance.git_revision() == revision


def test_outside_a_checkout_there_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr(
        provenance, "__file__", str(tmp_path / "recbole_genci" / "utils" / "provenance.py")
    )
    assert provenance.git_revision() is None
