"""jobs/train.sbatch in a private Slurm: a job that time limits cut into lives ends with the
bytes of a run that nothing disturbed, and it comes back to the queue only when it should."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
from datetime import datetime, timedelta
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
MPIEXEC, FEDIT = sys.argv.pop(), sys.argv.pop()
SKIPPED = 77
NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol")
NODES = 2
BUDGET = 210  # seconds; below the limit of CTest, so that the cluster is stopped in any case
GRID = 30  # seconds between the controller's looks at time limits
SIGNAL_BEFORE = 10  # seconds before its end at which a job asks for USR1

SETTINGS = f"""
data = {ROOT}/data/instructions.jsonl
prompt-template = {ROOT}/data/templates/plain.json
num-clients = 10
partition = dirichlet
client-fraction = 0.4
rounds = 6
batch-size = 16
cutoff-len = 256
lora-r = 8
learning-rate = 0.003
seed = 1
threads = 1
dtype = fp32
"""


def skip_reason():
    if os.geteuid() != 0:
        return "a private Slurm needs root"
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    missing = [name for name in NEEDED if shutil.which(name, path=path) is None]
    return f"not installed: {', '.join(missing)} (packages slurm-wlm, munge)" if missing else None


def run(*command, limit=60, **options):
    """Runs a command to its end and returns what it printed; fails with its messages."""
    done = subprocess.run(
        [str(word) for word in command],
        stdin=subprocess.DEVNULL,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=limit,
        **options,
    )
    if done.returncode != 0:
        raise AssertionError(f"{command} ended with {done.returncode}:\n{done.stdout}")
    return done.stdout


def wait_for(what, condition, limit):
    deadline = time.monotonic() + limit
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {limit} s for {what}")
        time.sleep(0.1)
    return value


def free_ports(count):
    """The first of `count` neighbouring ports that nobody listens on."""
    for first in range(26817, 32000, 10):
        try:
            for port in range(first, first + count):
                with socket.socket() as probe:
                    probe.bind(("", port))
            return first
        except OSError:
            continue
    raise AssertionError("no free ports")


class Cluster:
    """A Slurm of two nodes below a short folder of its own. stop() deletes it, and leaves what the
    daemons and the jobs said in the current folder."""

    def __init__(self):
        self.folder = Path(
            tempfile.mkdtemp(prefix="fedit-slurm-", dir="/tmp")
        )  # sockets: a short name
        self.jobs = self.folder / "jobs"
        self.slurm = self.folder / "slurm"
        self.jobs.mkdir()
        run(HERE / "slurm_start.sh", self.slurm, NODES, free_ports(1 + NODES))
        self.started = time.monotonic()
        self.environment = dict(
            os.environ,
            SLURM_CONF=str(self.slurm / "slurm.conf"),
            FEDIT=FEDIT,
            OMPI_MCA_btl="self,vader,tcp",
            OMPI_MCA_btl_tcp_if_include="lo",
        )

    def command(self, *words, **variables):
        return run(*words, limit=20, cwd=self.jobs, env=self.environment | variables)

    def submit(self, *arguments, **variables):
        """Submits jobs/train.sbatch, one rank a node, and returns the job's number."""
        return self.command(
            "sbatch",
            "--parsable",
            f"--nodes={NODES}",
            "--ntasks-per-node=1",
            "--cpus-per-task=1",
            "--time=5",
            f"--signal=USR1@{SIGNAL_BEFORE}",
            ROOT / "jobs/train.sbatch",
            *arguments,
            **variables,
        ).strip()

    def job(self, number):
        """What the controller knows of a job: JobState, ExitCode, Restarts, EndTime, ..."""
        words = self.command("scontrol", "--oneliner", "show", "job", number).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def finish(self, number, limit):
        ended = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")

        def job_if_ended():
            job = self.job(number)
            return job if job["JobState"] in ended else None

        return wait_for(f"the end of job {number}:\n{self.printed(number)}", job_if_ended, limit)

    def printed(self, number):
        output = self.jobs / f"fedit-{number}.out"
        return output.read_text() if output.exists() else ""

    def next_look(self):
        """Seconds until the controller looks at time limits again."""
        return GRID - (time.monotonic() - self.started) % GRID

    def cut_short(self, number):
        """Lets the job's time run out such that USR1 comes at the controller's next look: less than
        SIGNAL_BEFORE + GRID seconds are left then, but enough that TERM does not come with it."""
        end = datetime.now() + timedelta(seconds=self.next_look() + GRID + SIGNAL_BEFORE / 2)
        self.command("scontrol", "update", f"JobId={number}", f"EndTime={end:%Y-%m-%dT%H:%M:%S}")

    def stop(self):
        run(HERE / "slurm_stop.sh", self.slurm)
        for said in (self.slurm / "log", self.jobs):
            shutil.rmtree(said.name, ignore_errors=True)
            shutil.copytree(said, said.name)
        shutil.rmtree(self.folder)


class TrainSbatch(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster()
        cls.addClassCleanup(cls.cluster.stop)
        cls.folder = cls.cluster.folder
        cls.model = cls.folder / "model"
        run(
            FEDIT,
            "init",
            "--model-config",
            ROOT / "data/tiny-llama/config.json",
            "--output",
            cls.model,
        )
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(ROOT / "data/tiny-llama" / name, cls.model)
        (cls.folder / "run.ini").write_text(SETTINGS)

    def train_options(self, output):
        return ["--config", self.folder / "run.ini", "--model", self.model, "--output", output]

    def pretender(self, name, code, last_life="failed", slower_rank=""):
        """A program that answers as fedit does before and after a run, and in between only ends
        with a code: rank 1 with rank 0, whatever Slurm sends to it, or long after rank 0, if it
        is left to; "heeds" and "ignores" say what such a slower rank makes of TERM."""
        program = self.folder / name
        if slower_rank:
            # By exec: TERM could reach a child alone first, and the shell would end with the code.
            trap = "trap '' TERM; " if slower_rank == "ignores" else ""
            end = f'[ "$SLURM_PROCID" = 0 ] || {{ {trap}exec sleep 15; }}; exit {code}'
        else:
            end = (
                f"trap '' TERM; : > {program}.$SLURM_RESTART_COUNT.$SLURM_PROCID; "
                f"until [ -e {program}.$SLURM_RESTART_COUNT.$((1 - SLURM_PROCID)) ]; "
                f"do sleep 0.1; done; exit {code}"
            )
        program.write_text(f"""#!/bin/sh
case "$*" in
  *--dump-config*) printf 'output = nowhere\\nrounds = 3\\n' ;;
  inspect*) printf 'newest_checkpoint  none\\nlast_life          {last_life}\\n' ;;
  *) {end} ;;
esac
""")
        program.chmod(0o755)
        return str(program)

    def test_lives_cut_by_time_limits_end_with_the_bytes_of_an_undisturbed_run(self):
        calm, cut = self.folder / "calm", self.folder / "cut"
        begin = time.monotonic()
        run(
            MPIEXEC,
            "--bind-to",
            "none",
            "-n",
            NODES,
            FEDIT,
            "train",
            *self.train_options(calm),
            limit=100,
        )
        needed = time.monotonic() - begin

        # The controller looks at limits every 30 s; the job must be in the middle of its work then.
        lead = min(8, needed / 2)
        wait_for("the time to submit", lambda: 0 < lead - self.cluster.next_look() < 0.5, GRID + 1)
        job = self.cluster.submit(*self.train_options(cut))
        wait_for("the run's first files", (cut / "run.h5").exists, 30)
        self.cluster.cut_short(job)
        end = self.cluster.finish(job, 110)

        said = self.cluster.printed(job)
        self.assertEqual((end["JobState"], end["ExitCode"]), ("COMPLETED", "0:0"), said)
        self.assertEqual(end["Restarts"], "1", said)
        self.assertIn("restart 1 of at most 20", said)
        self.assertEqual(
            said.count("train.sbatch: job "), 2, "each life adds to one file:\n" + said
        )
        adapters = [run_ / "adapter/adapter_model.safetensors" for run_ in (calm, cut)]
        self.assertEqual(*(adapter.read_bytes() for adapter in adapters), said)

    def test_failed_job_is_not_requeued(self):
        job = self.cluster.submit("--config", "absent.ini")
        end = self.cluster.finish(job, 20)
        self.assertEqual(
            (end["JobState"], end["ExitCode"], end["Restarts"]), ("FAILED", "2:0", "0")
        )
        self.assertIn("absent.ini", self.cluster.printed(job))

        job = self.cluster.submit(FEDIT=self.pretender("fails", 1))
        end = self.cluster.finish(job, 20)
        self.assertEqual(
            (end["JobState"], end["ExitCode"], end["Restarts"]), ("FAILED", "1:0", "0")
        )
        self.assertIn("failed with code 1; not requeued", self.cluster.printed(job))

    def test_restarts_have_a_cap(self):
        stops = self.pretender("stops", 75, last_life="stopped")
        job = self.cluster.submit(FEDIT=stops, FEDIT_MAX_RESTARTS="1")
        end = self.cluster.finish(job, 40)
        said = self.cluster.printed(job)
        self.assertEqual(
            (end["JobState"], end["ExitCode"], end["Restarts"]), ("FAILED", "75:0", "1"), said
        )
        self.assertIn("not done after 1 restarts (FEDIT_MAX_RESTARTS)", said)

    def test_a_stop_counts_although_slurm_ended_the_slower_rank(self):
        # Slurm's KILL may come right behind its TERM.
        killed = ("143:0", "137:0")
        for last_life, slower_rank, codes in (
            ("stopped", "heeds", ("75:0",)),
            ("stopped", "ignores", ("75:0",)),
            ("failed", "heeds", killed),
            ("failed", "ignores", killed[1:]),
        ):
            program = self.pretender(f"{last_life}-{slower_rank}", 75, last_life, slower_rank)
            job = self.cluster.submit(FEDIT=program, FEDIT_MAX_RESTARTS="0")
            end = self.cluster.finish(job, 20)
            said = self.cluster.printed(job)
            self.assertEqual(end["JobState"], "FAILED", said)
            self.assertIn(end["ExitCode"], codes, said)

    def test_success_without_a_finished_run_is_not_believed(self):
        job = self.cluster.submit(FEDIT=self.pretender("idles", 0), FEDIT_MAX_RESTARTS="0")
        end = self.cluster.finish(job, 20)
        self.assertEqual((end["JobState"], end["ExitCode"]), ("FAILED", "75:0"))
        self.assertIn("srun reports success, but the run is not done", self.cluster.printed(job))


def out_of_time(*_):
    raise TimeoutError(f"the test took more than {BUDGET} s")


if __name__ == "__main__":
    if reason := skip_reason():
        print(f"skipped: {reason}")
        sys.exit(SKIPPED)
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    os.environ.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    signal.signal(signal.SIGALRM, out_of_time)
    signal.alarm(BUDGET)
    unittest.main(verbosity=2)
