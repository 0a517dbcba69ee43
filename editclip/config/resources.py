"""What jobs ask of a cluster; on one machine only the GPU counts, of which jobs take turns."""

from typing import Annotated

from pydantic import Field

from editclip.config.section import NUMERIC, Count, Section, Whole

Gigabytes = Annotated[float, Field(gt=0), NUMERIC]


class Request(Section):
    """What the jobs of one entry ask for in place of the section `resources`, key by key."""

    memory_gb: Gigabytes | None = None
    """memory of each job, in GB"""
    minutes: Count | None = None
    """time limit of each job"""
    gpus: Whole | None = None
    """GPUs of each job; 0 = it runs beside the job that has one"""


class TrainingRequest(Request):
    """What one training asks for. Several GPUs are given a process each, which share every batch."""

    processes: Count = 1
    """processes that share a training without a GPU, each with a core of its own"""


class Resources(Section):
    """What a job that trains, edits, times or scores asks for, unless its entry has `resources` of its own."""

    memory_gb: Gigabytes
    """memory of each job, in GB"""
    minutes: Count
    """time limit of each job"""
    gpus: Whole
    """GPUs of each job, where there are any"""

    def asked(self, request: Request | None) -> "Resources":
        """With what the entry says itself."""
        return self.model_copy(
            update=request.model_dump(include=set(Resources.model_fields), exclude_none=True) if request else {}
        )
