"""Machines that share no network and no folder: packets to a server vanish, one after another and all at once."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import drill, drill_verdict, network
from benchmarks.drill_cuts import CUTS
from ftq.files.run_dir import STAGES
from ftq.store.records import Run
from tests.cluster import Cluster, cluster
from tests.tools import Bench, gone, until

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]
LEASE, STEPS = 15.0, 400  # seconds that a busy machine may stand still for; 20 s, longer than that
MINUTES = 300.0
ALL = tuple(network.SERVERS)


class Site:
    """A cluster with a client on the machine `here`."""

    def __init__(self, parts: Cluster) -> None:
        self.parts = parts
        self.here: Bench = parts.machine("here", Bench, user="client")
        self.store = self.here.client.store

    def worker(self, name: str) -> Bench:
        machine: Bench = self.parts.machine(name, Bench)
        machine.start_worker(name=f"{name}1")
        return machine

    def run(self, name: str) -> Run:
        return self.here.client.find(name)

    def kinds(self, name: str) -> list[tuple[str | None, str]]:
        return [(event.stage, event.kind) for event in self.store.events(self.run(name).id)]

    def wait_for(self, *names: str) -> None:
        until(lambda: all(self.run(name).is_finished for name in names), MINUTES)
        assert {name: self.run(name).status for name in names} == dict.fromkeys(names, "succeeded")

    def journal(self, name: str) -> list[dict[str, object]]:
        lines = map(json.loads, self.parts.journal.read_text().splitlines())
        return [line for line in lines if line["run"] == self.run(name).id]

    def succeeded_once(self, name: str) -> bool:
        return Counter(kind for kind in self.kinds(name) if kind[1] == "succeeded") == Counter(
            (stage, "succeeded") for stage in STAGES
        )

    def ftq(self, *arguments: str, machine: str = "here") -> subprocess.CompletedProcess[str]:
        """`ftq` on a machine, which sees nothing of the others' folders."""
        one = self.parts.machines[machine]
        command = [*one.prefix, str(Path(sys.executable).with_name("ftq")), *arguments]
        return subprocess.run(command, env=one.environment, capture_output=True, text=True, timeout=MINUTES)


@pytest.fixture(scope="module", autouse=True)
def machines() -> None:
    """Skip where no such machines can be made, and say why."""
    if why_not := network.why_not():
        pytest.skip(why_not)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with cluster(tmp_path, LEASE) as parts:
        yield Site(parts)


def test_eight_runs_on_two_machines_that_share_no_network(site: Site) -> None:
    names = [f"run{number}" for number in range(8)]
    for machine in ("a", "b"):
        site.worker(machine)
    until(lambda: len(site.store.live_workers()) == 2)
    for name in names:
        site.here.submit(name)
    site.wait_for(*names)
    started = Counter(
        (name, line["stage"]) for name in names for line in site.journal(name) if line["event"] == "start"
    )
    assert started == Counter((name, stage) for name in names for stage in STAGES)
    assert all(site.succeeded_once(name) for name in names)
    assert {str(stage.worker).split("@")[0] for name in names for stage in site.run(name).stages} == {"a1", "b1"}
    homes = [site.parts.machines[name].settings.home for name in ("a", "b")]
    for name in names:  # each machine has what it needed, and the client what it asks for
        assert any((home / site.run(name).id).exists() for home in homes)
    folder = site.here.settings.home.parent / "pulled"
    pulled = site.ftq("pull", "run3", "--to", str(folder))
    assert [file.name for file in folder.rglob("*.gguf")] == ["model-q4_k_m.gguf"], pulled


@pytest.mark.parametrize("servers", [*((one,) for one in ALL), ALL], ids=lambda servers: "+".join(servers))
def test_a_machine_that_is_cut_off_longer_than_the_lease(site: Site, servers: tuple[str, ...]) -> None:
    """Nothing is lost, nothing is published twice, the run ends; and the machine works again afterwards."""
    site.here.submit("one", max_steps=STEPS, save_steps=10)
    a = site.worker("a")
    until(lambda: ("train", "checkpoint") in site.kinds("one"))
    stage = a.stage_pid(site.run("one"))
    site.parts.cut("a", *servers)
    b = site.worker("b")
    if servers == ("bucket",):
        until(lambda: ("train", "waiting") in site.kinds("one"), MINUTES)
        until(lambda: gone(stage or 0))
        site.parts.join("a", *servers)
    site.wait_for("one")
    assert gone(stage or 0)  # also where the machine can't hear that its lease is lost
    assert site.succeeded_once("one")
    again = site.run("one").stage("train").attempt > 1
    assert again == ("database" in servers)  # without it the lease ends, and only then
    first = [line["step"] for line in site.journal("one") if line["event"] == "step" and line["attempt"] == 1]
    assert again or first == list(range(1, STEPS + 1))
    pulled = site.here.client.models.pull(site.here.client.models.model("one"), site.parts.folder / "pulled")
    adapter = json.loads((site.parts.folder / "pulled" / pulled.files[0][0]).read_bytes()[4:])
    assert adapter["steps"] == list(range(1, STEPS + 1))
    b.close()
    if servers != ("bucket",):
        site.parts.join("a", *servers)
    site.here.submit("two")
    site.wait_for("two")
    assert {str(one.worker).split("@")[0] for one in site.run("two").stages} == {"a1"}


def test_a_machine_that_loses_its_power_while_it_holds_its_stage(site: Site) -> None:
    """The database never hears that it is gone, and it held a lock."""
    run = site.here.submit("one")
    machine = site.parts.machine("a")
    hold = (
        "import sys, time; from ftq.settings import Settings; from ftq.store.store import RunStore\n"
        "store = RunStore(Settings.from_env().database_url)\n"
        f"token = store.claim('{run.id}', 'prepare', 1, 'a1', {LEASE})\n"
        f"with store.hold(token, {LEASE}, own_folder=True):\n"
        "    print('held', flush=True)\n"
        "    time.sleep(9999)\n"
    )
    command = [*machine.prefix, sys.executable, "-c", hold]
    with subprocess.Popen(command, env=machine.environment, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout and holder.stdout.readline() == "held\n"
        site.parts.cut("a", *ALL)
        holder.kill()
    site.worker("b")
    site.wait_for("one")
    assert site.run("one").stage("prepare").attempt == 2


@pytest.mark.parametrize("server", ALL)
def test_a_person_whose_machine_is_cut_off_is_told_so(site: Site, server: str) -> None:
    folder = site.parts.everybodys / "here" / "texts"
    folder.mkdir()
    (folder / "a.md").write_text("# A\n\nText.\n" * 20)
    site.parts.cut("here", server)
    submitted = site.ftq("submit", "--model", "smollm2-135m", "--documents", str(folder), "--name", "one")
    doctor = site.ftq("doctor")
    site.parts.join("here", server)
    if server == "broker":  # recorded; a worker sends it
        assert submitted.returncode == 0
        site.worker("a")
        site.wait_for("one")
    else:
        assert submitted.returncode == 1 and network.SERVERS[server] in submitted.stderr
        assert site.here.client.all() == []
    assert doctor.returncode == 1 and re.search(rf"^{server} +✗ problem", doctor.stdout, re.MULTILINE), doctor.stdout


def test_a_short_drill_on_machines_that_share_nothing(tmp_path: Path) -> None:
    kinds = ["cut off from all three", "machine without power for a while", "answers of the database vanish"]
    assert set(kinds) <= set(CUTS)
    with drill.make(tmp_path / "artifacts", seed=1, apart=True) as drilled:
        drill.inject(drilled, len(kinds), kinds, pause=0.5)
        drilled.finish()
        verdict = drill_verdict.judge(drilled)
        assert (verdict.lost, verdict.twice) == ([], []), drill_verdict.table(drilled, verdict)
