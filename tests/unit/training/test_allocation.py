"""What is freed in a step stays, without a page fault in the next one."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

CODE = """
import resource, torch
from polytask.training.allocation import keep_freed_memory
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        parts = [torch.empty(1 << 20).fill_(1.0) for _ in range(8)]
        del parts
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
before, is_kept = faults(), keep_freed_memory()
faults()
print(is_kept, before, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only the GNU C library is told")
def test_pages_are_not_given_back_between_steps():
    def said(**environment):
        run = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True,
                             env={"PYTHONPATH": ":".join(sys.path), **environment})  # fmt: skip
        return run.stdout.split()

    is_kept, before, after = said()
    assert is_kept == "True"
    assert int(after) < int(before) / 10
    assert said(MALLOC_ARENA_MAX="2")[0] == "False"
