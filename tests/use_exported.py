"""What a user's own program does with exported folders: `python use_exported.py FOLDER...`, texts on standard input.

The first folders are loaded without this project; the ones behind "--" need its class.
"""

from __future__ import annotations

import json
import sys

from transformers import logging as transformers_logging
from transformers import pipeline

transformers_logging.set_verbosity_error()
texts: dict[str, list[str]] = json.load(sys.stdin)
answers = {}
for folder in sys.argv[1:]:
    if folder == "--":
        assert not any(name.startswith("dhrd_bench") for name in sys.modules)
        import dhrd_bench.exporting  # noqa: F401 - it registers its class
    else:
        classify = pipeline("text-classification", folder, top_k=None)
        found = classify(texts[folder], batch_size=16)
        answers[folder] = [{each["label"]: each["score"] for each in scores} for scores in found]
json.dump(answers, sys.stdout)
