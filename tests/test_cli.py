"""The command line as a shell user meets it: output, exit codes, one line of error, no traceback."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import zeroshot
from zeroshot.cli import main
from zeroshot.cli.output import INTERRUPTED

IMAGES = Path(__file__).parent.parent / "examples" / "images"
CAT, COFFEE = str(IMAGES / "cat.jpg"), str(IMAGES / "coffee.jpg")
MINI = ("--model", "mini")


def run(*arguments: str) -> int:
    """Run in this process; argparse leaves by SystemExit."""
    try:
        return main(arguments)
    except SystemExit as stop:
        return int(stop.code or 0)


def test_table_shows_the_label_and_a_bar(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("classify", CAT, "--labels", "cat", "dog", *MINI) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("cat ")
    assert "%" in lines[0]
    assert "█" in lines[0]
    assert len(lines) == 2


def test_several_images_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("classify", CAT, COFFEE, "--labels", "cat", "cup of coffee", *MINI, "--top-k", "1") == 0
    lines = capsys.readouterr().out.split("\n")
    assert lines[0] == CAT
    assert lines[1].startswith("cat")
    assert lines[3] == COFFEE
    assert lines[4].startswith("cup of coffee")


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("classify", CAT, "--labels", "dog", "cat", "car", *MINI, "--top-k", "2", "--format", "json") == 0
    (result,) = json.loads(capsys.readouterr().out)
    assert result["image"] == CAT
    assert (result["label"], result["index"]) == ("cat", 1)
    assert result["top"][0]["label"] == "cat"
    assert len(result["top"]) == 2
    assert result["score"] == result["top"][0]["score"]


def test_csv(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("classify", CAT, "--labels", "dog", "cat", *MINI, "--format", "csv") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["rank"], row["label"], row["index"]) for row in rows] == [("1", "cat", "1"), ("2", "dog", "0")]
    assert sum(float(row["score"]) for row in rows) == pytest.approx(1, abs=1e-6)


def test_labels_from_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("cat\n\n  dog \n", encoding="utf-8")
    assert run("classify", CAT, "--labels-file", str(path), *MINI, "--format", "json") == 0
    (result,) = json.loads(capsys.readouterr().out)
    assert {match["label"] for match in result["top"]} == {"cat", "dog"}


def test_prompts_option_reaches_the_head(capsys: pytest.CaptureFixture[str]) -> None:
    scores = []
    for prompts in ("imagenet", "a sketch of a {}."):
        assert run("classify", CAT, "--labels", "cat", "dog", *MINI, "--prompts", prompts, "--format", "json") == 0
        scores.append(json.loads(capsys.readouterr().out)[0]["score"])
    assert scores[0] != scores[1]


@pytest.mark.parametrize(
    "options", [("--prompts", "{}", "a sketch of a {}."), ("--prompts", "{}", "--prompts", "a sketch of a {}.")]
)
def test_several_templates_before_the_images(options: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("classify", *options, CAT, "--labels", "cat", "dog", *MINI, "--json") == 0
    (result,) = json.loads(capsys.readouterr().out)
    expected = zeroshot.classify(CAT, ["cat", "dog"], prompts=["{}", "a sketch of a {}."], model="mini")
    assert result["score"] == pytest.approx(expected.score, abs=1e-6)


def test_a_broken_image_takes_nothing_from_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(Path(CAT).read_bytes()[:500])
    code = run("classify", str(broken), CAT, "missing.jpg", "--labels", "cat", "dog", *MINI, "--format", "json")
    captured = capsys.readouterr()
    results = json.loads(captured.out)
    assert code == 1
    assert [result["image"] for result in results] == [str(broken), CAT, "missing.jpg"]
    assert results[1]["label"] == "cat"
    assert "error" in results[0]
    assert "error" in results[2]
    assert len(captured.err.splitlines()) == 2  # one line each


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("classify", "missing.jpg", "--labels", "cat", "dog", *MINI), 1, "missing.jpg"),
        (("classify", CAT, *MINI), 1, "no labels"),
        (("classify", CAT, "--labels", " ", *MINI), 1, "blank"),
        (("classify", CAT, "--labels", "cat", "--model", "ViT-B-99/openai"), 1, "ViT-B-32/openai"),
        (("classify", CAT, "--labels", "cat", "--model", "ViT-B-32"), 1, "ViT-B-32/datacomp_xl_s13b_b90k"),
        (("classify", CAT, "--labels", "cat", *MINI, "--prompts", "imagenett"), 1, "'imagenet'"),
        (("classify", CAT, "--labels", "cat", *MINI, "--prompts", "{} and {}"), 1, "2 slots"),
        (("classify", CAT, "--labels", "cat", *MINI, "--device", "cuda:77"), 1, "cuda:77"),
        (("classify", CAT, "--labels-file", "missing.txt", *MINI), 1, "missing.txt"),
        (("classify", CAT, "--labels", "cat", *MINI, "--top-k", "0"), 2, "--top-k"),
        (("classify", "--labels", "cat"), 2, "IMAGE"),
        (("clasify", CAT), 2, "classify"),
        (("classify", "--labels", "cat", CAT, *MINI), 2, "put images before --labels"),
        (("classify", CAT, "--labels", "cat", COFFEE, *MINI), 2, f"{COFFEE!r} was read as a label; put images before"),
    ],
)
def test_mistakes_are_one_line(
    arguments: tuple[str, ...], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert captured.err.startswith("zeroshot: ")
    assert says in captured.err
    assert "Traceback" not in captured.err


def test_standard_input_and_a_reader_that_leaves() -> None:
    """As a process: an image from a pipe, and `| head`, whose closed pipe is no error."""
    command = [sys.executable, "-m", "zeroshot", "classify", "-", "--labels", "cat", "dog", *MINI]
    with Path(CAT).open("rb") as file:
        done = subprocess.run(command, stdin=file, capture_output=True, check=False)
    assert done.returncode == 0
    assert done.stdout.startswith(b"cat")
    listing = subprocess.Popen(
        [sys.executable, "-m", "zeroshot", "prompts"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert listing.stdout is not None
    assert listing.stderr is not None
    listing.stdout.close()
    assert listing.stderr.read() == b""
    listing.stderr.close()
    assert listing.wait() == 0


def test_models_lists_and_filters(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("models", "l-14/open", "--format", "csv") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["name"] for row in rows] == ["ViT-L-14/openai"]
    assert rows[0]["imagenet_top1"] == "75.54"
    assert rows[0]["mean"] == "0.48145466 0.4578275 0.40821073"


def test_models_as_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("models", "b-16-siglip2", "hf-*", "--sort", "accuracy") == 1  # a pattern fits the whole name
    assert run("models", "nllb", "*-siglip/*", "--sort", "accuracy") == 0
    assert capsys.readouterr().out == (
        "name                        params   px  top-1  needs         licence\n"
        "nllb-clip-large-siglip/v1   1196 M  384  51.8%  transformers  CC-BY-NC-4.0\n"
        "nllb-clip-base-siglip/v1     507 M  384  39.1%  transformers  CC-BY-NC-4.0\n"
        "nllb-clip-base-siglip/mrl    507 M  384         transformers  CC-BY-NC-4.0\n"
        "nllb-clip-large-siglip/mrl  1196 M  384         transformers  CC-BY-NC-4.0\n"
    )


def test_models_as_json_tell_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("models", "--format", "json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == [entry.name for entry in zeroshot.available_models()]
    tuples = [tuple(v) if isinstance(v, list) else v for v in rows[-1].values()]
    assert tuples[1:] == list(vars(zeroshot.available_models()[-1]).values())


def test_models_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("models", "--summary", "vit-h-14") == 0
    assert capsys.readouterr().out == (
        "family     core  tokenizers  transformers  total\n"
        "clip-vit      8           0             0      8\n"
        "clipa         0           3             0      3\n"
        "hf-text       0           0             1      1\n"
        "metaclip2     0           3             0      3\n"
        "all           8           6             1     15\n"
    )
    assert run("models", "--summary", "--format", "json") == 0
    families = {row.pop("family"): row for row in json.loads(capsys.readouterr().out)}
    everything = families.pop("all")
    assert everything["total"] == len(zeroshot.available_models())
    for kind, count in everything.items():
        assert count == sum(row[kind] for row in families.values())
    assert families["siglip"]["tokenizers"] == families["siglip"]["total"] > 0


def test_models_that_there_are_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("models", "no", "such", "thing", "--format", "json") == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "zeroshot: no model's name fits 'no such thing'; 'zeroshot models' lists all\n"
    assert run("models", "--sort", "speed") == 2


def test_prompts_list_and_show(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("prompts", "show", "food101", "--labels", "pizza") == 0
    assert capsys.readouterr().out == "a photo of pizza, a type of food.\n"
    assert run("prompts", "show", "fer2013") == 0
    assert "happy, smiling" in capsys.readouterr().out
    assert run("prompts") == 0
    bare = capsys.readouterr().out
    assert run("prompts", "list") == 0
    assert capsys.readouterr().out == bare
    assert "imagenet " in bare


def test_prompts_lint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("prompts", "lint", "food101") == 0
    assert capsys.readouterr().out == ""
    path = tmp_path / "mine.toml"
    path.write_text('templates = ["a photo of a {}."]\nclasses = ["AnnualCrop", "AnnualCrop"]\n', encoding="utf-8")
    assert run("prompts", "lint", str(path)) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{path}: repeated-name: 'AnnualCrop'")
    assert any("internal-name" in line for line in lines)


def test_prompts_compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, image in (("cat", CAT), ("cup of coffee", COFFEE)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "one.jpg").write_bytes(Path(image).read_bytes())
    picture = tmp_path / "comparison.svg"
    code = run("prompts", "compare", str(tmp_path), "--prompts", "photo", "plain", *MINI, "--svg", str(picture))
    printed = capsys.readouterr().out
    assert code == 0
    assert "photo" in printed
    assert "100.0%" in printed
    assert picture.read_text(encoding="utf-8").startswith("<svg")
    assert run("prompts", "compare", str(tmp_path / "nowhere"), "--prompts", "photo", *MINI) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


# ------------------------------------------------------------------------------------------------------- large jobs


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with ``photos``: two pictures, a broken one and a text."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, image in (("cat", CAT), ("coffee", COFFEE)):
        (folder / f"{name}.jpg").write_bytes(Path(image).read_bytes())
    (folder / "broken.jpg").write_bytes(Path(CAT).read_bytes()[:500])
    (folder / "notes.txt").touch()
    return tmp_path


THINGS = ("--labels", "cat", "cup of coffee", *MINI)


def test_a_folder_into_a_file(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("classify", "photos", *THINGS, "--out", "results.csv", "--top-k", "1", "--batch-size", "2") == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "zeroshot: 3 images in results.csv; failed: 1 ImageError; passed over: 1 .txt\n"
    rows = list(csv.DictReader(io.StringIO(Path("results.csv").read_text(encoding="utf-8"))))
    assert [(row["source"], row["label"], row["error"]) for row in rows] == [
        ("photos/broken.jpg", "", "ImageError"),
        ("photos/cat.jpg", "cat", ""),
        ("photos/coffee.jpg", "cup of coffee", ""),
    ]


def test_folders_patterns_and_lists_are_printed_too(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("names.txt").write_text("photos/coffee.jpg\n", encoding="utf-8")
    sources = ("photos", "photos/c*.jpg", "@names.txt")
    assert run("classify", *sources, *THINGS, "--json", "--batch-size", "2") == 1  # one is broken
    results = json.loads(capsys.readouterr().out)
    assert [(Path(result["image"]).stem, result.get("label")) for result in results] == [
        ("broken", None),
        *[("cat", "cat"), ("coffee", "cup of coffee")] * 2,
        ("coffee", "cup of coffee"),
    ]
    assert run("classify", "photos/ca*.jpg", *THINGS) == 0
    assert capsys.readouterr().out.startswith("photos/cat.jpg\ncat ")  # a pattern does not say which it is


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("classify", "nope.jpg"), "no image at 'nope.jpg'"),
        (("classify", "phtos", "--out", "x.csv"), "no image at 'phtos'"),
        (("classify", "photos", "nope*.jpg"), "nothing matches nope*.jpg"),
        (("embed", "phtos", "--out", "x.parquet"), "Did you mean 'photos'?"),
    ],
)
def test_images_are_looked_for_before_a_model(
    photos: Path, words: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = ("--labels", "cat", "dog") if words[0] == "classify" else ()
    assert run(*words, *labels, "--model", "/no/such/model") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line
    assert list(photos.glob("x.*")) == []


def test_a_job_in_which_nothing_fails_is_done(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("classify", "photos/c*.jpg", *THINGS, "--out", "results.jsonl", "--workers", "1") == 0
    assert capsys.readouterr().err == "zeroshot: 2 images in results.jsonl\n"


def test_a_job_is_not_done_over_unasked(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ("classify", "photos/cat.jpg", *THINGS, "--out", "results.csv")
    assert run(*command) == 0
    content = Path("results.csv").read_bytes()
    assert run(*command) == 1
    assert "results.csv exists; choose --resume or --overwrite, or another name" in capsys.readouterr().err
    assert run(*command, "--resume") == 0
    assert capsys.readouterr().err == "zeroshot: 1 image in results.csv, 1 of them done before\n"
    assert run(*command, "--resume", "--threshold", "1") == 1
    message = capsys.readouterr().err
    assert "whose threshold is 0.0 where this one has 1.0; run that one, or begin anew with --overwrite" in message
    assert Path("results.csv").read_bytes() == content
    assert run(*command, "--overwrite", "--threshold", "1") == 0
    assert Path("results.csv").read_bytes() != content


@pytest.mark.filterwarnings("ignore:'dog' is the only label")
def test_embeddings_are_made_once_and_scored_often(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("embed", "photos", *MINI, "--out", "photos.safetensors", "--stored-dtype", "float16") == 1
    assert "3 images in photos.safetensors; failed: 1 ImageError" in capsys.readouterr().err
    for path in list(Path("photos").iterdir()):
        path.unlink()
    labels = ("--labels", "cat", "cup of coffee")  # the model is the one of the embeddings
    assert run("classify", "--embeddings", "photos.safetensors", *labels, "--top-k", "1", "--format", "json") == 1
    captured = capsys.readouterr()
    results = json.loads(captured.out)
    assert [result.get("label") for result in results] == [None, "cat", "cup of coffee"]
    assert "photos/broken.jpg" in results[0]["error"]
    assert "photos/broken.jpg" in captured.err
    assert run("classify", "--embeddings", "photos.safetensors", *labels) == 1
    assert capsys.readouterr().out.startswith("photos/cat.jpg\ncat ")
    assert run("classify", "--embeddings", "photos.safetensors", "--labels", "dog", "--out", "results.csv") == 1
    assert Path("results.csv").read_text(encoding="utf-8").count(",dog,") == 4  # as the label and as the best of them


def test_embeddings_of_another_model(photos: Path, open_clip_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("embed", "photos/cat.jpg", "--model", str(open_clip_folder), "--out", "photos.safetensors") == 0
    capsys.readouterr()
    assert run("classify", "--embeddings", "photos.safetensors", *THINGS) == 1
    assert "photos.safetensors was made with another state of" in capsys.readouterr().err


def test_a_list_on_standard_input(photos: Path) -> None:
    command = [sys.executable, "-m", "zeroshot", "classify", "@-", *THINGS, "--out", "results.csv"]
    done = subprocess.run(command, input=b"photos/cat.jpg\nphotos/coffee.jpg\n", capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (0, b"")
    assert done.stderr == b"zeroshot: 2 images in results.csv\n"  # and no bar, which is for terminals


def test_work_is_shared_among_devices(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shared = ("--batch-size", "1", "--devices", "cpu", "cpu:0")  # two copies of the encoder
    assert run("classify", "photos", *THINGS, "--out", "results.csv", "--batch-size", "1") == 1
    assert run("classify", "photos", *THINGS, "--out", "shared.csv", *shared) == 1
    assert run("embed", "photos", *MINI, "--out", "alone.safetensors", "--batch-size", "1") == 1
    assert run("embed", "photos", *MINI, "--out", "shared.safetensors", *shared) == 1
    assert Path("shared.csv").read_bytes() == Path("results.csv").read_bytes()
    assert Path("shared.safetensors").read_bytes() == Path("alone.safetensors").read_bytes()
    assert len(capsys.readouterr().err.splitlines()) == 4


def test_the_limit_of_pixels_can_be_set(
    photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)  # put back afterwards
    with Image.open("photos/cat.jpg") as image:
        size = str(image.width * image.height)
    assert run("classify", "photos/cat.jpg", *THINGS, "--max-pixels", size) == 0
    assert run("classify", "photos/cat.jpg", *THINGS, "--max-pixels", "999") == 1
    captured = capsys.readouterr()
    assert captured.out.startswith("cat ")
    assert "if it is meant, raise PIL.Image.MAX_IMAGE_PIXELS (--max-pixels" in captured.err
    assert len(captured.err.splitlines()) == 1
    assert run("embed", "photos/c*.jpg", *MINI, "--out", "x.parquet", "--max-pixels", "999") == 1
    assert "failed: 2 ImageError" in capsys.readouterr().err


def test_what_pillow_says_of_nameless_files_is_not_shown(photos: Path) -> None:
    # In a process, since in this one pytest makes errors of warnings.
    exif = b"Exif\0\0II*\0\xff\xff\xff\xff"
    Image.open("photos/cat.jpg").save("photos/cat.jpg", exif=exif)
    command = [sys.executable, "-m", "zeroshot", "classify", "photos/cat.jpg", *THINGS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_file_that_cannot_be_written(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("classify", "photos", *THINGS, "--out", "photos/notes.txt/results.csv") == 1
    message = capsys.readouterr().err
    assert message.startswith("zeroshot: photos/notes.txt/results.csv cannot be written: ")
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("classify", CAT, "--embeddings", "x.safetensors", "--labels", "cat"), 2, "one of IMAGE and --embeddings"),
        (("classify", CAT, *THINGS, "--resume"), 2, "--resume, --overwrite and --devices go with --out"),
        (("classify", CAT, *THINGS, "--devices", "cpu"), 2, "--resume, --overwrite and --devices go with --out"),
        (("classify", CAT, *THINGS, "--out", "x.csv", "--devices", "cpu", "--device", "cpu"), 1, "both --device and"),
        (
            ("embed", CAT, *MINI, "--out", "x.safetensors", "--devices", "cpu", "cuda:99"),
            1,
            "'cuda:99' is not available",
        ),
        (("classify", CAT, *THINGS, "--out", "x.csv", "--format", "json"), 2, "the ending of --out"),
        (("classify", CAT, *THINGS, "--out", "x.txt"), 1, "expected one of .csv, .jsonl, .parquet"),
        (("classify", CAT, *THINGS, "--out", "x.csv", "--resume", "--overwrite"), 1, "both --resume and --overwrite"),
        (("classify", CAT, *THINGS, "--out", "photos"), 1, "expected one of .csv"),
        (("classify", "photos/*.gif", *THINGS, "--out", "x.csv"), 1, "nothing matches photos/*.gif"),
        (("classify", "@names.txt", *THINGS, "--out", "x.csv"), 1, "no list at names.txt"),
        (("classify", "--embeddings", "x.safetensors", "--labels", "cat"), 1, "x.safetensors cannot be read"),
        (("embed", CAT, *MINI), 2, "--out"),
        (("embed", "--out", "x.safetensors", *MINI), 2, "SOURCE"),
        (("embed", CAT, *MINI, "--out", "x.csv"), 1, "expected one of .safetensors, .parquet"),
        (("embed", CAT, *MINI, "--out", "x.safetensors", "--stored-dtype", "int8"), 2, "--stored-dtype"),
        (("embed", CAT, *MINI, "--out", "x.safetensors", "--batch-size", "0"), 2, "--batch-size"),
    ],
)
def test_mistakes_with_jobs_are_one_line(
    photos: Path, arguments: tuple[str, ...], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    test_mistakes_are_one_line(arguments, code, says, capsys)
    assert list(photos.glob("x.*")) == []


def test_options_may_come_before_images(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("cat\ndog\n", encoding="utf-8")
    assert run("classify", *MINI, "--labels-file", str(path), "--format", "csv", CAT) == 0
    assert "cat" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["classify", "embed"])
def test_help_of_jobs(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(command, "--help") == 0
    shown = capsys.readouterr().out
    assert "--resume" in shown
    assert "shard-{0000..0009}.tar" in "".join(shown.split())


def test_help_imports_nothing_heavy() -> None:
    # All groups of commands are imported for it.
    code = (
        "import sys; from zeroshot.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'PIL', 'huggingface_hub', 'fsspec'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "[]\n")
    assert done.stdout.startswith("usage: zeroshot ")


def test_an_interrupt_while_it_is_imported() -> None:
    code = (
        "import sys\n"
        "class Interrupted:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'zeroshot.cli.output': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupted())\n"
        "import runpy; runpy.run_module('zeroshot', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (INTERRUPTED, "")


@pytest.mark.parametrize("module", ["zeroshot", "zeroshot.cli"])
def test_as_a_module(module: str) -> None:
    done = subprocess.run([sys.executable, "-m", module, "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"zeroshot {zeroshot.__version__}\n", "")


@pytest.mark.filterwarnings("default::UserWarning")
def test_labels_with_commas_between_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("classify", CAT, *MINI, "--labels", "cat,dog") == 0
    comma, alone = capsys.readouterr().err.splitlines()
    assert comma == "zeroshot: warning: 'cat,dog' is taken as one label; labels are separated by spaces"
    assert alone.startswith("zeroshot: warning: 'cat,dog' is the only label")
