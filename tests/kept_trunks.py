"""The trunks of LPIPS, which `make test` fetches once, for tests with a cache of their own."""

from pathlib import Path

from editclip.metrics.lpips_trunks import trunk_folder
from editclip.provenance import ROOT

TRUNKS = ROOT / trunk_folder().parent  # asked before a test sets a cache of its own


def link_trunks(cache: Path) -> Path:
    """Link the trunks into a test's cache; what is fetched there then stays for other tests."""
    for folder in (TRUNKS, cache):
        folder.mkdir(parents=True, exist_ok=True)
    (cache / TRUNKS.name).symlink_to(TRUNKS)
    return cache
