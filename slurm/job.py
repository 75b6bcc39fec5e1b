"""What runs inside a job, and what its script does when it ends.

submitit starts the process and would answer SLURM's signal itself, at once and in the midst of a step.
So the work takes the signal over: before anything heavy is loaded there is nothing to save, and the
process ends; after that the work's own handler asks the loop to save at its next step. Either way the
process ends with the code `RESUME`, and the job's script, when all its processes have ended, puts the job
back into the queue. There it starts from the same pickle, and the run's folder says where to go on. A
process that was killed is put back, too, a few times. An order to end (SIGTERM) may come from `scancel`,
where nothing has to be put back, or from a preempting SLURM that sends no other signal and puts the job
back by itself: so the work saves and waits for the end.
"""

import os
import pickle
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

RESUME = 75  # the exit code of what wants to go on: EX_TEMPFAIL of sysexits.h
DISK_FULL = 74  # of what cannot write, not even why: EX_IOERR

# Runs after srun: $? is the greatest exit code of the processes, above 128 that of one that was killed. A job
# that ends by scancel or by SLURM's own requeue is not RUNNING any more.
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
    """The runs of one job, a process each, or one for all of them; unpickled late, for they load torch."""

    pickled: list[bytes]
    shared: bool

    @classmethod
    def of(cls, calls: list[Callable[[], Any]], shared: bool = False) -> "Work":
        """Pack the calls, one for each process of the job, or the one that they share."""
        return cls([pickle.dumps(call) for call in calls], shared)

    def __call__(self) -> None:
        """Do this process's part. Raises: SystemExit with `RESUME` to be put back into the queue."""
        signal.signal(signal.SIGUSR2, lambda *_: os._exit(RESUME))
        rank = int(os.environ.get("SLURM_PROCID", 0))
        if self.shared:  # tell it where the others are, as torchrun does
            from submitit.helpers import TorchDistributedEnvironment

            TorchDistributedEnvironment().export(set_cuda_visible_devices=False)
            rank = 0
        if rank < len(self.pickled):  # the last job of packed runs may have fewer than it has processes
            pickle.loads(self.pickled[rank])()
