"""Print what `make demo` made: a short table, where the files are, and how to look at the run in MLflow."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pipelines.evaluation.results import read_results

SHOWN = {"mean_dice": "Dice", "mean_absolute_volume_error_ml": "volume error"}


def score_table(run_dir: Path) -> Table:
    """Return the evaluation of ``run_dir`` in a row a score: value and 95% interval over patients."""
    content, cases = read_results(run_dir)
    table = Table(
        title=f"Phantom, {len(cases)} patients that did not train, but chose the best epoch",
        title_justify="left",
    )
    for heading in ("", "mean", "95% interval"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, heading in SHOWN.items():
        metric = content["metrics"][name]
        unit, digits = (f" {metric['unit']}", 1) if metric["unit"] else ("", 3)
        low, high = metric["ci95"]
        table.add_row(
            heading, f"{metric['value']:.{digits}f}{unit}", f"{low:.{digits}f} to {high:.{digits}f}{unit}"
        )
    return table


def main(run_dir: Path, prediction: Path, executables: str) -> None:
    """Print the summary of a run and of one predicted case."""
    result = json.loads((prediction / "result.json").read_text(encoding="utf-8"))["result"]
    review = "; ".join(result["review"]["reasons"]) or "no reason for one"
    console = Console(highlight=False, soft_wrap=True)
    console.print()
    console.print(score_table(run_dir))
    console.print(
        f"Predicted {prediction.name}: left atrium {result['left_atrium_volume_ml']:.1f} mL; review: {review}"
    )
    console.print(f"\nLook at          {prediction / 'overlay.png'}")
    console.print(f"The mask         {prediction / 'mask.nii.gz'}")
    console.print(f"The run          {run_dir} (figures, cases.csv, metrics.json, model.pt, log.txt)")
    console.print(
        f"Compare runs     {executables}/mlflow ui, then open the address that it prints; experiment 'demo'"
    )
    console.print('Real patients    README.md, "Real data"')


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
