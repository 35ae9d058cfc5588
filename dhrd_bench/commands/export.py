"""The ``export`` command."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from dhrd_bench.progress import show_progress
from dhrd_bench.request import Options


def export_command(record: Path, output: Path, options: Options, console: Console, *, adapter: bool, onnx: bool) -> int:
    """Write the classifier of `record` into `output`, and say how near it is to the record."""
    from dhrd_bench.exporting.export import export

    with show_progress(console, 1, "classifiers") as display:
        display.begin(str(record))
        exported = export(record, output, options, display.step, adapter=adapter, onnx=onnx)
        display.end("loaded from the cache" if exported.found else "fitted")
    lines = [
        f"wrote {exported.folder} ({exported.kind}); its logits lie up to {exported.distance:.2g} from the method's",
        f"{exported.rows - exported.flips} of {exported.rows} test rows have the class that the record gives them",
    ]
    if exported.onnx is not None:
        lines.append(f"the ONNX graph's logits lie up to {exported.onnx:.2g} from torch's")
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    return 0
