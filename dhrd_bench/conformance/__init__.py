"""What every method must keep to, checked by running it on small tasks with a small backbone.

In a plug-in's own tests::

    import pytest
    from dhrd_bench.conformance import checks, verify

    @pytest.mark.parametrize("check", checks, ids=str)
    def test_my_method_conforms(check):
        verify("my-method", check)
"""

from dhrd_bench.conformance.checks import Check, checks
from dhrd_bench.conformance.running import CheckOutcome, run_checks, verify

__all__ = ["Check", "CheckOutcome", "checks", "run_checks", "verify"]
