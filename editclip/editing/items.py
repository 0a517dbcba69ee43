"""The samples of a shard on their way through a stage: what earlier stages left for each, cache key and outcome."""

from collections.abc import Mapping
from dataclasses import dataclass

from editclip import stage
from editclip.data.bench import Sample
from editclip.editing import EditRequest
from editclip.editing.requests import Requests
from editclip.editing.stored import PLANNED, PREPARED, load_tensors
from editclip.editing.work import Row, Work

STEPS = {"prepare": "preparation", "plan": "plan"}  # in reasons


@dataclass
class Item:
    """One sample.

    Attributes:
        sample: the sample.
        seed: number of the repetition; None to plan, which is done once for all of them.
        left: the rows of what earlier stages left for it, by stage.
        key: digest of all that decides the result.
        status: "ok" as long as nothing is known against it, "skipped" or "failed".
        reason: why it is skipped or has failed.
    """

    sample: Sample
    seed: int | None
    left: Mapping[str, Row]
    key: str
    status: str = "ok"
    reason: str = ""

    def request(self, requests: Requests) -> EditRequest:
        """What the method is asked."""
        prepared, planned = load_tensors(self.left.get("prepare")), load_tensors(self.left.get("plan"))
        return requests.request(self.sample, prepared, self.seed, planned)


def items(
    work: Work,
    requests: Requests,
    shard: tuple[int, int],
    seed: int | None,
    prepared: Mapping[str, Row],
    planned: Mapping[str, Row],
) -> list[Item]:
    """The samples of a shard; decided already where an input is missing or an earlier stage failed.

    Args:
        work: method and benchmark.
        requests: what the method is asked.
        shard: (k, n), the k-th of n, counted from 0.
        seed: number of the repetition; None to plan.
        prepared: rows by exemplar_id.
        planned: rows by sample_id.

    Raises:
        InputError: what a stage of the method's card should have left for a sample is not there.
    """
    stages, result = work.method.card.stages, []
    for sample in stage.part(work.bench.samples, shard):
        left: dict[str, Row] = {}
        if "prepare" in stages:
            left["prepare"] = PREPARED.row(prepared, requests.fed[sample.exemplar_id])
        if "plan" in stages and seed is not None:
            left["plan"] = PLANNED.row(planned, sample.sample_id)
        item = Item(sample, seed, left, requests.key(sample, [row["sha256"] for row in left.values()], seed))
        failed = [f"{STEPS[step]}: {row['reason']}" for step, row in left.items() if row["status"] == "failed"]
        if missing := requests.missing(sample):
            item.status, item.reason = "skipped", missing
        elif failed:
            item.status, item.reason = "failed", failed[0]
        result.append(item)
    return result


def failures(found: list[Item]) -> dict[str, str]:
    """Reason by sample_id of those that have failed."""
    return {item.sample.sample_id: item.reason for item in found if item.status == "failed"}
