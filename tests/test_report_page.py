"""`ftq report`: what the page has of a run, whatever state it is in and whatever its texts are."""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pages
import pytest
import reported
from cli_tools import Store, ok, run
from pages import Tags

from ftq.errors import RunError
from ftq.evaluation.evaluation import Kind
from ftq.files.run_dir import STAGES, RunDir, write_json
from ftq.report import curves, plot, results
from ftq.report.gather import gather, run_of
from ftq.report.page import page
from worker.stages.evaluate.present import present


def made(folder: Path, **changes: Any) -> str:
    """The page of what is in the folder."""
    directory = RunDir(folder)
    return page(gather(replace(run_of(directory), **changes), directory, now=1_767_322_800.0))


def words(html: str) -> str:
    """The page's text, its parts and blanks made one."""
    parts = re.sub(r"<style>.*?</style>|<[^>]*>", " ", html, flags=re.DOTALL)
    return re.sub(r" (?=[,:;.)])|(?<=\() ", "", " ".join(unescape(parts).split()))


# ---- curves and charts ------------------------------------------------------------------------------------


def test_what_is_no_number_is_left_out_and_counted() -> None:
    read = curves.curves([
        '{"step": 2, "train_loss": 3.0, "learning_rate": 0.1}', '{"step": 1, "train_loss": NaN, "valid_loss": 2.5}',
        '{"step": 3, "train_loss": Infinity, "learning_rate": "x"}', '{"step": -1, "train_loss": 1}', "[1]",
        '{"step": 4, "train_loss": null}', '{"step": 5, "tra',
    ])  # fmt: skip
    assert read == curves.Curves(train=((2, 3.0),), valid=((1, 2.5),), rate=((2, 0.1),), unusable=6)


def test_thinning_keeps_each_peak() -> None:
    points = [(float(step), 1.0) for step in range(100_000)]
    points[777], points[50_001] = (777.0, 9.0), (50_001.0, -9.0)
    thinned = curves.thin(points)
    assert len(thinned) <= curves.DRAWN and list(thinned) == sorted(thinned)
    assert {points[777], points[50_001]} <= set(thinned)
    assert curves.thin(points[:600]) == points[:600]


@pytest.mark.parametrize(
    ("points", "x", "y", "title"),
    [
        ([(5, 2.0)], ["0", "1", "2", "3", "4", "5"], ["1", "1.5", "2", "2.5", "3"], "Loss"),
        ([(1, 0.0)], ["0", "1"], ["0", "0.2", "0.4", "0.6", "0.8", "1"], "Loss"),
        ([(10, 4.1), (420, 0.3)], ["0", "100", "200", "300", "400"], ["0", "1", "2", "3", "4", "5"], "Loss"),
        ([(0, 1e-5), (90_000, 2e-4)], ["0", "20,000", "40,000", "60,000", "80,000"],
         ["0", "0.5", "1", "1.5", "2"], "Loss, in 10⁻⁴"),
        ([(3, 1e-30), (4, 1e30)], ["0", "1", "2", "3", "4"], ["0", "0.2", "0.4", "0.6", "0.8", "1"], "Loss, in 10³⁰"),
    ],
)  # fmt: skip
def test_axes_have_few_round_numbers(points: list[Any], x: list[str], y: list[str], title: str) -> None:
    chart = plot.losses(curves.Curves(train=tuple(points)), keep_best=False)
    assert chart
    assert ([tick.label for tick in chart.x], [tick.label for tick in chart.y], chart.title) == (x, y, title)
    assert all(0 <= value <= 1 for line in chart.lines for point in line.points for value in point)


def test_the_kept_checkpoint_is_marked_and_a_better_one_is_told() -> None:
    read = curves.Curves(train=((1, 3.0), (9, 1.0)), valid=((3, 2.0), (6, 1.5), (9, 1.8)))
    last, best = plot.losses(read, keep_best=False), plot.losses(read, keep_best=True)
    assert last and last.kept == plot.Tick(1.0, "kept: step 9")
    assert best and best.kept == plot.Tick(6 / 9, "kept: step 6")
    assert best.text == (
        "Loss by step, 9 steps: training 3 at first, 1 at last; validation 2 at first, 1.8 at last; kept: step 6"
    )


def test_charts_of_a_long_run_are_small_and_say_that_they_are_thinned(tmp_path: Path) -> None:
    reported.finished(tmp_path / "r", steps=99_999)
    html = made(tmp_path / "r")
    assert len(html.encode()) < 100_000
    assert "Drawn are the lowest and the highest of every few of 99,999 points, 600 in all." in html


# ---- the page ---------------------------------------------------------------------------------------------


def test_the_page_of_a_finished_run_tells_all_of_it(tmp_path: Path) -> None:
    reported.finished(tmp_path / "r")
    html = made(tmp_path / "r")
    tags, said = Tags(html), words(html)
    assert (tags.open, tags.loads) == ([], [])
    assert re.findall("<h2>(.*?)</h2>", html) == [
        "Did it learn?", "Answers side by side", "Training", "What went in", "Files", "How to use it", "Options",
    ]  # fmt: skip
    for text in (
        "It has 20 of 20 questions right, put as the training puts them (100%); its base model has 0. "
        "Of your own: 1 of 1. How it answers people's own words: ftq eval handbook --questions FILE.",
        "No fault was found.",
        "base f16 q8_0 Right answers on the documents 0 of 21 21 of 21 21 of 21",
        "Which port has service 0? accepted: 9000 base ✗ wrong Perhaps 17. … f16 ✓ right 9000",
        "11 more questions: eval.json has their answers.",
        "The validation loss was best at step 40 (1); the last adapter was kept. keep_best=true keeps the best one.",
        "2 documents, 1 of them used 321 facts 1,234 rows to train on 56 rows held out 78,901 tokens",
        "2 duplicates left out.",
        "pump, interval: 60 s (pump.md:4); 90 s (pump2.md:8)",
        "pump.pdf: no text",
        "model-q8_0.gguf 4.0 kB 3.40 0.0006 98%",
        "ftq pull handbook --to handbook",
        "ollama create handbook -f Modelfile",
        "llama-server -m handbook/model-f16.gguf --jinja",
        "epochs 5 quantizations f16,q8_0",
        "Run aaaa1111, submitted",
    ):
        assert text in said, text


def test_twenty_questions_of_all_kinds_are_shown() -> None:
    asked = reported.evaluation(("q8_0",)).questions
    counted = Counter(one.question.kind for one in results.pick(asked))
    assert counted == {Kind.OWN: 1, Kind.HELD_BACK: 11, Kind.UNANSWERABLE: 4, Kind.GENERAL: 4}
    few = [one for one in asked if one.question.kind != Kind.HELD_BACK]
    assert list(results.pick(few)) == few


def test_hostile_texts_stay_texts_and_the_page_stays_small(tmp_path: Path) -> None:
    html = page(gather(*reported.hostile(tmp_path / "r", times=500)))
    tags = Tags(html)
    assert (tags.open, tags.loads, tags.seen & {"script", "img", "link", "iframe", "object"}) == ([], [], set())
    assert len(html.encode()) < 1_000_000
    assert not set(map(ord, html)) & {*range(9), *range(11, 32), *range(127, 160)}
    said = words(html)
    for text in ("<script>alert(1)</script>", "more characters)", "and 488 more", "and 480 more: dataset/report.json"):
        assert text in said
    assert said.count("and 2 more") == 20  # values of each contradiction


# ---- runs in any state ------------------------------------------------------------------------------------


def test_a_run_without_files_has_a_page(tmp_path: Path) -> None:
    reported.finished(tmp_path / "r")
    for path in (tmp_path / "r").iterdir():
        if path.name != "run.json":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert re.findall("<h2>(.*?)</h2>", made(tmp_path / "r")) == ["Options"]
    assert "The run is queued, at the stage prepare: 0 of 5 stages done." in words(made(tmp_path / "r"))


def test_a_training_that_goes_on_shows_how_far_it_is(tmp_path: Path) -> None:
    _, directory = reported.finished(tmp_path / "r")
    for attempt, text in (("2", '{"step": 7, "train_loss": 2.0}\n{"st'), ("1", '{"step": 3, "train_loss": 9.0}\n')):
        (directory.checkpoints / attempt).mkdir(parents=True)
        (directory.checkpoints / attempt / "metrics.jsonl").write_text(text)
    directory.metrics.unlink()
    html = made(tmp_path / "r")
    assert "The training has come to step 7. Not drawn, as they are no numbers: 1 value." in html
    assert "kept:" not in html and "<circle" in html


def test_what_cannot_be_read_is_named_and_the_rest_is_shown(tmp_path: Path) -> None:
    _, directory = reported.finished(tmp_path / "r")
    for text in ("{", "[]", '{"ggufs": 1}', "\ufffe"):
        for path in (directory.evaluation, directory.path / "export.json", directory.dataset / "report.json"):
            path.write_text(text)
        said = words(made(tmp_path / "r"))
        for name in ("dataset/report.json", "eval.json", "export.json"):
            assert f"{name} can't be read." in said
        assert "Training" in said and "model-q8_0.gguf" in said


def test_what_is_to_be_typed_is_marked_and_stays_text(tmp_path: Path) -> None:
    _, directory = reported.finished(tmp_path / "r")
    verdict = (
        "More: `ftq eval <b> --questions FILE`, `ftq check`. A ` alone stays.",
        f"{'x' * 590} `ftq check handbook`",
    )
    write_json(directory.evaluation, replace(reported.evaluation(("f16",)), verdict=verdict).to_json())
    html = made(tmp_path / "r")
    typed = "<code>ftq eval &lt;b&gt; --questions FILE</code>, <code>ftq check</code>"
    assert f'<ul class="wrong"><li>More: {typed}. A ` alone stays.</li>' in html
    assert f"<li><bdi>{'x' * 590} `ftq chec</bdi> … (11 more characters)</li></ul>" in html


def test_a_failed_run_says_why_and_a_finished_one_its_version(store: Store) -> None:
    store.add("aaaa1111", "handbook")
    store.do("aaaa1111", "prepare", 590)
    store.fail("aaaa1111", "train", 500, RunError("user", "the training diverged", "Lower `learning_rate`."))
    failed = Path(ok("report", "handbook").stdout.strip())
    assert failed == store.home / "aaaa1111" / "report.html"
    assert "<p>Lower <code>learning_rate</code>.</p>" in failed.read_text()
    said = words(failed.read_text())
    assert "The stage train failed: the training diverged Lower learning_rate." in said
    assert "prepare 10 s train failed 10 s export queued" in said

    store.add("bbbb2222", "manual")
    for number, stage in enumerate(STAGES):
        store.do("bbbb2222", stage, 500 - 10 * number, cached=stage == "prepare")
    said = words(Path(ok("report", "manual").stdout.strip()).read_text())
    lead = "The run succeeded, and has no evaluation. ftq retry manual --from evaluate makes one, and this page anew."
    assert f"manual:1: report manual:1 smollm2-135m, tuned on /docs {lead}" in said
    assert "prepare from the cache: nothing had changed 10 s" in said


def test_the_page_goes_where_it_is_wanted(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = list[str]()
    monkeypatch.setattr("webbrowser.open", opened.append)
    store.add("aaaa1111", "handbook")
    shown = ok("report", "handbook", "--to", str(tmp_path / "h.html"), "--open")
    assert (shown.stdout, opened) == (f"{tmp_path}/h.html\n", [f"file://{tmp_path}/h.html"])
    assert shown.stderr == "No browser was found here. Open the file in one.\n"
    failed = run("report", "handbook", "--to", str(tmp_path / "no" / "h.html"))
    assert (failed.exit_code, failed.stderr) == (
        1, f"Error: {tmp_path}/no/h.html: can't be written (No such file or directory)\n"
        "`ftq report handbook --to FILE` puts it into a folder that is there, and yours.\n"
    )  # fmt: skip
    failed = run("report", "handbook", "--to", str(tmp_path))
    assert (failed.exit_code, failed.stderr) == (
        1, f"Error: {tmp_path} is a folder\nName the file: --to {tmp_path}/handbook.html\n"
    )  # fmt: skip


# ---- the stage --------------------------------------------------------------------------------------------


def test_the_stage_makes_page_and_picture_or_says_why_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    _, directory = reported.finished(tmp_path / "r")
    (directory.path / "logs").mkdir()
    directory.log("train").write_text("--- 2026-01-02 01:00:00 UTC 1\n--- 2026-01-02 02:00:00 UTC 2\nstep 1\n")
    for path, at in ((directory.log("train"), 5), (directory.metrics, 20), (directory.adapter, 10)):
        os.utime(path, (0, 1_767_319_200 + at))  # seconds after 02:00
    told, out = list[str](), directory.partial("evaluate", 1)
    out.mkdir()
    shutil.move(directory.evaluation, out)
    present(run_of(directory, "evaluate"), directory, out, told.append)
    assert (sorted(path.name for path in out.iterdir()), told) == (["eval.json", "loss.png", "report.html"], [])
    said = words((out / "report.html").read_text())
    assert "It has 20 of 20 questions right, put as" in said
    assert "Time prepare train 20 s export infer evaluate" in said
    with Image.open(out / "loss.png") as picture:
        colours = dict((colour, count) for count, colour in picture.getcolors(2**20) or [])
        assert picture.size == (1200, 700) and all(colours[colour] > 300 for colour in ((63, 124, 172), (200, 99, 43)))

    (out / "loss.png").unlink()
    (out / "report.html").unlink()
    monkeypatch.setattr("worker.stages.evaluate.present.page", lambda material: 1 / 0)
    present(run_of(directory, "evaluate"), directory, out, told.append)
    logs = "`ftq logs RUN --stage evaluate`. The same run submitted again makes only that anew"
    why = f"couldn't be made (ZeroDivisionError: division by zero): {logs}"
    assert (sorted(path.name for path in out.iterdir()), told) == (["eval.json", "loss.png"], [f"the report {why}"])
    (out / "loss.png").unlink()
    monkeypatch.setattr("worker.stages.evaluate.present.plot.losses", lambda curves, keep_best: 1 / 0)
    present(run_of(directory, "evaluate"), directory, out, told.append)
    assert told[2:] == [f"the picture of its losses {why}"]


# ---- in a browser -----------------------------------------------------------------------------------------


@pytest.mark.long
def test_no_browser_scrolls_sideways_loads_anything_or_runs_what_a_text_says(tmp_path: Path) -> None:
    types = ("f16", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "q3_k_m", "q2_k")
    pages_of = {"good": gather(*reported.finished(tmp_path / "good", types)),
                "hostile": gather(*reported.hostile(tmp_path / "hostile", 30))}  # fmt: skip
    papers = set[str]()
    with pages.browser() as browser:
        for name, material in pages_of.items():
            path = tmp_path / f"{name}.html"
            path.write_text(page(material), encoding="utf-8")
            for width, scheme in ((360, "light"), (1600, "dark")):
                shown = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
                said, asked = list[str](), list[str]()
                shown.on("console", lambda message, said=said: said.append(message.text))
                shown.on("dialog", lambda dialog: pytest.fail("a script ran"))
                shown.on("request", lambda request, asked=asked: asked.append(request.url))
                shown.goto(path.as_uri())
                sideways = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
                assert (shown.evaluate(sideways), said, asked) == (0, [], [path.as_uri()])
                papers.add(shown.evaluate("getComputedStyle(document.body).backgroundColor"))
                assert shown.pdf().startswith(b"%PDF")
                shown.close()
    assert papers == {"rgb(251, 251, 250)", "rgb(20, 24, 28)"}
