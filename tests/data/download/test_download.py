"""From a name to a dataset's folder: the chain of hosts, what is said, and what is left behind."""

import errno
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import tiny_rows, write_dataset
from hosts import (
    WORDS,
    body,
    captive_portal,
    cut,
    edition,
    edition_zip,
    refusal,
    silent,
    three_hosts,
    zip_of,
)

from recbole_genci.cli import main
from recbole_genci.config import Config
from recbole_genci.data import create_dataset
from recbole_genci.data.download import archive, convert, dataset, find_or_download
from recbole_genci.data.prepare.__main__ import main as prepare

ROWS = {"rows": 180, "users": 12, "items": 20}


@pytest.fixture
def hosts(tmp_path, monkeypatch):
    with three_hosts(tmp_path, monkeypatch) as hosts:
        yield hosts


def offer(hosts, name="ml-1m", **facts):
    """Put a small edition into the list, which no host gives yet; returns its zip."""
    folder, content = edition_zip(name)
    hosts.offer(name, content, folder, **facts)
    return content


def atomic_zip(name="ml-1m", old_name=None):
    """What RecBole's store has: atomic files, made from the small edition."""
    old_name = old_name or name
    folder, files = edition(name)
    for path, content in files.items():
        Path(f"as_published/{path}").parent.mkdir(parents=True, exist_ok=True)
        Path(f"as_published/{path}").write_text(content)
    assert (
        prepare(
            [
                "--format=movielens",
                f"--input=as_published/{folder}",
                f"--dataset={old_name}",
                "--output=made",
            ]
        )
        == 0
    )
    content = zip_of(
        {f.name: f.read_bytes() for f in Path(f"made/{old_name}").iterdir() if f.suffix != ".json"}
    )
    shutil.rmtree("made")
    shutil.rmtree("as_published")
    return content


def config(name, **keys):
    return Config(
        "LR", name, config_dict={"data_path": "data", "gpu_id": "", "state": "INFO"} | keys
    )


def refused(capsys, name="ml-1m", *words):
    """The sentence of a command that cannot have its data; nothing may be left behind."""
    before = sorted(os.listdir("."))
    assert main([*WORDS, f"--dataset={name}", *words]) == 2
    printed = capsys.readouterr().err
    lines = [line for line in printed.splitlines() if line.startswith("recbole_genci: ")]
    assert len(lines) == 1 and printed.endswith(lines[0] + "\n"), printed
    assert "Traceback" not in printed
    assert sorted(os.listdir(".")) == before
    return lines[0]


# ---------------------------------------------------------------- the way it should go


@pytest.mark.parametrize(
    "name", ["ml-1m", "ml-10m", "ml-20m", "ml-25m", "ml-32m", "ml-latest-small"]
)
def test_an_edition_by_name_is_downloaded_prepared_and_trained_on(hosts, capsys, name):
    content = offer(hosts, name)
    hosts.grouplens.answer = body(content)
    assert main([*WORDS, f"--dataset={name}"]) == 0
    folder = Path("dataset") / name
    suffixes = ["inter", "item", "user"] if name == "ml-1m" else ["inter", "item"]
    assert sorted(p.name for p in folder.iterdir()) == [
        *(f"{name}.{s}" for s in suffixes),
        "provenance.json",
    ]
    assert os.listdir("dataset") == [name]
    assert oct(folder.stat().st_mode & 0o777) == oct(0o777 & ~_umask())
    provenance = json.loads((folder / "provenance.json").read_text())
    assert provenance["download"]["source"] == "GroupLens"
    assert provenance["download"]["url"] == f"{hosts.grouplens.url}/movielens/{name}.zip"
    assert (
        provenance["download"]["bytes"] == len(content)
        and len(provenance["download"]["sha256"]) == 64
    )
    assert {key: provenance["counts"][key] for key in ROWS} == ROWS
    assert hosts.mirror.asked == hosts.store.asked == []
    # The second run asks nobody.
    assert main([*WORDS, f"--dataset={name}"]) == 0
    assert len(hosts.grouplens.asked) == 1


def _umask():
    umask = os.umask(0)
    os.umask(umask)
    return umask


def test_ml100k_without_its_package_is_downloaded_too(hosts, tmp_path):
    hosts.grouplens.answer = body(offer(hosts, "ml-100k"))
    keys = config("ml-100k")
    keys["data_path"] = str(tmp_path / "data/ml-100k")
    assert len(create_dataset(keys).inter_feat) == 144  # a fifth is rated 3
    assert sorted(os.listdir("data/ml-100k")) == [
        "ml-100k.inter",
        "ml-100k.item",
        "ml-100k.user",
        "provenance.json",
    ]


@pytest.mark.parametrize("name", ["ml-10m", "ml-latest-small"])
def test_half_stars_above_3_are_clicks_and_below_are_none(hosts, name):
    hosts.grouplens.answer = body(offer(hosts, name))
    data = create_dataset(config(name))
    stars = {
        tuple(line.split("\t")[:2]): float(line.split("\t")[2])
        for line in Path(f"data/{name}/{name}.inter").read_text().splitlines()[1:]
    }
    assert set(stars.values()) == {1, 2.5, 3, 3.5, 5}
    feat, tokens = data.inter_feat, data.field2id_token
    seen = {
        (str(tokens["user_id"][u]), str(tokens["item_id"][i])): label
        for u, i, label in zip(feat.user_id.tolist(), feat.item_id.tolist(), feat.label.tolist())
    }
    assert seen == {pair: float(star > 3) for pair, star in stars.items() if star != 3}


@pytest.mark.parametrize("alive", ["mirror", "store"])
def test_a_dead_host_is_followed_by_the_next(hosts, alive, caplog):
    content = offer(hosts, counts=ROWS)
    hosts.grouplens.answer = refusal(403)
    if alive == "mirror":
        hosts.mirror.answer = body(content)
    else:
        hosts.mirror.close()
        hosts.store.answer = body(atomic_zip())
    with caplog.at_level("INFO"):
        assert len(create_dataset(config("ml-1m")).inter_feat) == 144
    assert len(hosts.grouplens.asked) == 2  # two tries
    assert json.loads(Path("data/ml-1m/provenance.json").read_text())["download"]["source"] == (
        "the mirror" if alive == "mirror" else "RecBole's store"
    )
    size = f"{len(content) / 1000:.1f} kB"
    said = [record.getMessage() for record in caplog.records]
    assert (
        f"Downloading ml-1m.zip ({size}) from GroupLens, {hosts.grouplens.url}/movielens/ml-1m.zip"
        in said
    )
    assert (
        "GroupLens: 403 Forbidden. Trying once more." in said
        and "GroupLens: 403 Forbidden." in said
    )
    assert any(line.endswith(" received; making data/ml-1m") for line in said)


def test_a_second_try_is_enough(hosts):
    content = offer(hosts)
    answers = [cut(content), body(content)]
    hosts.grouplens.answer = lambda handler, stop: answers.pop(0)(handler, stop)
    assert len(create_dataset(config("ml-1m")).inter_feat) == 144
    assert hosts.mirror.asked == []


def test_recboles_other_names_are_renamed_and_may_lie_in_a_folder(hosts):
    files = write_dataset(Path("origin"), tiny_rows(), name="AniMe_old")
    archive = zip_of(
        {f"AniMe_old/{f.name}": f.read_bytes() for f in Path("origin/AniMe_old").iterdir()}
    )
    hosts.urls["anime"] = f"{hosts.store.url}/Anime/AniMe_old.zip"
    hosts.store.answer = body(archive, announced=False)
    data = create_dataset(config("anime", load_col=files["load_col"]))
    assert len(data.inter_feat) == len(tiny_rows())
    assert sorted(os.listdir("data/anime")) == [
        "anime.inter",
        "anime.item",
        "anime.user",
        "provenance.json",
    ]


def test_a_process_that_was_slower_takes_what_is_there(hosts, monkeypatch):
    content = offer(hosts)
    hosts.grouplens.answer = body(content)
    build = convert.build_dataset

    def build_twice(raw, *words, **keys):
        build(raw, *words, **keys)
        return build(raw, *words, **keys)

    monkeypatch.setattr(convert, "build_dataset", build_twice)
    assert len(create_dataset(config("ml-1m")).inter_feat) == 144
    assert os.listdir("data") == ["ml-1m"]


# ---------------------------------------------------------------- what hosts do wrong


def test_all_hosts_dead_is_one_sentence_that_names_them_and_two_ways_out(hosts, capsys):
    offer(hosts)
    hosts.grouplens.close()
    hosts.mirror.answer = silent
    hosts.store.answer = refusal(403)
    sentence = refused(capsys)
    assert "dataset: dataset/ml-1m does not exist and ml-1m could not be downloaded" in sentence
    assert (
        f"GroupLens ({hosts.grouplens.url}/movielens/ml-1m.zip): connection refused; " in sentence
    )
    assert (
        f"the mirror ({hosts.mirror.url}/resolve/main/ml-1m.zip): silence for 0.4 s; " in sentence
    )
    assert (
        f"RecBole's store ({hosts.store.url}/ProcessedDatasets/ml-1m.zip): 403 Forbidden. "
        in sentence
    )
    assert "python -m recbole_genci.data.prepare --format=movielens --input=<unpacked " in sentence
    assert "folder> --dataset=ml-1m, or point" in sentence
    assert sentence.endswith("point --data_path at the folder that holds ml-1m/.")
    assert len(hosts.mirror.asked) == len(hosts.store.asked) == 2


def test_the_way_out_names_the_users_own_folder(hosts, capsys):
    offer(hosts)
    sentence = refused(capsys, "ml-1m", "--data_path=else/where")
    assert "--dataset=ml-1m --output=else/where, or point" in sentence
    sentence = refused(capsys, "anime")
    assert (
        "Either put anime.inter (and .user, .item) into dataset/anime, or point" in sentence
        and "prepare" not in sentence
    )


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("403", "403 Forbidden"),
        ("404", "404 Not Found"),
        ("portal", "a web page instead of a zip file"),
        ("cut", "the connection broke off after"),
        ("silent", "silence for 0.4 s"),
        ("hash", "another file than the published one (SHA256 "),
        ("dots", "the member '../../ml-1m/ml-1m.inter', which would be written outside its folder"),
        ("absolute", "the member '/tmp/ml-1m.inter', which would be written outside its folder"),
        ("bomb", "a zip file that would unpack to 10.0 GB, of at most"),
        ("other", "a zip file that does not hold ml-1m"),
        ("empty", "a zip file that does not hold ml-1m"),
    ],
)
def test_every_fault_at_every_host_ends_in_one_sentence_and_leaves_nothing(
    hosts, capsys, monkeypatch, name, reason
):
    content = offer(hosts)
    good = edition("ml-1m")[1]
    bad = {
        "dots": zip_of(good | {"../../ml-1m/ml-1m.inter": "x"}),
        "absolute": zip_of(good | {"/tmp/ml-1m.inter": "x"}),
        "bomb": _claims_ten_gigabytes(good),
        "other": zip_of(good | {"ml-1m/ratings.dat": "<html>\n" * 40}),
        "empty": zip_of({"another/ratings.dat": "1::1::5::1\n"}),
    }
    if name in bad:  # pinned, so that the archive's content is what is refused
        hosts.offer("ml-1m", bad[name], "ml-1m")
    changed = content[:-1] + bytes([content[-1] ^ 1])
    answer = {
        "403": refusal(403),
        "404": refusal(404),
        "portal": captive_portal(),
        "cut": cut(content),
        "silent": silent,
        "hash": body(changed),
    }.get(name) or body(bad[name])
    hosts.grouplens.answer = hosts.mirror.answer = answer
    hosts.store.answer = refusal(503)
    sentence = refused(capsys)
    assert sentence.count(reason) == 2 and "RecBole's store" in sentence, sentence


def _claims_ten_gigabytes(files):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, content in files.items():
            zipped.writestr(name, content)
        zipped.infolist()[0].file_size = 10 * 10**9
    return stream.getvalue()


def test_the_store_must_have_the_published_counts(hosts, capsys):
    offer(hosts, counts=ROWS | {"rows": 181})
    hosts.store.answer = body(atomic_zip())
    assert (
        "a dataset with 180 rows, 12 users, 20 items, not 181 rows, 12 users, 20 items"
        in refused(capsys)
    )
    hosts.store.answer = body(zip_of({"readme.txt": "x" * 100}))
    assert (
        "RecBole's store" in (said := refused(capsys))
        and "a zip file without a .inter file" in said
    )
    hosts.store.answer = body(zip_of({"another.inter": "x" * 100}))
    assert "a zip file whose another.inter is not named after ml-1m" in refused(capsys)


# ---------------------------------------------------------------- what this machine does wrong


def test_a_full_disk_is_said_before_anything_is_asked(hosts, capsys, monkeypatch):
    offer(hosts, bytes=5_917_549)
    monkeypatch.setattr(
        shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(10**12, 10**12 - 10**6, 10**6)
    )
    sentence = refused(capsys)
    assert "dataset: dataset/ml-1m needs about 71.0 MB while ml-1m.zip is prepared" in sentence
    assert "has 1.0 MB left" in sentence and "--data_path" in sentence
    assert hosts.grouplens.asked == []


@pytest.mark.parametrize("place", ["archive", "unpacking", "preparing"])
def test_a_disk_that_fills_up_is_one_sentence_and_no_host_is_blamed(
    hosts, capsys, monkeypatch, place
):
    hosts.grouplens.answer = body(offer(hosts))

    def full(*words, **keys):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if place == "archive":
        monkeypatch.setattr(dataset, "fetch", full)
    elif place == "unpacking":
        monkeypatch.setattr(archive, "_write_member", full)
    else:
        monkeypatch.setattr("recbole_genci.data.prepare.build.write_interactions", full)
    sentence = refused(capsys)
    assert "dataset: dataset/ml-1m could not be written (No space left on device). " in sentence
    assert "Free some space (ml-1m needs about" in sentence
    assert hosts.mirror.asked == []


LIMITED = """
import resource, sys
sys.path.insert(0, sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))
from pathlib import Path
from recbole_genci.data.download import dataset, sources
import yaml
urls = {"ml-1m": sys.argv[3]}
sources.downloads_file, sources.recbole_urls = lambda: Path(sys.argv[2]), lambda: urls
from recbole_genci.cli import main
sys.exit(main(["--model=LR", "--dataset=ml-1m", "--gpu_id="]))
"""


def test_a_write_that_the_system_really_refuses(hosts, tmp_path):
    """The process may write 1,500 bytes a file: the archive does not fit."""
    content = offer(hosts)
    assert len(content) > 1500
    hosts.grouplens.answer = body(content)
    root = str(Path(dataset.__file__).parents[3])
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            LIMITED,
            root,
            str(tmp_path / "downloads.yaml"),
            hosts.urls["ml-1m"],
        ],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": root},
    )
    assert done.returncode == 2, done.stderr
    assert (
        "dataset: dataset/ml-1m could not be written (File too large). Free some space"
        in done.stderr
    )
    assert "Traceback" not in done.stderr
    assert sorted(os.listdir(".")) == ["downloads.yaml"] and hosts.mirror.asked == []


def test_a_folder_that_cannot_be_written_is_said_before_anything_is_asked(hosts, capsys):
    hosts.grouplens.answer = body(offer(hosts))
    Path("file").write_text("in the way")
    sentence = refused(capsys, "ml-1m", "--data_path=file")
    assert "data_path: nothing can be written into file" in sentence
    # What a read-only disk says, to root as well.
    sentence = refused(capsys, "ml-1m", "--data_path=/proc/data")
    assert "data_path: nothing can be written into /proc/data" in sentence
    Path("dataset").mkdir()
    Path("dataset/ml-1m").write_text("in the way")
    assert "dataset: dataset/ml-1m is not a folder. Move it away" in refused(capsys)
    assert hosts.grouplens.asked == []


@pytest.mark.parametrize("moment", ["fetch", "unpack", "build_dataset"])
def test_ctrl_c_leaves_nothing(hosts, monkeypatch, moment):
    hosts.grouplens.answer = body(offer(hosts))
    module = dataset if moment == "fetch" else convert
    done = getattr(module, moment)

    def interrupted(*words, **keys):
        done(*words, **keys)
        if moment == "build_dataset":
            shutil.rmtree("data/ml-1m")
        raise KeyboardInterrupt

    monkeypatch.setattr(module, moment, interrupted)
    keys = config("ml-1m")
    before = sorted(os.listdir("."))
    with pytest.raises(KeyboardInterrupt):
        create_dataset(keys)
    assert sorted(os.listdir(".")) == before


def test_a_name_that_nobody_knows_is_refused_at_once(hosts, capsys):
    offer(hosts)
    sentence = refused(capsys, "ml-1n")
    assert "'ml-1n' is no name that can be downloaded. Did you mean 'ml-1m'" in sentence
    Path("dataset/shop").mkdir(parents=True)
    Path("dataset/shop/shop.inter").write_text("user_id:token\n")
    assert "Did you mean 'shop'? Put shop.inter (and" in refused(capsys, "shop.inter")
    assert hosts.grouplens.asked == []


def test_a_folder_that_is_there_asks_nobody(hosts):
    offer(hosts)
    Path("data/ml-1m").mkdir(parents=True)
    find_or_download(None, Path("data/ml-1m"))
    assert hosts.grouplens.asked == []
