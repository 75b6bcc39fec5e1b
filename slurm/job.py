"""The work inside a job, and the end of its script.

submitit starts the process, and would handle SLURM's signal immediately, in the middle of a step. Therefore
the work replaces the handler. Before heavy imports there is nothing to save, and the process exits. Later,
the run's own handler makes the loop save at its next step. In both cases the process exits with code
`RESUME`, and the job's script requeues the job after all its processes have ended. The job then starts from
the same pickle, and resumes from the checkpoint in the run's folder. After a killed process, the job is also
requeued, a few times. SIGTERM may come from `scancel`, which needs no requeue, or from preemption, where
SLURM requeues the job itself: the work then saves and waits for the end.
"""

import os
import pickle
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

RESUME = 75  # exit code to be requeued: EX_TEMPFAIL of sysexits.h
DISK_FULL = 74  # exit code if nothing can be written, not even the error: EX_IOERR

# Runs after srun. $? is the greatest exit code of the processes; above 128, a process was killed. After
# scancel or SLURM's own requeue, the job is no longer RUNNING.
TEARDOWN = """code=$?
job=${{SLURM_ARRAY_JOB_ID:+${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}}}
job=${{job:-$SLURM_JOB_ID}}
killed={folder}/$job.killed
if [ $code -eq {resume} ] ||
    {{ [ $code -gt 128 ] && printf x >>"$killed" && [ "$(wc -c <"$killed")" -le {restarts} ]; }}; then
  [ "$(squeue -h -j "$job" -o %T)" != RUNNING ] || scontrol requeue "$job"
fi
exit $code"""


@dataclass
class Work:
    """The runs of one job: one per process, or one for all. Unpickled late, since they import torch."""

    pickled: list[bytes]
    shared: bool

    @classmethod
    def of(cls, calls: list[Callable[[], Any]], shared: bool = False) -> "Work":
        """Pickle the calls: one for each process of the job, or one that all processes share."""
        return cls([pickle.dumps(call) for call in calls], shared)

    def __call__(self) -> None:
        """Run this process's part. Raises SystemExit with `RESUME` to be requeued."""
        signal.signal(signal.SIGUSR2, lambda *_: os._exit(RESUME))
        rank = int(os.environ.get("SLURM_PROCID", 0))
        if self.shared:  # set the environment variables of torchrun
            from submitit.helpers import TorchDistributedEnvironment

            TorchDistributedEnvironment().export(set_cuda_visible_devices=False)
            rank = 0
        if rank < len(self.pickled):  # the last job may have fewer runs than processes
            pickle.loads(self.pickled[rank])()
