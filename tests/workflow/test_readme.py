"""The README's Python snippets run as they stand, on the smoke run's weights and pictures."""

import re

import pytest
from PIL import Image
from workflow_project import ROOT, Project

SNIPPETS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda text: text.splitlines()[0])
def test_snippet_runs(smoke: Project, snippet: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(smoke.folder)
    weights = "results/smoke/weights"
    for published, ours in (("EditCLIP-IP2P", "editclip_ip2p"), ("EditCLIP", "editclip"), ("instruct-pix2pix", "ip2p")):
        snippet = snippet.replace(f'"{published}"', f'"{weights}/{ours}"')
    frames = sorted((smoke.folder / "results" / "smoke" / "bench" / "frames").glob("*.png"))
    before, after, query = (Image.open(path).convert("RGB") for path in frames[:3])
    names = {"before": before, "after": after, "query": query}
    exec(compile(snippet.replace("results/micro", "results/smoke"), "README.md", "exec"), names)
    if "metric" in names:
        assert -1 <= float(names["metric"].compute()) <= 1
    else:
        assert [image.size for image in names["images"]] == [query.size]
