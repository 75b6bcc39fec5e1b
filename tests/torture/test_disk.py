"""A disk that is full, read-only, slow or broken, and many processes at one folder, also with NFS's lag."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from trees import tree

HERE = Path(__file__).parent
FAULTS = {
    "full": "a full disk, from a random write on",
    "readonly": "a read-only disk, from a random write on",
    "broken": "write errors in the middle of a file",
    "slow": "a slow disk: 20 ms for each write",
    "crowd": "16 processes at four runs, one results folder and one cache",
    "crowd, lag": "the same, with new names seen 1.5 s late by others, as on NFS",
}


@pytest.fixture(scope="module")
def shim(tmp_path_factory) -> Path:
    if sys.platform != "linux" or not shutil.which("gcc"):
        pytest.skip("needs Linux and gcc")
    library = tmp_path_factory.mktemp("shim") / "shim.so"
    flags = ("-shared", "-fPIC", "-O1", "-Wall", "-Werror")
    subprocess.run(["gcc", *flags, "-o", library, HERE / "shim.c", "-ldl"], check=True)
    return library


SEEN_ANEW = """
import os, sys
from pathlib import Path
from transferbench.datasets.files.lock import locked

path = Path(sys.argv[1])
if os.fork() == 0:
    path.with_name("draft").touch()
    path.with_name("draft").rename(path)
    os._exit(0)
os.wait()
print(path.exists())
with locked(path):
    print(path.exists())
"""


def test_what_another_has_made_is_seen_once_its_lock_is_had(shim, tmp_path):
    (tmp_path / "x.lock").touch()  # a killed process has left it, so that taking it changes no folder
    env = {
        **os.environ,
        "LD_PRELOAD": str(shim),
        "FAULT_BELOW": str(tmp_path),
        "FAULT_TABLE": str(tmp_path / "table"),
        "FAULT_LAG_MS": "600000",
    }
    (tmp_path / "table").write_bytes(bytes(1 << 20))
    command = [sys.executable, "-c", SEEN_ANEW, str(tmp_path / "x")]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert (done.stdout.split(), done.stderr) == (["False", "True"], "")


def test_faulty_disks_and_crowds(shim, tmp_path, tally):
    times = {
        case: tally.times(case == "crowd, lag", 2) if "crowd" in case else tally.times(1, 8)
        for case in FAULTS
    }
    times = {case: n for case, n in times.items() if n and not tally.has(FAULTS[case], "fine-tuning")}
    if not times:
        pytest.skip("tried by an earlier call")
    tree(tmp_path / "place" / "pets", train=8, val=4, test=4)
    tree(tmp_path / "place" / "photos", ("a", "b", "c"), train=8, val=4)
    for name in ("below", "tmp"):
        (tmp_path / name).mkdir()
    (tmp_path / "table").write_bytes(bytes(1 << 20))
    env = {
        **os.environ,
        "LD_PRELOAD": str(shim),
        "FAULT_BELOW": str(tmp_path / "below"),
        "FAULT_SWITCH": str(tmp_path / "lever"),
        "FAULT_TABLE": str(tmp_path / "table"),
        "TMPDIR": str(tmp_path / "tmp"),
        "PYTHONPATH": os.pathsep.join((str(HERE), str(HERE.parent))),
    }
    command = [sys.executable, str(HERE / "shimmed.py"), str(tmp_path / "place"), json.dumps(times)]
    with subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as done:
        assert done.stdout
        failed = []
        for line in done.stdout:  # as they come, so that a stopped call keeps them
            seen = json.loads(line)
            try:
                tally.note(FAULTS[seen.pop("case")], "fine-tuning", **seen)
            except AssertionError as error:
                failed.append(str(error))
        assert done.stderr
        words = done.stderr.read()
    assert not failed, f"{failed}\n{words}"
    assert done.returncode == 0, words
