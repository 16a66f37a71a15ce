"""Markdown and JSON into facts: each rule, what it must not take, and how long it may take."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ftq.facts import ALL, Cut, Fact, facts_in, facts_of, facts_of_json
from ftq.facts.blocks import SAID
from ftq.facts.checks import is_sentence, is_subject
from ftq.facts.inline import inline
from ftq.facts.place import stem_of
from ftq.facts.rules.english import as_purpose
from ftq.facts.rules.terms import TOO_MANY, option_name
from ftq.facts.sentences.split import sentences
from ftq.facts.structure import Document

Short = tuple[str, str, str, int]


def found(source: str, rules: str) -> list[Short]:
    facts = facts_of(source, "a.md", frozenset(rules))
    return [(fact.relation, fact.subject, fact.value, fact.line) for fact in facts]


def test_a_fact_says_where_it_stands() -> None:
    source = "# Shop\n\n## Tills\n\n| Till | Limit |\n|---|---|\n| `till_1` | 500 euros |\n"
    assert facts_of(source, "shop.md", frozenset("T")) == [
        Fact("`till_1`", "attribute", "500 euros", "", ("Shop", "Tills"), "shop.md", 7, "T", "Limit", "Till")
    ]


def test_rule_t_tells_defaults_and_meanings_from_other_columns() -> None:
    source = (
        "| # | Option | Default | Description | Since |\n|---|:-:|---|---|---|\n"
        "| 1 | `port` | 8080 | where the server *listens* | 2.1 |\n| 2 | `a\\|b` | - | ✓ | |\n"
    )
    assert found(source, "T") == [
        ("default", "`port`", "8080", 3),
        ("meaning", "`port`", "where the server listens", 3),
        ("attribute", "`port`", "2.1", 3),
    ]
    assert found("| Exit code | Meaning |\n|---|---|\n| 2 | bad usage |\n", "T") == [
        ("meaning", "Exit code 2", "bad usage", 3)
    ]


def test_rule_t_reads_tables_in_html_and_what_their_cells_list() -> None:
    source = (
        "# Alarms\n\n<table class='wide'>\n<thead><tr><th>Alarm</th>\n<th>Description</th></tr></thead>\n"
        "<tr><td>Red</td><td><p>The mill burns.</p><ul><li>No miller is in the house.</li>\n"
        "<li>Use <code>mill&nbsp;douse</code> at once.</li></ul></td></tr>\n"
        "<tr><td colspan=2>All above is grave.</td></tr>\n<tr><td>Green</td><td>Calm\n</table>\n\nMore.\n\n"
        "| Gate | Moves |\n|---|---|\n| Left | - with the wind<br>- by hand at night |\n\n"
        "<table><tr><td><img src='a'></td><td>a picture</td></tr></table>\n"
    )
    assert found(source, "T") == [
        ("meaning", "Red", "The mill burns. No miller is in the house. Use `mill douse` at once.", 6),
        ("item", "Red", "No miller is in the house.", 6),
        ("item", "Red", "Use `mill douse` at once.", 6),
        ("meaning", "Green", "Calm", 9),
        ("attribute", "Left", "- with the wind - by hand at night", 16),
        ("item", "Left", "with the wind", 16),
        ("item", "Left", "by hand at night", 16),
    ]


def test_rule_o_takes_the_sentence_below_a_heading_that_is_code() -> None:
    source = (
        "## `--prune`\n\nDeletes what is old. It asks first.\n\n### `fs.access(path[, mode])`\n\n"
        "Tests a path for access.\n\n"
        "### `image prune`\n\n!!! note\n    The server has to be up.\n\nRemoves all images there are.\n"
    )
    assert found(source, "O") == [
        ("meaning", "`--prune`", "Deletes what is old. It asks first.", 3),
        ("meaning", "`fs.access()`", "Tests a path for access.", 7),
        ("meaning", "`image prune`", "Removes all images there are.", 14),
    ]


def test_rule_d_reads_bold_terms_code_terms_and_definition_lists() -> None:
    source = (
        "**Lease**: the time for which a worker owns a stage.\n\n- `size` - the number of rows in a batch\n"
        "- Half-life: the time until half is gone\n- Note: this is no term at all\n\n"
        "Broker\n: The queue that carries the messages.\n\nWorker\n: The process that takes them.\n"
    )
    assert found(source, "D") == [
        ("meaning", "Lease", "the time for which a worker owns a stage.", 1),
        ("meaning", "`size`", "the number of rows in a batch", 3),
        ("meaning", "Half-life", "the time until half is gone", 4),
        ("meaning", "Broker", "The queue that carries the messages.", 7),
        ("meaning", "Worker", "The process that takes them.", 10),
    ]


def test_rule_c_finds_what_code_is_for() -> None:
    source = (
        "## Installing the tool\n\n```sh\npip install tool\n```\n\n## Daily use\n\n"
        "To list all runs, type:\n\n```sh\n$ tool ls\n```\n\n"
        "```bash\n# Delete old runs\ntool gc\n\ntool top  # watch the queue\n```\n\n"
        "```\n--all     show every run\n--json    print for programs\n```\n"
    )
    assert found(source, "C") == [
        ("command", "install the tool", "pip install tool", 4),
        ("command", "list all runs", "tool ls", 12),
        ("command", "delete old runs", "tool gc", 16),
        ("command", "watch the queue", "tool top", 19),
        ("meaning", "`--all`", "show every run", 23),
        ("meaning", "`--json`", "print for programs", 24),
    ]


def test_rule_c_wants_code_that_its_sentence_speaks_of() -> None:
    source = (
        "## Removing dust\n\nTo clean the hopper, wait for the evening.\n\n```sh\ngrind --coarse\n```\n\n"
        "To stop the mill, close its gate.\n\n```sh\nmill stop\n```\n"
    )
    assert found(source, "C") == [("command", "stop the mill", "mill stop", 12)]


def test_rule_b_blanks_whole_words() -> None:
    source = "The **art** of milling is very old.\n\nMillers get up before the sun in **art** schools of the town.\n"
    assert [fact.value for fact in facts_of(source, "a.md", frozenset("B"))] == ["art", "art"]
    source = "A **cart** and an **art** are told from each other. The department closes at noon on most days.\n"
    assert "art" not in [
        fact.value for fact in facts_of(source, "a.md", frozenset("B")) if "department" in fact.sentence
    ]


def test_rule_q_reads_question_headings_and_marked_questions() -> None:
    source = (
        "## What does it cost?\n\nIt costs nothing at all.\n\n## FAQ\n\n**Can I stop a run?**\n\n"
        "Yes, with the stop command.\n\n"
        "Q: Where are the logs?\nA: They are in the folder of the run.\n"
    )
    assert found(source, "Q") == [
        ("answer", "What does it cost?", "It costs nothing at all.", 1),
        ("answer", "Can I stop a run?", "Yes, with the stop command.", 7),
        ("answer", "Where are the logs?", "They are in the folder of the run.", 11),
    ]


def test_rule_q_reads_questions_that_open_their_answers() -> None:
    source = (
        "# Mill\n\n<details><summary>Can I visit the mill?</summary>No, please book a time.</details>\n\n"
        "<details>\n<summary><b>Do you repair mills?</b></summary>\n\nYes, we repair all mills.\n\n</details>\n"
        "<details><summary>Is it open now?</summary>\nIt is open <i>all day</i>.\n</details>\n\n"
        "<details><summary>Show more</summary>\nThe mill is old.\n</details>\n"
    )
    assert found(source, "Q") == [
        ("answer", "Can I visit the mill?", "No, please book a time.", 3),
        ("answer", "Do you repair mills?", "Yes, we repair all mills.", 6),
        ("answer", "Is it open now?", "It is open all day.", 11),
    ]
    assert "Show more" not in str(found(source, "HDPQ"))


def test_rule_q_reads_lines_that_ask() -> None:
    source = (
        "# Mill\n\n1) What are your hours?\nWe are open all day.\n\n2) Do you deliver flour?\n\n"
        "   Yes, near the mill.\n\nText.\n\n3) Is there a door?\n\nIt is next to the wheel.\n\n"
        "Q: Can I pay by card?\nA: Yes, we take all cards.\nQ: Is tipping usual?\nA: No, the price is all.\n"
        "Where can I park?\nBehind the mill are places.\n\n"
        "Is it said that we ask\nin the middle? Nobody is to know.\n\n"
        "- Is the door closed?\n- Is the light off?\n\nCall the miller of the mill.\n"
    )
    assert found(source, "Q") == [
        ("answer", "What are your hours?", "We are open all day.", 3),
        ("answer", "Do you deliver flour?", "Yes, near the mill.", 6),
        ("answer", "Is there a door?", "It is next to the wheel.", 12),
        ("answer", "Can I pay by card?", "Yes, we take all cards.", 16),
        ("answer", "Is tipping usual?", "No, the price is all.", 18),
        ("answer", "Where can I park?", "Behind the mill are places.", 20),
    ]


def test_rule_q_answers_with_a_whole_list_or_with_none_of_it() -> None:
    long = " ".join(["stones"] * 60)
    source = (
        "# Mill\n\n## What does the miller do?\n\n- grinds the corn,\n- cleans the stones.\n\n"
        f"## What is never done?\n\n1. {long}\n2. {long}\n\n"
        "## Answers\n\n- Q: Who opens it?\n- A: The miller opens it.\n"
    )
    assert found(source, "Q") == [
        ("answer", "What does the miller do?", "grinds the corn; cleans the stones", 3),
        ("answer", "Who opens it?", "The miller opens it.", 15),
    ]


def test_rule_l_needs_a_line_that_introduces_the_list() -> None:
    source = (
        "A run has these four stages:\n\n1. prepare\n2. train\n   - with a GPU\n3. export\n\n- alone\n- and alone\n"
    )
    assert found(source, "L") == [("list", "A run has these four stages", "prepare; train; export", 1)]


def test_rule_h_skips_headings_that_name_nothing() -> None:
    source = (
        "# Leases\n\nA lease ends after a minute. Then another worker goes on. A third sentence.\n\n"
        "## Example\n\nHere is one example.\n\n"
        "## Tokens\n\n> [!NOTE]\n> The token is new.\n\nA token opens the door.\n"
    )
    assert found(source, "H") == [
        ("lead", "Leases", "A lease ends after a minute. Then another worker goes on.", 3),
        ("lead", "Tokens", "A token opens the door.", 14),
    ]


def test_rule_s_reads_purposes_conditions_and_what_code_does() -> None:
    source = (
        "To keep the old files, pass the flag twice. If the disk is full, the run waits for room. "
        "`--json` prints the id\nand nothing else. A broker is a queue of messages.\n"
    )
    assert found(source, "S") == [
        ("purpose", "keep the old files", "To keep the old files, pass the flag twice.", 1),
        ("condition", "if the disk is full", "If the disk is full, the run waits for room.", 1),
        ("meaning", "`--json`", "`--json` prints the id and nothing else.", 1),
        ("meaning", "broker", "A broker is a queue of messages.", 2),
    ]


def test_rule_b_blanks_the_number_first_and_then_code() -> None:
    source = (
        "The lease of a worker ends after 60 seconds. The broker writes its log to `broker.log` every night. "
        "A lease is mortal by design of the house."
    )
    assert found(source, "B") == [
        ("term", "60 seconds", "60 seconds", 1),
        ("term", "`broker.log`", "`broker.log`", 1),
        ("term", "lease", "lease", 1),
    ]


def test_rule_p_takes_sentences_alone_or_with_their_heading() -> None:
    source = (
        "# Leases\n\nA lease ends after 60 seconds. It is never renewed by the broker.\n\n"
        "Please note that the lease of a worker is short. Also, it is never renewed by the queue.\n\n"
        "- too short\n- :tada: asks the worker once more before the end\n\n"
        "## Example\n\nIt shows what a lease looks like.\n\n## `prune`\n\nRemove all leases from the database.\n"
    )
    facts = facts_of(source, "a.md", frozenset("P"))
    assert [(fact.value, fact.attribute, fact.kind, fact.line) for fact in facts] == [
        ("A lease ends after 60 seconds.", "60 seconds", "", 3),
        ("It is never renewed by the broker.", "", "Leases", 3),
        ("The lease of a worker is short.", "", "", 5),
        ("It is never renewed by the queue.", "", "Leases", 5),
        ("asks the worker once more before the end", "", "Leases", 8),
        ("Remove all leases from the database.", "", "`prune`", 16),
    ]


def test_rule_f_reads_front_matter() -> None:
    source = "---\ntitle: Leases\ndescription: How long a worker owns a stage.\n---\n\n# Something\n"
    assert found(source, "F") == [("page", "Leases", "How long a worker owns a stage.", 3)]


def test_rule_k_reads_comments_of_keys_and_defaults() -> None:
    source = (
        "```toml\n# how long to wait for the broker\nwait = 5\nport = 80  # where the server listens\n"
        "```\n\n`wait` defaults to `5`.\n"
    )
    assert found(source, "K") == [
        ("meaning", "`wait`", "how long to wait for the broker", 3),
        ("meaning", "`port`", "where the server listens", 4),
        ("default", "`wait`", "`5`", 7),
    ]


COMPOSE = """Start it with this file:

```yaml
services:
  # security_opt is needed for rootless podman
  mill:
    image: mill/mill:1.7
    security_opt:
      - "label=type:container_runtime_t"
    environment:
      - "MILL_WORKERS=20"  # how many stones may turn at once
      - TZ=Europe/Paris
    deploy:
      placement:
        constraints:
          - node.role == manager
      timeout-minutes: 15
ports:
  - target: 80
    protocol: udp
  - target: 81
    protocol: tcp
run: |
  timeout: 5
on: # what begins it all
  push:
```
"""


def test_values_deep_in_an_example_are_asked_for_by_their_paths() -> None:
    assert [(fact.subject, fact.value, fact.line) for fact in facts_of(COMPOSE, "a.md") if fact.relation == "set"] == [
        ("`services.mill.image`", "`mill/mill:1.7`", 7),
        ("`MILL_WORKERS`", "`20`", 11),
        ("`TZ`", "`Europe/Paris`", 12),
        ("`services.mill.deploy.timeout-minutes`", "`15`", 17),
    ]
    said = [
        (fact.subject, fact.value) for fact in facts_of(COMPOSE, "a.md", frozenset("K")) if fact.relation == "meaning"
    ]
    assert said == [("`MILL_WORKERS`", "how many stones may turn at once"), ("`on`", "what begins it all")]


@pytest.mark.parametrize(
    "changed",
    [
        ("Start it with this file:", "You get this error:"),  # of what is wrong
        ("Start it with this file:", "This is a file."),  # that introduces nothing
        ("```yaml", "```python"),
        ("mill/mill:1.7", "<your image>"),
        (
            "    image: mill/mill:1.7",
            "    image: mill/mill:1.7\n```\n\nor:\n\n```yaml\nservices:\n  mill:\n    image: x/y",
        ),
    ],
)
def test_an_example_is_asked_for_where_it_is_one_and_its_value_is_known(changed: tuple[str, str]) -> None:
    found = facts_of(COMPOSE.replace(*changed), "a.md")
    assert not [fact for fact in found if fact.relation == "set" and fact.subject == "`services.mill.image`"]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (
            "env\n# Seconds until a session ends\nSESSION_TIMEOUT=30",
            [("`SESSION_TIMEOUT`", "Seconds until a session ends")],
        ),
        ("\n# where the data lies\n#DATA_DIR=/srv/data", []),  # nothing is set there
        ("ini\n# where the data lies\n#DATA_DIR=/srv/data", [("`DATA_DIR`", "where the data lies")]),
        ("ini\n[Service]\n# begins again after a crash\nRestart=always", [("`Restart`", "begins again after a crash")]),
        ("sh\nexport MILL_GATE=open  # which gate lets water in", [("`MILL_GATE`", "which gate lets water in")]),
        ("sh\nMILL_GATE=open mill start  # which gate lets water in", []),  # a command
        ("yaml\nGIT_DEPTH: 0  # avoid a shallow clone", [("`GIT_DEPTH: 0`", "avoid a shallow clone")]),
        ("conf\nplugin {\n  a_b = yes  # the plugin that grinds\n}", [("`plugin.a_b`", "the plugin that grinds")]),
        ("toml\n[mill.gate]\nwidth = 2  # room for the water", [("`mill.gate.width`", "room for the water")]),
        ("toml\n# All about the database\nhost = 'a'\nport = 5", []),  # on both
        ("yaml\n# - name: old\n#   how it was before\nname: new", []),  # an item that is switched off
        ("yaml\nport: 80  # change this to your port", []),
        ("yaml\nport: 80  # v2 (port of the old server)", []),
        ("yaml\nport: 80  # the server is old", []),  # of which the setting isn't
    ],
)
def test_comments_say_what_settings_are(code: str, said: list[tuple[str, str]]) -> None:
    facts = facts_of(f"# Mill\n\n```{code}\n```\n", "a.md", frozenset("K"))
    assert [(fact.subject, fact.value) for fact in facts if fact.relation == "meaning"] == said


def test_of_many_values_of_an_example_some_are_asked_for_and_the_others_told() -> None:
    cuts: list[Cut] = []
    lines = "\n".join(f"mill_{number}: {number}0" for number in range(30))
    (section,) = Document(f"Set these:\n\n```yaml\n{lines}\n```\n").sections()
    assert len(list(facts_in(section, "a.md", frozenset("K"), cuts))) == 24
    assert cuts == [Cut("a.md", 28, "value of an example", 6)]


def test_a_default_is_found_in_each_form_with_what_it_is_of() -> None:
    source = (
        "# Watch\n\n## `workers`\n\nMaximum number of workers at once. (default `10`)\n\n"
        "## `ask`\n\nAsk before each step. Needs `tty`.\n\nDefault: false\n\n"
        "## Flags\n\n- `--log <level>`: The level of the log (string, default: info)\n"
        "- `--all`: what is the default here\n\n"
        "| Name | Default | Description |\n|---|---|---|\n| `url` | `http://a` | URL of the server |\n"
        "| `text` | See [below](#text) | A text |\n| `hour` | | The hour to begin at. Defaults to 7. |\n\n"
        "```\n--config <PATH>  the file to read [env: MILL_FILE=] [default: mill.toml]\n"
        "--all  all of what there is (default false)\n```\n"
    )
    facts = facts_of(source, "a.md", frozenset("TKC"))
    assert [(f.subject, f.value) for f in facts if f.attribute == "environment variable"] == [
        ("`--config`", "MILL_FILE")
    ]
    assert [(f.subject, f.value, f.attribute, f.line) for f in facts if f.relation == "default"] == [
        ("`workers`", "`10`", "Maximum number of workers at once", 5),
        ("`ask`", "false", "", 11),
        ("`url`", "`http://a`", "URL of the server", 20),
        ("`hour`", "7", "hour to begin at", 22),
        ("`--log`", "info", "level of the log", 15),
        ("`--config`", "mill.toml", "file to read", 25),
        ("`--all`", "false", "", 26),
    ]


@pytest.mark.parametrize("code, name, short", [
    ("`-l, --log <level>`", "`--log`", "-l"), ("`--log`, `-l`", "`--log`", "-l"), ("`--log=LEVEL`", "`--log`", ""),
    ("`-l`, `--log`", "`--log`", "-l"), ("`--log [<LEVEL>]`", "`--log`", ""), ("`--log debug`", "`--log debug`", ""),
    ("`log <level>`", "`log <level>`", ""), ("`-l`", "`-l`", ""), ("`--[no-]log`", "`--[no-]log`", ""),
])  # fmt: skip
def test_an_option_is_called_by_its_long_name(code: str, name: str, short: str) -> None:
    assert option_name(code) == (name, short)


def test_what_has_to_be_given_is_a_fact() -> None:
    source = (
        "# Grind\n\n- `--corn <kind>`: The corn to grind (**required**)\n"
        "- `--fine`: Grind it twice (required if asked)\n\n"
        "## `gate`\n\n(Optional) Which gate to open.\n\n"
        "| Key | Description |\n|---|---|\n| `sack` | The sack (required) |\n"
    )
    needs = [fact for fact in facts_of(source, "a.md", frozenset("KT")) if fact.attribute == "required"]
    assert [(fact.subject, fact.value, fact.line) for fact in needs] == [
        ("`--corn`", "required", 3),
        ("`sack`", "required", 12),
        ("`gate`", "Optional", 8),
    ]


def test_rule_j_takes_the_keys_to_each_value() -> None:
    source = '{"planets": [{"name": "Mars", "moons": 2, "orbitDays": 687, "note": null, "host": {"mass": 1.5}}]}'
    assert [(fact.subject, fact.attribute, fact.value, fact.kind) for fact in facts_of_json(source, "p.json")] == [
        ("Mars", "moons", "2", "planet"),
        ("Mars", "orbit days", "687", "planet"),
        ("Mars host", "mass", "1.5", "host"),
    ]


@pytest.mark.parametrize(
    "source",
    [
        '[{"name": "Hose", "size": {"l": "20 m"}}, {"name": "Pipe", "size": {"l": "3 m"}}]',
        '{"products": [{"sku": "Hose", "size": {"l": "20 m"}}, {"sku": "Pipe", "size": {"l": "3 m"}}]}',
        '{"a": {"Hose": {"size": {"l": "20 m"}}, "Pipe": {"size": {"l": "3 m"}}}}',
        '{"a": [{"id": "Hose", "is": {"size": [{"l": "20 m"}]}}, {"id": "Pipe", "is": {"size": [{"l": "3 m"}]}}]}',
    ],
)
def test_what_is_a_part_of_a_record_is_called_after_it(source: str) -> None:
    """Two records have a size each: `size` alone names neither."""
    assert [(fact.subject, fact.value) for fact in facts_of_json(source, "p.json")] == [
        ("Hose size", "20 m"),
        ("Pipe size", "3 m"),
    ]
    lines = facts_of_json('{"id": "a", "size": 3}\nbroken\n{"id": "b", "size": 4}\n', "p.jsonl")
    assert [(fact.subject, fact.value, fact.line) for fact in lines] == [("a", "3", 1), ("b", "4", 3)]
    assert facts_of_json("[" * 100_000, "deep.json") == []


def test_markup_vanishes_and_links_become_their_text() -> None:
    source = (
        r"**A** [link](x(y) 'z'), [one][two], [defined], [none] and [[page|wiki]] "
        r"![alt](b.png)<b>x</b> `a ** b` \* snake_case <https://a.b>[^1]"
    )
    text = inline(source, {"defined"})
    assert text.text == "A link, one, defined, [none] and wiki x `a ** b` * snake_case https://a.b"
    assert text.bolds == ("A",)


def test_what_is_no_text_leaves_no_fact() -> None:
    source = (
        "---\nlayout: home\n---\nimport Tabs from '@theme/Tabs'\n\n<!-- The hidden sentence is never read. -->\n\n"
        "<script>\nThe script is never read by anyone here.\n</script>\n\n<div class='x'>\n\n"
        "::: tip Careful\nThe lease is a promise of one minute.\n:::\n\n!!! note\n"
        "    The broker is a queue of messages.\n\n"
        "> [!WARNING]\n> The worker is a process on a machine.\n\n"
        "[ref]: https://example.com 'The title is a text of words'\n"
    )
    assert found(source, "S") == [
        ("meaning", "lease", "The lease is a promise of one minute.", 15),
        ("meaning", "broker", "The broker is a queue of messages.", 19),
        ("meaning", "worker", "The worker is a process on a machine.", 22),
    ]


def test_what_a_heading_defines_is_its_text_however_deep() -> None:
    source = (
        "#### `MILL_PORT=<number>` {#port}\n\n: The port that the mill listens at.\n\n: Defaults to `8000`.\n\n"
        "    ```sh\n    mill start\n    ```\n\n## Gates\n\nA gate lets water in.\n\n    mill open\n"
    )
    assert found(source, "OK") == [
        ("meaning", "`MILL_PORT`", "The port that the mill listens at.", 3),
        ("default", "`MILL_PORT`", "`8000`", 5),
    ]
    first, second = list(Document(source).sections())[1:]
    assert [type(block).__name__ for block in first.blocks + second.blocks] == [
        "Paragraph",
        "Paragraph",
        "Code",
        "Paragraph",
        "Code",
    ]


@pytest.mark.parametrize("said", ["Defaults to no prefix.", "Defaults to `a` for Linux and `b` for macOS."])
def test_a_default_that_is_one_of_two_or_none_isnt_told(said: str) -> None:
    assert not found(f"## `mill_prefix`\n\n{said}\n", "K")


def test_notes_and_lists_of_any_mark_are_text() -> None:
    source = (
        "````{note}\n```{tip}\nThe lease is a promise of one minute.\n```\n````\n\n"
        '!!!info "Sizes"\n    The sizes are a promise of one month.\n!!!Note the signs are a part of it.\n'
        "Sizes:\n\n• `small` - the number of rows\n• [x] `large` - another number of rows\n\n"
    )
    assert found(source, "SD") == [
        ("meaning", "`small`", "the number of rows", 12),
        ("meaning", "`large`", "another number of rows", 13),
        ("meaning", "lease", "The lease is a promise of one minute.", 3),
        ("meaning", "sizes", "The sizes are a promise of one month.", 8),
    ]


def test_a_link_to_a_templates_address_is_its_text() -> None:
    assert inline('Use [sentence case]({{ "/style#case" | relative_url }}) and [b](c) here.').flat == (
        "Use sentence case and b here."
    )
    assert inline('See [leave]({% page "/leave/#sick" %}) or [it]({%- link it.md -%}#a).').flat == "See leave or it."


def test_sentences_end_at_full_stops_outside_code_and_abbreviations() -> None:
    assert [one.text for one in sentences("Oil, etc. It is etc. and so on.", 1)] == [
        "Oil, etc.",
        "It is etc. and so on.",
    ]
    text = "Use e.g. `a. B` here. Then\nDr. No waits! 你好。再见。"
    assert [(sentence.text, sentence.line) for sentence in sentences(text, 5)] == [
        ("Use e.g. `a. B` here.", 5),
        ("Then Dr. No waits!", 5),
        ("你好。", 6),
        ("再见。", 6),
    ]


@pytest.mark.parametrize("text", [
    "E27, max. 60 W",
    "Mon.-Fri. 9 a.m. - 5 p.m.",
    "Ali Demir, Tel. 0341 555 210, ext. 12, Mr. Brown",
    "Smith & Co. Ltd. 12 High St. Bristol, dept. 5, nos. 7 and 8, incl. VAT",
    "Der Preis beträgt z. B. 2026 etwa 2,10 €, d. h. Weizen, i. d. R. Mehl.",
    "jeden 1. Samstag im Monat, im 2. Stock, 3. Mahnung am 24. Dezember",
    "Mo.–Fr. 9–17 Uhr, Hauptstr. 5, inkl. Mehl, zzgl. Porto",
    "M. Brun, tél. 01 23 45, lun. 9 h – ven. 18 h, p. ex. Paris",
    "de 9 a. m. a 5 p. m., aprox. 3 h, Sra. Ruiz",
    "dott. Rossi, pag. 5, sab. 9",
    "dhr. Jansen, blz. 5, bijv. Brood, d.w.z. Meel",
    "Information on roles(i.e. Ann and Bob)",
])  # fmt: skip
def test_no_sentence_ends_at_an_abbreviation_or_an_ordinal(text: str) -> None:
    assert [one.text for one in sentences(text, 1)] == [text]


@pytest.mark.parametrize("text", [
    "We open at 9 a.m.| The shop closes at 5 p. m.| On Sundays we rest.",
    "Bake it for 30 min.| Let it cool.| Use bulbs of 60 W max.| Never more.",
    "Brot, Mehl usw.| Es sind 5.| Die Kosten sind klein.| Wir haben Sa. 5 Brote.",
    "There are 3.| They are in the U.S.| We are closed Sun.| Take option b.| Then go.",
])  # fmt: skip
def test_a_sentence_ends_at_some_abbreviations_before_a_capital(text: str) -> None:
    assert [one.text for one in sentences(text.replace("|", ""), 1)] == text.split("| ")


@pytest.mark.parametrize(
    ("line", "fact"),
    [
        ("- Bulb: E27, max. 60 W", ("Bulb", "E27, max. 60 W")),
        ("- Hours: Mon.-Fri. 9 a.m. - 5 p.m.", ("Hours", "Mon.-Fri. 9 a.m. - 5 p.m.")),
        ("- Contact: Ali Demir, Tel. 0341 555 210", ("Contact", "Ali Demir, Tel. 0341 555 210")),
        ("- Rest: On Monday. Also at night. Never in May.", ("Rest", "On Monday. Also at night. Never in May.")),
        ("Rest\n: On Monday. At night. Never in May.", ("Rest", "On Monday. At night. Never in May.")),
        ("- Rest: The mill rests at night. Read more: https://a.b", ("Rest", "The mill rests at night.")),
        ("- Rest: The mill rests at night. Why is that?", ("Rest", "The mill rests at night.")),
    ],
)
def test_rule_d_takes_all_of_a_short_line(line: str, fact: tuple[str, str]) -> None:
    assert [(subject, value) for _, subject, value, _ in found(f"# Mill\n\n{line}\n", "D")] == [fact]


def test_what_may_go_wrong_is_the_condition_of_what_stands_behind_it() -> None:
    source = (
        "# Lamp\n\n- **It flickers.** The bulb is loose. Turn it to the right until it stops.\n"
        "- *The motor doesn't start.* Check the fuse in the plug.\n"
        "- __I can't open it.__ Call the miller at the mill.\n"
    )
    assert found(source, "HDSB") == [
        ("condition", "if it flickers", "The bulb is loose. Turn it to the right until it stops.", 3),
        ("condition", "if the motor doesn't start", "Check the fuse in the plug.", 4),
        ("condition", "if I can't open it", "Call the miller at the mill.", 5),
    ]
    said = [fact for fact in facts_of(source, "a.md", frozenset("P"))]
    assert {fact.kind for fact in said} == {"It flickers", "The motor doesn't start", "I can't open it"}
    assert [fact.path for fact in said] == [("Lamp", fact.kind) for fact in said]
    of_troubles = "## Faults\n\n**The motor doesn't start.** Check the fuse in the plug.\n"
    assert ("condition", "if the motor doesn't start", "Check the fuse in the plug.", 3) in found(of_troubles, "H")
    assert found(of_troubles, "DSB") == []


def test_what_a_paragraph_begins_with_in_bold_is_told_with_what_stands_behind_it() -> None:
    source = "Rules of the house.\n\n**No smoking in any of our rooms.** Please use the terrace of the house.\n"
    whole = "No smoking in any of our rooms. Please use the terrace of the house."
    assert found(source, "H") == [("lead", "No smoking in any of our rooms.", whole, 3)]
    said = "Use the terrace of the house."
    assert ("said", said, said, 3) in found(source, "P")


@pytest.mark.parametrize(
    "text", ["Note", "See also", "if the daemon", "daemons", "v1.2.3", "Each run", "a; b", "What is it?"]
)
def test_what_is_no_subject(text: str) -> None:
    assert not is_subject(text)


@pytest.mark.parametrize("text", [
    "This is about the thing above.", "Do the following things now:", "Too short.", "| a | b | c | d | e |",
    "See https://example.com/page for more of it.", "== ++ -- ** // %% && ||",
])  # fmt: skip
def test_what_is_no_sentence(text: str) -> None:
    assert not is_sentence(text)


@pytest.mark.parametrize("text, purpose", [
    ("Submitting a run", "submit a run"), ("Pausing and resuming a run", "pause and resume a run"),
    ("Blocking and allowlisting", ""), ("How to stop a worker", "stop a worker"), ("Delete one run",
    "delete one run"),
    ("Test prompts of a run", ""), ("Release of the lease", ""), ("Daemons you want to start at boot", ""),
    ("Running", ""), ("Changes", ""), ("Training guides", ""), ("Logging", ""),
    ("Logging the levels", "log the levels"),
    ("To solve this you must first log in", ""),
])  # fmt: skip
def test_only_what_one_does_is_a_purpose(text: str, purpose: str) -> None:
    assert as_purpose(text) == purpose


def test_navigation_and_generated_files_teach_nothing() -> None:
    assert facts_of("## What's next?\n\nThe next page is a page about workers.\n", "a.md") == []
    assert facts_of("<!-- @generated -->\n\nThe broker is a queue of messages.\n", "a.md") == []


def test_a_sentence_counts_once_however_often_it_stands() -> None:
    source = "The broker is a queue of messages.\n\nThe broker is a **queue** of messages!\n" * 20
    assert len(found(source, "S")) == 1


PIECES = st.sampled_from([
    "# Head", "## `--flag`", "### What is it?", "The lease ends after 60 seconds.", "`x` is a thing: it **does** much.",
    "- item one: the text of it", "  - deeper", "1. first", "> quote", "```sh", "```", "# comment of it",
    "tool run", "| a | b |",
    "|---|---|", "| `c` | d e f |", "Term", ": Its meaning is this.", "---", "+++", "title: x", 
    "To do it, run:", "", "",
    "    code here", "<div>", "</div>", "<!--", "-->", "::: tip", "!!! note", "[a]: http://x",
    "[a](b) ![c](d)", "Q: Why so?", "A: So.",
    "import a from 'b'", "{% tag %} text that goes on", "A note[^1] is here.", "[^1]: The note is a text.", "{/*",
    "*/}", "<Card title='The card'>", "## Head {#id .x}", "a {# b #} c", "{{< x >}}", "```{note}", "$a*b$ is math",
    "x = 1  # the number of it", "`y` defaults to `5`.", "\t- tab", "**Bold** - a dash here",
    "<table><tr><th>A<th>B", "<tr><td>c d<td>x y z<li>e f g<li>h i j", "</table>",
])  # fmt: skip
NOISE = st.text(alphabet="ab Z0`*_[]()<>|:-#!~.\\{}\t你。", max_size=30)


@settings(database=None, deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.one_of(PIECES, NOISE), max_size=25))
def test_every_fact_stands_in_its_file(lines: list[str]) -> None:
    for fact in facts_of("\n".join(lines), "a.md", ALL):
        assert 1 <= fact.line <= len(lines)
        if fact.rule != "F":
            after = iter("".join(filter(str.isalnum, "\n".join(lines[fact.line - 1 :]).lower())))
            assert all(sign in after for sign in filter(str.isalnum, fact.value.lower())), fact


REPEATED = [
    "> ", "- ", "1. ", "|", "```\n", "<div>\n", "<!-- \n", "abc\n", "- a\n", "a\n: b\n", "# a\n", "a\n=\n",
    "[", "*", "![", "[a](",
    "![a](b)", "_a", "**a ", "`a", "``a`", "<a b=\"", "&a;", "!!! note\n    ", "[a]: b \"\n", "[[a|b]]", "a. ",
    "{", "<Foo\n", " ", "\\",
    "- **a**: b\n", "Q: a\nA: b\n", "```sh\n# a\nb\n```\n", "```toml\na = 1 # b\n```\n", "To a b, c. ", "中文。",
    "\0", "\r", "(a", "<table>\n", "<table><tr><th>a<th>b\n", "<table><tr><th>a<th>b<tr><td>c<td>d</table>\n\n",
    "<table <!-- ", "<table>\n<td <!-- ",
]  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("piece", REPEATED)
def test_time_grows_with_the_text_whatever_is_repeated(piece: str) -> None:
    def seconds(size: int) -> float:
        source = piece * (size // len(piece))
        start = time.process_time()
        facts_of(source, "a.md")
        return time.process_time() - start

    # of several tries: another process may take the processor; quadratic would be 64 times in each
    ratios = (seconds(160_000) / max(0.0125, seconds(20_000)) for _ in range(5))
    assert any(ratio < 24 for ratio in ratios)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("It blinks ~~red~~ green. ~~It has two lamps.~~ End", "It blinks green. End"),
        (
            "The fee is <del>20</del> 25, <s>the [old](a.md) `one`</s> now <strike>**2**</strike> 3",
            "The fee is 25, now 3",
        ),
        (
            "10<sup>6</sup> and 10^-3^ and 5 m^2^, the 1<sup>st</sup>, 2<sup>a*b</sup>",
            "10⁶ and 10⁻³ and 5 m², the 1st, 2^a*b",
        ),
        ("H<sub>2</sub>O, CO~2~, ~5 or ~10", "H2O, CO2, ~5 or ~10"),
        (
            "==Never== open ==the valve==; a==b, c == d, x==1 and y==2",
            "Never open the valve; a==b, c == d, x==1 and y==2",
        ),
        ("Press ++ctrl+alt+del++, C++ and i++ + a++b", "Press Ctrl+Alt+Del, C++ and i++ + a++b"),
        ("[Start](a.md){ .button .big } and ![x](y.png){ #id } end", "Start and end"),
        ("`~~a~~ ==b== 10^6^ {{ c }}`", "`~~a~~ ==b== 10^6^ {{ c }}`"),
    ],
)
def test_what_is_struck_out_is_not_said_and_no_mark_is(source: str, said: str) -> None:
    assert inline(source).flat == said


def test_the_title_of_a_callout_is_no_part_of_its_sentence() -> None:
    for title in ("> [!tip] Steam", "> [!note]- Steam", '!!! note "Steam"\n'):
        indent = "    " if title[0] == "!" else "> "
        text = f"# Oven\n\n{title}\n{indent}Put a tray with 200 ml of water into the oven.\n"
        assert "Put a tray with 200 ml of water into the oven." in {fact.sentence for fact in facts_of(text, "a.md")}
    text = "# Oven\n\n> [!NOTE] The oven holds two trays.\n"
    assert "The oven holds two trays." in {fact.sentence for fact in facts_of(text, "a.md")}


@pytest.mark.parametrize(
    ("file", "stem"),
    [
        ("a/Vendors c1b2c3d4e5f60718293a4b5c6d7e8f90.csv", "Vendors"),
        ("Vendors c1b2c3d4e5f60718293a4b5c6d7e8f90_all.csv", "Vendors"),
        ("Team-Wiki-3f2a9b1c-4d5e-6f70-8192-a3b4c5d6e7f8.md", "Team-Wiki"),
        ("Parental-Leave_1245201.html", "Parental-Leave"),
        ("c1b2c3d4e5f60718293a4b5c6d7e8f90.md", "c1b2c3d4e5f60718293a4b5c6d7e8f90"),
        ("log_20250203.txt", "log_20250203"),
        ("pump-1245201.md", "pump-1245201"),
        ("_1245201.md", "_1245201"),
        ("v1.2.md", "v1.2"),
        (".env", ".env"),
        ("a/README", "README"),
    ],
)
def test_a_file_is_called_without_the_id_of_an_export(file: str, stem: str) -> None:
    assert stem_of(file) == stem


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("See [[Rye#Baking]], [[#Top|the top]], [[X#^b1]] and [[Y]]", "See Rye > Baking, the top, X and Y"),
        ("The oven ![[oven.png]] is ![[Note#Part]] hot. ^water", "The oven is hot."),
        (":smile: It opens at 10:30:00 :material-clock:{ .lg } today", "It opens at 10:30:00 today"),
        ("a :ref:`b`, :doc:`c <d/e>`, std::map and a:b:c", "a `b`, c, std::map and a:b:c"),
        ("nested ![a [b](c) d](e) [x ![i](j) y](k) ![[a [b] c", "nested x y ![[a [b] c"),
    ],
)
def test_what_a_wiki_shows_is_said(source: str, said: str) -> None:
    assert inline(source).flat == said


def test_fields_of_notes_are_definitions() -> None:
    text = "# Bread\n\nTime:: 26 hours\nYield:: 2 loaves\n\n- Flour:: 1000 grams ^b\n- Salt:: 20 grams\n"
    facts = [(fact.attribute, fact.value) for fact in facts_of(text, "a.md", frozenset("D"))]
    assert facts == [("Time", "26 hours"), ("Yield", "2 loaves"), ("Flour", "1000 grams"), ("Salt", "20 grams")]


def test_a_time_or_a_date_is_no_number_to_blank() -> None:
    text = "# Shop\n\nThe shop opens at 10:30 on 12/03/2025 for the 70 guests of the house.\n"
    assert {fact.value for fact in facts_of(text, "a.md", frozenset("B"))} == {"70"}


FIGURES = [
    "87 kg", "20 g", "112", "1/2 tsp", "about 300 ml", "ca. 5 m", "€ 12.50", "EUR 3.20 per kg", "12,50 €", "20 kg.",
    "+49 30 1234567", "(030) 123 45 67", "8:30", "Mo-Fr 8-18 Uhr", "-20–60 °C", "10% (members)", "2024-03-12",
    "192.168.0.1", "100 km/h", "3 x 4 cm", "½ cup",
]  # fmt: skip
NO_FIGURES = [
    "", "a little", "see page 5", "48 65 6c 6c 6f", "1 2 3 4 5 6", "8f3a9c2d", "8273648273648723", "page 5 of 7",
    "3fa85f64-5717-4562-b3fc-2c963f66afa6", "5 of the cakes are without any sugar", "`8080`",
    "100% branch coverage", "ESRGAN 4x upscaling",
]  # fmt: skip


@pytest.mark.parametrize("text", FIGURES)
def test_a_figure_is_what_its_section_is_asked_for(text: str) -> None:
    for source in (f"# Pump\n\n- Weight: {text}\n", f"# Pump\n\nWeight: {text}\n", f"# Pump\n\n**Weight:** {text}\n"):
        assert facts_of(source, "a.md", frozenset("D")) == [
            Fact("Pump", "attribute", text, "", ("Pump",), "a.md", 3, "D", "Weight")
        ]


@pytest.mark.parametrize("text", NO_FIGURES)
def test_ids_dumps_and_sentences_are_no_figures(text: str) -> None:
    facts = facts_of(f"# Pump\n\n- Weight: {text}\n- Size: 5\n", "a.md", frozenset("D"))
    assert [fact.attribute for fact in facts if fact.relation == "attribute"] == ["Size"]


@pytest.mark.parametrize(
    "term", ["0000001f", "deadbeef", "a3b9c1d2e4", "12", "2024-01-02", "`port`", "Der Preis ist", "default", "type"]
)
def test_what_is_no_name_has_no_figure(term: str) -> None:
    assert facts_of(f"# Pump\n\n- {term}: 17\n", "a.md", frozenset("D")) == []


@pytest.mark.parametrize(
    ("headings", "subject"),
    [
        ("# Pump\n\n## Technical data", "Pump"),
        ("# Dough\n\n## Zutaten:", "Dough"),
        ("# Pumps\n\n## Pump 7", "Pump 7"),
        ("## Ingredients", "plum cake"),
        ("", "plum cake"),
    ],
)
def test_a_figure_is_that_of_the_thing_that_a_section_is_on(headings: str, subject: str) -> None:
    facts = facts_of(f"{headings}\n\n- Weight: 3 kg\n", "food/plum-cake.md", frozenset("D"))
    assert [fact.subject for fact in facts] == [subject]


def test_a_list_of_very_many_figures_is_data_and_that_is_told() -> None:
    lines = "".join(f"- Person {number // 26} {chr(97 + number % 26)}: {number}\n" for number in range(700))
    cuts: list[Cut] = []
    sections = Document(f"# Phones\n\n{lines}").sections()
    assert [fact for section in sections for fact in facts_in(section, "a.md", frozenset("D"), cuts)] == []
    assert {cut.what for cut in cuts} == {TOO_MANY} and sum(cut.count for cut in cuts) == 700


@pytest.mark.parametrize("header", ["", "#", "Name"])
def test_names_in_the_first_column_need_no_header(header: str) -> None:
    rows = "| Pump A | 87 kg | steel |\n| Pump B | 90 kg | brass |\n| 3 | 12 kg | tin |\n"
    source = f"# Pumps\n\n| {header} | Weight | Case |\n|---|---|---|\n{rows}"
    facts = [(fact.subject, fact.attribute, fact.value) for fact in facts_of(source, "a.md", frozenset("T"))]
    expected = [("Pump A", "Weight", "87 kg"), ("Pump A", "Case", "steel")]
    expected += [("Pump B", "Weight", "90 kg"), ("Pump B", "Case", "brass")]
    expected += [("Name 3", "Weight", "12 kg"), ("Name 3", "Case", "tin")] if header == "Name" else []
    assert facts == ([] if header == "#" else expected)


def test_a_column_that_counts_names_nothing() -> None:
    for header, cells in (("", "12"), ("#", "12"), ("Nr.", "  "), ("", "")):
        rows = f"| {cells[:1]} | Bremen | Weser |\n| {cells[1:]} | Passau | Inn |\n"
        source = f"| {header} | City | River |\n|---|---|---|\n{rows}"
        facts = [(fact.subject, fact.attribute, fact.value) for fact in facts_of(source, "a.md", frozenset("T"))]
        assert facts == [("Bremen", "River", "Weser"), ("Passau", "River", "Inn")]


def test_two_columns_without_a_header_are_what_the_section_has_or_terms() -> None:
    rows = "| Weight | 87 kg |\n| **Case:** | steel |\n| 17 | 18 |\n| it was sold | in 2020 |\n"
    data = f"# Pump X200\n\n## Technical data\n\n| | |\n|---|---|\n{rows}"
    facts = [(fact.subject, fact.attribute, fact.value) for fact in facts_of(data, "a.md", frozenset("T"))]
    assert facts == [("Pump X200", "Weight", "87 kg"), ("Pump X200", "Case", "steel")]
    terms = "| Lease | the time for which a worker holds a stage |\n| Run | all stages of one folder |\n"
    terms = f"# Terms\n\n| | |\n|---|---|\n{terms}"
    facts = [(fact.subject, fact.relation, fact.value) for fact in facts_of(terms, "a.md", frozenset("T"))]
    assert facts == [
        ("Lease", "meaning", "the time for which a worker holds a stage"),
        ("Run", "meaning", "all stages of one folder"),
    ]
    assert facts_of("| | | |\n|---|---|---|\n| 1 | 2 | 3 |\n| a | b | c |\n", "a.md", frozenset("T")) == []


@pytest.mark.parametrize("first", ["", "Model"])
def test_the_first_row_names_the_columns_where_words_stand_above_figures(first: str) -> None:
    rows = "| X200 | 87 kg | steel |\n| X300 | 99 kg | brass |\n"
    without, ruler = f"| {first} | Weight | Case |\n", "|---|---|---|\n"
    found = facts_of(f"| | | |\n{ruler}{without}{rows}", "a.md", frozenset("T"))
    assert [(fact.subject, fact.attribute, fact.value, fact.kind) for fact in found] == [
        ("X200", "Weight", "87 kg", first),
        ("X200", "Case", "steel", first),
        ("X300", "Weight", "99 kg", first),
        ("X300", "Case", "brass", first),
    ]
    assert facts_of(f"| | | |\n{ruler}| X100 | 7 kg | tin |\n{rows}", "a.md", frozenset("T")) == []


@pytest.mark.parametrize(
    "keys", [("first_name", "last_name"), ("firstName", "lastName"), ("Vorname", "Nachname"), ("given_name", "surname")]
)
def test_a_person_is_called_by_both_names_and_not_by_a_number(keys: tuple[str, str]) -> None:
    people = [("Anna", "Meier", 17), ("Anna", "Kern", 18), ("Bert", "Kern", 19)]
    records = [{"id": id, keys[0]: first, keys[1]: last, "room": id + 200} for first, last, id in people]
    expected = [
        (f"{first} {last}", name, value)
        for first, last, id in people
        for name, value in (("id", str(id)), ("room", str(id + 200)))
    ]
    cells = "".join(f"| {id} | {first} | {last} | {id + 200} |\n" for first, last, id in people)
    table = f"| id | {keys[0]} | {keys[1]} | room |\n|---|---|---|---|\n{cells}"
    lines = "".join(json.dumps(record) + "\n" for record in records)
    for facts in (
        facts_of_json(json.dumps(records), "staff.json"),
        facts_of_json(lines, "staff.jsonl"),
        facts_of_json(json.dumps({"staff": [{**records[0]}], "more": records[1:]}), "staff.json"),
        facts_of(table, "staff.md", frozenset("T")),
    ):
        assert [(fact.subject, fact.attribute, fact.value) for fact in facts] == expected


def test_people_of_the_same_name_are_told_apart_by_a_number() -> None:
    records = [{"id": id, "first_name": "Anna", "last_name": "Meier", "room": id + 200} for id in (17, 18)]
    assert {fact.subject for fact in facts_of_json(json.dumps(records), "staff.json")} == {"id 17", "id 18"}
    table = "| id | first_name | last_name |\n|---|---|---|\n| 17 | Anna | Meier |\n| 18 | Anna | Meier |\n"
    assert {fact.subject for fact in facts_of(table, "a.md", frozenset("T"))} == {"id 17", "id 18"}


LOGS = {
    "whatsapp": ("12.03.24, 10:15 - Anna: ", "12.03.24, 10:16 - Bert: "),
    "whatsapp on an iphone": ("\u200e[12.03.24, 10:15:20] Anna: ", "[12/03/24, 10:16:20 PM] Bert: "),
    "irc": ("[10:15] <anna> ", "[10:16] <@bert> "),
    "irc without brackets": ("10:15 <anna> ", "10:16:30 <bert> "),
    "a program": ("2024-03-12 10:15:00,123 INFO ", "2024-03-12T10:16:00 pump: "),
}


@pytest.mark.parametrize("name", LOGS)
def test_nothing_is_asked_of_a_chat_or_a_log_and_that_is_told(name: str) -> None:
    one, two = LOGS[name]
    said = f"{one}The pump is a machine that moves water.\n{two}Weight: 87 kg\nTo start it, press the green button.\n"
    cuts: list[Cut] = []
    sections = list(Document(f"# Cellar\n\n{said}").sections())
    assert [fact for section in sections for fact in facts_in(section, "a.md", ALL, cuts)] == []
    assert [(cut.what, cut.count) for cut in cuts] == [(SAID, 1)]
    assert sections[-1].texts[-1].rstrip() == said.rstrip()


@pytest.mark.parametrize(
    "source",
    [
        "12.03.2024: The pump is a machine that moves water.\n",
        "10 pumps are in the cellar.\nThe pump is a machine that moves water.\n",
        "[The pump](a.md) is a machine that moves water.\n[Valves](b.md) are parts that close it.\n",
        "2024 was a year.\n10:15 is a time. The pump is a machine that moves water.\n",
    ],
)
def test_a_text_that_begins_with_a_number_or_a_bracket_is_no_log(source: str) -> None:
    assert any("machine" in fact.sentence for fact in facts_of(f"# Cellar\n\n{source}", "a.md"))
