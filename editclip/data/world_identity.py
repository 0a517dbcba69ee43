"""Which world this is: the digest of what the procedural world makes.

It follows pixels and texts, not code: a world that is written differently and draws the same is the same one.
"""

import random

from editclip.provenance import code_digest
from editclip.storage import atomic_file, cache_root, digest

DRAWS = 200  # pairs that make the digest


def world_digest(resolution: int) -> str:
    """SHA-256 of the pixels, captions and instructions of `DRAWS` fixed draws at this side length in pixels.

    Kept in the cache for as long as the world's code stays as it is.
    """
    from editclip.data.world_edits import programs  # here, since the workflow reads this module at every call
    from editclip.data.world_pairs import draw_pair

    kept = cache_root() / "digests" / f"world-{resolution}-{code_digest(__name__)}"
    if kept.is_file():
        return kept.read_text(encoding="ascii")
    edits = [edit for family in programs().values() for edit in family]
    parts = []
    for number in range(DRAWS):
        rng = random.Random(f"world-{number}")
        pair = draw_pair(rng, rng.choice(edits), "train", resolution, unseen=False)
        parts.append((pair.digests, pair.before.caption, pair.after.caption, pair.edit.id, pair.edit.wordings))
    value = digest(parts)
    if cache_root().is_dir():
        with atomic_file(kept) as temporary:
            temporary.write_text(value, encoding="ascii")
    return value
