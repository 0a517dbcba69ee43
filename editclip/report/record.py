"""Record the effective config of a run as YAML, for people and for the report.

    python -m editclip.report.record --config JSON --out results/<run>/config.yaml

It is what the run was, with every `like` resolved, every role bound and every option said. No job that computes has it
as input.
"""

from typing import Any

import yaml

from editclip import stage


def main() -> None:
    """Command line of the stage."""
    parser = stage.parser(__doc__)
    parser.add_argument("--config", type=stage.config_value, required=True, help="the whole config, resolved")
    arguments = parser.parse_args()
    facts: dict[str, Any] = {"module": "editclip.report.record", "force": arguments.force}
    with stage.output_file(arguments.out, config=None, inputs={}, **facts) as file:
        text = yaml.safe_dump(arguments.config, sort_keys=False, allow_unicode=True, width=120)
        file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    stage.run(main)
