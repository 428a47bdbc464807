"""Which process of a distributed run this is, from the environment that its launcher set; imports nothing."""

import os


def global_rank() -> int:
    """0 for the process that writes; torchrun and SLURM say it, Lightning's children know their local rank."""
    for name in ("RANK", "SLURM_PROCID"):
        if name in os.environ:
            return int(os.environ[name])
    return int(os.environ.get("LOCAL_RANK", "0")) or int(os.environ.get("NODE_RANK", "0"))


def shared_name() -> str | None:
    """What the launcher calls a job that it started several processes of; None without such a launcher.

    Raises:
        LookupError: the launcher gave its processes no common name.
    """
    if int(os.environ.get("SLURM_NTASKS", "1")) > 1:
        return f"job-{os.environ['SLURM_JOB_ID']}"
    if "RANK" not in os.environ:
        return None
    name = os.environ.get("TORCHELASTIC_RUN_ID", "none")
    if name == "none":
        raise LookupError("the launcher gave its processes no common name")
    return f"job-{name}"
