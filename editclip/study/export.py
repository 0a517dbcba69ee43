"""What a crowd needs of a study: the images under names that tell nothing, the page of one item, and how to publish it.

The page is a template of Amazon Mechanical Turk: `${…}` stands for the column of that name in the CSV file that one
uploads with it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from editclip.editing.work import place
from editclip.storage import file_digest
from editclip.study.sheet import SECONDS, VOTE_COLUMNS

WAGE = 15  # USD an hour (ours)

PAGE = """\
<!-- One item of a study: a template for Amazon Mechanical Turk; hit.md says how to publish it. -->
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<script src="https://assets.crowd.aws/crowd-html-elements.js"></script>
<style>
  .task { max-width: 820px; margin: 0 auto; padding: 0 16px 24px; color: #1f2430;
          font: 16px/1.45 "Inter", "Helvetica Neue", Arial, "DejaVu Sans", sans-serif; }
  .task h1 { font-size: 21px; margin: 18px 0 4px; }
  .task p { margin: 4px 0 14px; color: #4b5563; }
  .task figure { margin: 0; }
  .task figcaption { font-size: 14px; color: #4b5563; padding: 4px 0 0; }
  .task img { display: block; width: 100%; aspect-ratio: 1; border-radius: 6px; background: #eceef2; }
  .told, .results { display: flex; gap: 16px; align-items: flex-end; }
  .told { background: #f4f6f9; border-radius: 8px; padding: 14px; margin-bottom: 18px; }
  .told figure { flex: 0 1 170px; }
  .told .arrow { flex: 0 0 auto; align-self: center; font-size: 26px; color: #6b7280; }
  .told .query { margin-left: auto; }
  .told .instruction { flex: 1 1 auto; align-self: center; font-size: 20px; }
  .results { margin-bottom: 10px; }
  .results figure { flex: 1 1 0; }
  .results figcaption { font-weight: 600; font-size: 16px; color: #1f2430; text-align: center; }
  .task fieldset { border: 0; border-top: 1px solid #d8dde5; margin: 0; padding: 12px 0; }
  .task legend { float: left; width: 100%; font-weight: 600; padding: 0 0 8px; }
  .task .choices { clear: both; display: flex; gap: 16px; }
  .task label { flex: 1 1 0; display: flex; justify-content: center; align-items: center; gap: 8px; cursor: pointer;
                border: 1.5px solid #b9c2cf; border-radius: 8px; padding: 10px; }
  .task label:hover { background: #f4f6f9; }
  .task label:focus-within { outline: 3px solid #9cc4ea; }
  .task label:has(:checked) { border-color: #1d5a94; background: #e8f1fa; font-weight: 600; }
  @media (max-width: 520px) { .told { flex-wrap: wrap; } .told figure { flex-basis: 40%; }
                              .told .query { margin-left: 0; } }
</style>
<crowd-form answer-format="flatten-objects">
  <main class="task">
    <h1>Which edit is better?</h1>
{%- if shows == "exemplar" %}
    <p>The example shows a picture before and after an edit. Two programs have made the same edit to another picture.
      Compare their results.</p>
    <section class="told">
      <figure><img src="${exemplar_before}" alt="The example before the edit">
        <figcaption>Example: before</figcaption></figure>
      <span class="arrow" aria-hidden="true">→</span>
      <figure><img src="${exemplar_after}" alt="The example after the edit">
        <figcaption>Example: after</figcaption></figure>
      <figure class="query"><img src="${query_image}" alt="The picture to edit">
        <figcaption>Picture to edit</figcaption></figure>
    </section>
{%- else %}
    <p>Two programs were told to make this edit to the picture. Compare their results.</p>
    <section class="told">
      <div class="instruction">“${instruction}”</div>
      <figure class="query"><img src="${query_image}" alt="The picture to edit">
        <figcaption>Picture to edit</figcaption></figure>
    </section>
{%- endif %}
    <section class="results">
      <figure><img src="${left_image}" alt="The left result">
        <figcaption>Left</figcaption></figure>
      <figure><img src="${right_image}" alt="The right result">
        <figcaption>Right</figcaption></figure>
    </section>
{%- for name, text in questions.items() %}
    <fieldset>
      <legend>{{ loop.index }}. {{ text }}</legend>
      <div class="choices">
        <label><input type="radio" name="{{ name }}" value="left" required> Left</label>
        <label><input type="radio" name="{{ name }}" value="right" required> Right</label>
      </div>
    </fieldset>
{%- endfor %}
    <p>If both seem alike, choose the one that you lean to.</p>
  </main>
</crowd-form>
"""

GUIDE = """\
# How to publish the study {{ study }}

{{ items }} items ({{ pairs }} pairs and {{ trials }} catch trials), {{ votes }} raters for each, two questions on one
page. Everything lies in this folder: `study.csv` has one row an item, `images/` the pictures, `hit.html` is the page.
Neither the page nor the pictures' names tell which method made what; `study.csv` does, so it stays with you.

## What the votes can find

{{ power }}

## The rules, which stand before the first vote

{{ rules }}

Whoever works is paid, left out or not.

## Amazon Mechanical Turk

1. Put `images/` where browsers can read it, and write the CSV file that the page is filled from:

   ```python
   import pandas as pd

   ADDRESS = "https://YOUR-SERVER/{{ study }}/"  # where images/ lies
   COLUMNS = {{ columns }}
   sheet = pd.read_csv("study.csv", dtype=str, keep_default_na=False)[COLUMNS]
   pictures = [name for name in COLUMNS if name not in ("item_id", "instruction")]
   sheet[pictures] = ADDRESS + sheet[pictures]
   sheet.to_csv("turk.csv", index=False)
   ```

2. Make a project with `hit.html` as its design layout. Assignments per HIT: {{ votes }}. Worker requirement: the
   **Masters** qualification, as in the paper (appendix F). Reward: for {{ seconds }} seconds an item, the mean time of
   the paper's raters; at {{ wage }} USD an hour (ours) that is {{ reward }} USD. All {{ assignments }} assignments are
   {{ hours }} hours of work and {{ cost }} USD before Amazon's fees. The paper's raters judged 89 comparisons each, on
   average.
3. Publish one item in the requester sandbox first, answer it, and look at the columns of the result.
4. Upload `turk.csv` as a batch. Download its results as `results.csv` when they are in.

## From the results to votes.csv

`votes.csv` has one row a rater, item and question, with the columns {{ vote_columns }}.
`left` and `right` are the methods as `study.csv` has them, `choice` is left or right, `seconds` the time for the item,
`submitted_at` the moment in ISO 8601 with its time zone. Workers' names are personal data and stay out of it.

```python
import pandas as pd
from dateutil import parser

ZONES = {"PST": -8 * 3600, "PDT": -7 * 3600}  # in which Mechanical Turk writes times
sheet = pd.read_csv("study.csv", dtype=str, keep_default_na=False).set_index("item_id")
results = pd.read_csv("results.csv", dtype=str, keep_default_na=False)
votes = []
for rater, row in zip(pd.factorize(results["WorkerId"])[0], results.to_dict("records"), strict=True):
    item = sheet.loc[row["Input.item_id"]]
    for question in {{ names }}:
        votes.append({
            "item_id": row["Input.item_id"],
            "rater": f"rater-{rater + 1}",
            "question": question,
            "left": item["left"],
            "right": item["right"],
            "choice": "left" if row[f"Answer.{question}.left"].lower() == "true" else "right",
            "seconds": row["WorkTimeInSeconds"],
            "submitted_at": parser.parse(row["SubmitTime"], tzinfos=ZONES).isoformat(),
        })
pd.DataFrame(votes).to_csv("votes.csv", index=False)
```

Name the file in the config and run the workflow, which checks every row and makes the judgements:

```yaml
studies:
  {{ study }}:
    origin: {source: path, path: my/votes.csv}
```
"""


def export(files: Sequence[Path], study: Mapping[str, Any], folder: Path) -> dict[Path, str]:
    """Write images/, hit.html and hit.md into a study's folder.

    Args:
        files: the images shown.
        study: what study.json says.
        folder: the study's.

    Returns:
        The place of every image, relative to the folder; equal images share one.
    """
    (folder / "images").mkdir()
    places = {}
    for file in files:
        places[file] = f"images/{file_digest(file)[:24]}{file.suffix.lower()}"
        if not (folder / places[file]).exists():
            place(file, folder / places[file])
    (folder / "hit.html").write_text(page(study), encoding="utf-8")
    (folder / "hit.md").write_text(guide(study), encoding="utf-8")
    return places


def page(study: Mapping[str, Any]) -> str:
    """The page of one item, with `${…}` for the columns of the sheet."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    return environment.from_string(PAGE).render(study)


def shown_columns(study: Mapping[str, Any]) -> list[str]:
    """The columns of the sheet that the page is filled from, and the item's name."""
    told = ["exemplar_before", "exemplar_after"] if study["shows"] == "exemplar" else ["instruction"]
    return ["item_id", *told, "query_image", "left_image", "right_image"]


def guide(study: Mapping[str, Any]) -> str:
    """How to publish the study, in Markdown."""
    reward = SECONDS * WAGE / 3600
    assignments = study["items"] * study["votes"]
    kinds = {kind: sum(c["items"] for c in study["counts"] if c["kind"] == kind) for kind in ("pair", "catch")}
    facts = {
        "pairs": kinds["pair"],
        "trials": kinds["catch"],
        "power": _power(study["power"]),
        "rules": _rules(study["design"]),
        "columns": repr(shown_columns(study)).replace("'", '"'),
        "names": repr(tuple(study["questions"])).replace("'", '"'),
        "vote_columns": ", ".join(f"`{name}`" for name in VOTE_COLUMNS),
        "seconds": SECONDS,
        "assignments": assignments,
        "wage": WAGE,
        "reward": f"{reward:.2f}",
        "hours": f"{assignments * SECONDS / 3600:.1f}",
        "cost": f"{assignments * reward:.0f}",
    }
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    return environment.from_string(GUIDE).render({**study, **facts})


def _power(power: Mapping[str, Any]) -> str:
    """The power calculation as a Markdown table, with what it assumes."""
    lines = [
        "| first | second | votes a question | independent votes | votes that are alike | after Holm | items |",
        "|---|---|---|---|---|---|---|",
    ]
    for pair in power["pairs"]:
        rates = (pair[key] for key in ("win_rate", "win_rate_clustered", "win_rate_holm", "majorities"))
        cells = [f"{rate:.1%}" if rate is not None else "none" for rate in rates]
        lines.append(f"| {pair['first']} | {pair['second']} | {pair['votes']} | {' | '.join(cells)} |")
    lines += [
        "",
        f"Win rates from these on (or from as far below 50 % on) are found with {power['power']:.0%} power at "
        f"{power['level']:.0%}, by an exact binomial test, two-sided. Votes that are alike: those on one edit type (or "
        f"on one query, of a single type) correlate at {power['intraclass_correlation']} (ours). After Holm: at the "
        "level of the first step of its adjustment over all pairs and questions. Items: the share of items with a "
        "majority for the one method that a sign test of the items finds.",
    ]
    return "\n".join(lines)


def _rules(design: Mapping[str, Any]) -> str:
    """Whose votes are left out, as a Markdown list."""
    exclude, rules = design["exclude"], []
    if design["catch"] and exclude["catch_right"]:
        rules.append(
            f"who gets less than {exclude['catch_right']:.0%} of their catch trials right, on the first question"
        )
    if exclude["median_seconds"]:
        rules.append(f"whose median time for an item is below {exclude['median_seconds']:g} seconds")
    if not rules:
        return "Nobody's votes are left out."
    return "Left out are all votes of those\n\n" + "\n".join(f"- {rule}" for rule in rules)
