"""From benchmark to service: a record's classifier as a folder that transformers loads.

Importing this makes ``AutoModelForSequenceClassification`` know `PooledClassifier`.
"""

from dhrd_bench.exporting.classifier import Answer as Answer
from dhrd_bench.exporting.classifier import Classifier as Classifier
from dhrd_bench.exporting.classifier import load as load
from dhrd_bench.exporting.model import PooledClassifier as PooledClassifier
from dhrd_bench.exporting.model import PooledConfig as PooledConfig
