"""The samples of a shard on their way through a stage: what earlier stages left for each, cache key and outcome.

Samples that share a request are in one shard, so that no two jobs make its result.
"""

from collections.abc import Mapping, Sequence
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

    A shard is every n-th request, counted in the benchmark's order, with all samples that share it.

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
    asked_as = {sample.sample_id: requests.asked_as[sample.sample_id].sample_id for sample in work.bench.samples}
    part = set(stage.part(dict.fromkeys(asked_as.values()), shard))
    for sample in (s for s in work.bench.samples if asked_as[s.sample_id] in part):
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


def distinct(found: Sequence[Item]) -> list[Item]:
    """The first item of each key: what remains to be made of items that are made alike."""
    return list({item.key: item for item in reversed(found)}.values())[::-1]


def fail(found: Sequence[Item], reasons: Mapping[str, str]) -> None:
    """Mark all items whose key has a reason as failed."""
    for item in found:
        if item.status == "ok" and item.key in reasons:
            item.status, item.reason = "failed", reasons[item.key]


def failures(found: list[Item]) -> dict[str, str]:
    """Reason by sample_id of those that have failed."""
    return {item.sample.sample_id: item.reason for item in found if item.status == "failed"}
